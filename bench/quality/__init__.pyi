from .measurement import environment as environment
from .measurement import measure as measure
from .measurement import reference_of as reference_of
from .metrics import load_metrics as load_metrics
from .replay import chosen_images as chosen_images
