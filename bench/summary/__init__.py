"""From a run to tables."""
