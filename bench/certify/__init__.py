"""Certification: from counts of votes to certificates."""
