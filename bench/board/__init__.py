"""Runs -> a static leaderboard: figures of one benchmark in one table, ties where the images cannot tell, evidence."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
