"""Training of the bundled networks: `zoo` schedules the stages, `stage` trains one, `checkpoint` lets it resume."""
