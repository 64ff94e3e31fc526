from .base import ATTACK as ATTACK
from .base import Attack as Attack
from .base import Target as Target
from .campaign import attack_run as attack_run
from .campaign import choose as choose
from .search import Search as Search
from .search import attack_images as attack_images
