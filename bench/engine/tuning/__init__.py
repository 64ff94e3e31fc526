"""Measure how the networks of a sweep compute fastest on a device, within a tolerance, and keep the measurements."""
