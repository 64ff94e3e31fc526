"""Draws to votes on one device."""
