"""Files of plugins as tests write them: the line of their one method is filled in."""

PURIFIER = """
from dataclasses import dataclass
import torch
from purifiers.base import Purifier

@dataclass(frozen=True)
class Broken(Purifier):
    name = "{name}"
    family = "other"
    source = "a test"
    {fields}

    def purify(self, x, sigma, networks, rng):
        {body}
"""

CLASSIFIER = """
from dataclasses import dataclass
import torch
from classifiers.base import Classifier

@dataclass(frozen=True)
class Broken(Classifier):
    name = "{name}"
    source = "a test"

    def load(self, device="cpu"):
        {body}
"""
