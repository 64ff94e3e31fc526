"""Decisions: recommend, compare, tables."""
