from .site import write_board as write_board
from .submission import BoardError as BoardError
