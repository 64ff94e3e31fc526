"""How near purified images come to clean ones."""
