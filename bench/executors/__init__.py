"""Executors: they run tasks in this process, in worker processes, or on a Ray cluster."""
