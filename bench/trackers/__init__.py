"""Callbacks of a run, and adapters that send its progress and figures to experiment trackers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
