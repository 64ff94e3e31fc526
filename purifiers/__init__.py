"""Purifiers, one file per method. The harness discovers every file in this folder."""
