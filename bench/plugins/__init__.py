"""Find, fingerprint and trust plugins."""
