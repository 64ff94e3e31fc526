"""Training of the bundled classifiers: one seeded loop, recipes as data."""
