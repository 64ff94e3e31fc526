from .answer import RaceAnswer as RaceAnswer
from .answer import answer as answer
from .candidates import Limits as Limits
from .live import Budget as Budget
from .live import race_in as race_in
from .replay import Replay as Replay
from .replay import replay as replay
