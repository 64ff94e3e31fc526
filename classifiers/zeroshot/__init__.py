"""Classifiers that need no training on the classes: they compare images with texts."""
