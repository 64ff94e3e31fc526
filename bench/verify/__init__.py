"""Check a finished run: its figures against its counts, and its counts by counting blocks again."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
