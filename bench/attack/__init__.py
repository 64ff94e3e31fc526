"""Try to break the certificates of a run, and find the smallest perturbation that changes a prediction."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
