"""Which purifier and sigma, found within a budget: candidates race, and the beaten ones are dropped."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
