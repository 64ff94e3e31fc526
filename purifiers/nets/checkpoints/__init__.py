"""One reader for each published checkpoint format."""
