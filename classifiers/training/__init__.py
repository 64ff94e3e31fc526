"""How our own classifiers are made: one seeded loop, recipes as data."""
