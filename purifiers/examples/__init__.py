"""Purifiers that are examples: `bench list` omits them, and `--purifiers PATH` runs them."""
