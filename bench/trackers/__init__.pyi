from .base import Callback as Callback
from .base import reporting as reporting
from .metrics import NAMES as NAMES
from .metrics import tracker as tracker
