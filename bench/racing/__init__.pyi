from .candidates import MARGIN as MARGIN
from .candidates import Limits as Limits
from .replay import Replay as Replay
from .replay import replay as replay
