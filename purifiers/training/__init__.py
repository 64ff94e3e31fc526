"""Training of the bundled networks: one seeded loop, one loss per stage, recipes as data."""
