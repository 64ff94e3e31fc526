"""PurifyBench: which diffusion purifier for this radius and this budget, and how sure are we?"""

__version__ = "0.1.0"
