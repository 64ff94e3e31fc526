"""Purifiers: one file per method. Drop a file in and the harness finds it."""
