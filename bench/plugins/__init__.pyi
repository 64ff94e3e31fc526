from .fingerprint import plugin_hash as plugin_hash
from .fingerprint import plugin_modules as plugin_modules
from .registry import CLASSIFIER as CLASSIFIER
from .registry import PURIFIER as PURIFIER
from .registry import Kind as Kind
from .registry import discover as discover
