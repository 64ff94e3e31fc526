from .summary import COUNTED as COUNTED
from .summary import Summary as Summary
from .summary import preset_at as preset_at
from .summary import run_names as run_names
from .summary import summarise as summarise
