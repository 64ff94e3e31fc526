"""Find, download and describe networks."""
