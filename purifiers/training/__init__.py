"""How our own networks are made: one seeded loop, one loss per stage, recipes as data."""
