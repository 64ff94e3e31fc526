"""Classifiers: the same shape as purifiers. One file per source; drop a file in and the harness finds it."""
