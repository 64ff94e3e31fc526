"""Networks as denoisers: the only place that knows preconditioning, schedules and weight files."""
