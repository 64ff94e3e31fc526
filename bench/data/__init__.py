"""Data sets: images by index, as float32 in [0,1], in fixed splits train, val and test."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
