"""From a preset to a finished run."""
