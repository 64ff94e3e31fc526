"""Networks as torch modules."""
