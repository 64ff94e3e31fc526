from .paths import Images as Images
from .paths import published_images as published_images
from .scores import Score as Score
from .scores import compete as compete
from .table import table as table
