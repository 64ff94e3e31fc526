from .base import Certifier as Certifier
from .base import Tally as Tally
from .bounds import largest_radius as largest_radius
from .fixed import FixedN as FixedN
from .rules import SEQUENTIAL as SEQUENTIAL
from .rules import of_sweep as of_sweep
from .sequential import Sequential as Sequential
