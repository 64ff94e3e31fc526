"""Classifiers, one file per source of models. The harness discovers every file in this folder."""
