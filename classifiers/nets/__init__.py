"""Architectures of our own classifiers."""
