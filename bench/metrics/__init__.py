"""Quality of purification: how far from the clean images purified ones lie, by whom that is judged."""
