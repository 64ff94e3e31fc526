"""Architectures of networks, as torch modules."""
