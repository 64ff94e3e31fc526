"""Write a working purifier or classifier to start from, and its test."""

from __future__ import annotations

import json
import keyword
import os
import re
from pathlib import Path

from bench.errors import PurifyBenchError
from bench.plugins.registry import CLASSIFIER, PURIFIER, Kind, discover

PURIFIER_FILE = '''"""{title}: the idea of the method, and why it works."""

from dataclasses import dataclass

from purifiers.base import Purifier, at_least


@dataclass(frozen=True)
class {class_name}(Purifier):
    """Average several denoised re-noisings of the image; replace this by your method.

    Parameters:
        draws: number of denoised images in the average.
    """

    name = "{name}"
    family = "other"
    source = "your paper"
    networks = ("edm",)

    draws: int = 2

    def __post_init__(self):
        at_least(1, draws=self.draws)

    def nfe(self):
        return self.draws

    def restore(self, u, t, networks, rng):
        denoise = networks["edm"]
        u0 = total = denoise(u, t)
        for _ in range(self.draws - 1):
            total = total + denoise(u0 + t * rng.normal(u0), t)
        return total / self.draws
'''

CLASSIFIER_FILE = '''"""{title}: the network and its training."""

from dataclasses import dataclass
from pathlib import Path

from classifiers.base import Classifier, ClassifierError


@dataclass(frozen=True)
class {class_name}(Classifier):
    """A linear function of the image's brightness at 7x7 points; replace the network by yours.

    Parameters:
        path: a safetensors file with the network's weights; without one they are random.
        classes: number of classes.
    """

    name = "{name}"
    source = "your paper"

    path: str = ""
    classes: int = 10

    def weights(self):
        return Path(self.path) if self.path else None

    def load(self, device="cpu"):
        import torch  # inside the function, so that `bench list` loads no torch
        from safetensors.torch import load_file
        from torch import nn

        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(49, self.classes))
        if self.path:
            try:
                network.load_state_dict(load_file(self.path))
            except (OSError, RuntimeError) as error:
                raise ClassifierError(f"{{self.path}} cannot be loaded: {{error}}") from error
        network = network.to(device).eval().requires_grad_(False)
        return lambda x: network(x.mean(1, keepdim=True))  # images [B,C,H,W] in [0,1] -> logits [B,classes]
'''

PURIFIER_TEST = '''"""{title} keeps the contract of purifiers."""

from pathlib import Path

import pytest

from bench.plugins.registry import PURIFIER, from_path
from bench.testing import PURIFIER_CHECKS

PLUGIN = Path(__file__).parent / {path}


@pytest.mark.parametrize("check", PURIFIER_CHECKS, ids=lambda check: check.__name__)
def test_{module}_conforms(check):
    check(from_path(PURIFIER, PLUGIN)())
'''

CLASSIFIER_TEST = '''"""{title} keeps the contract of classifiers."""

from pathlib import Path

import pytest

from bench.plugins.registry import CLASSIFIER, from_path
from bench.testing import CLASSIFIER_CHECKS

PLUGIN = Path(__file__).parent / {path}
SHAPE = (3, 32, 32)  # channels, height and width of the images


@pytest.mark.parametrize("check", CLASSIFIER_CHECKS, ids=lambda check: check.__name__)
def test_{module}_conforms(check):
    check(from_path(CLASSIFIER, PLUGIN)(), SHAPE)
'''


class ScaffoldError(PurifyBenchError):
    """The files cannot be written; the message names the reason and the remedy."""


def write_purifier(name: str, folder: Path, tests: Path) -> tuple[Path, Path]:
    """Write `folder/NAME.py` and `tests/test_NAME.py`; returns their paths.

    Raises:
        ScaffoldError: the name is invalid or taken, a file exists already, or a folder cannot be written.
    """
    return _write(PURIFIER, name, folder, tests, PURIFIER_FILE, PURIFIER_TEST)


def write_classifier(name: str, folder: Path, tests: Path) -> tuple[Path, Path]:
    """The same for a classifier; raises as `write_purifier`."""
    return _write(CLASSIFIER, name, folder, tests, CLASSIFIER_FILE, CLASSIFIER_TEST)


def _write(kind: Kind, name: str, folder: Path, tests: Path, plugin_text: str, test_text: str) -> tuple[Path, Path]:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ScaffoldError(
            f"{name!r} is no plugin name; use lower-case words joined by hyphens, such as my-{kind.name}"
        )
    if name in discover(kind):
        raise ScaffoldError(f"a {kind.name} {name!r} exists already; choose another name")
    module = name.replace("-", "_")
    plugin, test = folder / f"{module}.py", tests / f"test_{module}.py"
    if (folder / module).is_dir():
        raise ScaffoldError(f"{folder / module} is a folder, which hides {plugin}; choose another name")
    for path in (plugin, test):
        if path.exists():
            raise ScaffoldError(f"{path} exists already; move it away or choose another name")
        if not path.parent.is_dir():
            raise ScaffoldError(
                f"{path.parent} is not a folder; run this at the project's root, or give --folder and --tests"
            )
    words = {"name": name, "module": module, "title": name.replace("-", " ").capitalize()}
    class_name = "".join(word.capitalize() for word in name.split("-"))
    try:
        plugin.write_text(plugin_text.format(class_name=class_name, **words))
        test.write_text(test_text.format(path=json.dumps(os.path.relpath(plugin, tests)), **words))
    except OSError as error:
        raise ScaffoldError(f"{plugin} and {test} cannot be written ({error}); give --folder and --tests") from error
    return plugin, test
