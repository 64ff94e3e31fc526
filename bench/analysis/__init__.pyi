from .best import best_sigmas as best_sigmas
from .changes import Change as Change
from .comparison import Comparison as Comparison
from .gains import gain_sentences as gain_sentences
from .gains import paired_gains as paired_gains
from .recommendation import Recommendation as Recommendation
from .recommendation import Standing as Standing
from .recommendation import recommend as recommend
