from .hub import export_hub as export_hub
from .site import write_board as write_board
from .submission import BoardError as BoardError
