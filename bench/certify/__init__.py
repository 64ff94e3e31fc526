"""Counts to certificates."""
