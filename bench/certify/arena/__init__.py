"""The arena: our stopping rules and the field's, on the images of published logs (docs/certifiers.md)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
