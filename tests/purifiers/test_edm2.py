"""EDM2 networks on pixels give NVIDIA's denoiser; `edm2.json` holds outputs of the code of NVlabs/edm2 (4bf8162).

Weights and images are standard normal numbers of `RandomState(0)`, in the order of the file's list of entries. Images
are scaled by `0.5 + sigma`. Labels are 1 and 4 of 5 classes.
"""

from __future__ import annotations

import json
from pathlib import Path

import foreign
import numpy as np
import pytest
import torch

from purifiers.nets import convert, load
from purifiers.nets.hub.cards import WeightsError

REFERENCE = json.loads(Path(__file__).with_name("edm2.json").read_text())
LABELS = torch.tensor([1, 4])


def drawn(name):
    """Arguments, state and two images of a reference network."""
    reference = REFERENCE[name]
    rng = np.random.RandomState(0)

    def tensor(shape):
        return torch.from_numpy(np.asarray(rng.standard_normal(tuple(shape)), dtype=np.float32))

    arguments = reference["arguments"]
    state = {entry: tensor(shape) for entry, shape in reference["state"].items()}
    size = arguments["img_resolution"]
    return arguments, state, tensor((2, arguments["img_channels"], size, size))


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A factory of pickles as EDM2 writes them: `(path, images)` of a reference network, with changed arguments."""
    foreign.edm_modules(monkeypatch)
    foreign.EXECUTED.clear()

    def write(name, changes=None, **arguments):
        own, state, x = drawn(name)
        path = tmp_path / f"{name}.pkl"
        return foreign.edm_pickle(path, {**state, **(changes or {})}, {**own, **arguments}, called="Precond"), x

    return write


@torch.no_grad()
@pytest.mark.parametrize("name", REFERENCE)
def test_a_pickle_gives_the_denoiser_of_nvidia_and_runs_nothing(checkpoint, name):
    path, x = checkpoint(name)
    network = load(path)
    labels = LABELS if network.classes else None
    for sigma, expected in zip(REFERENCE[name]["sigma"], REFERENCE[name]["denoised"], strict=True):
        found = network.denoise(x * (0.5 + sigma), sigma, labels)
        assert torch.allclose(found.flatten(), torch.tensor(expected), atol=1e-5), sigma
    assert (network.t_min, network.t_max) == (0.002, 80.0)
    assert foreign.EXECUTED == []


@torch.no_grad()
@pytest.mark.parametrize("name", REFERENCE)
def test_a_state_dict_beside_its_arguments_and_a_conversion_give_the_same(checkpoint, tmp_path, name):
    path, x = checkpoint(name)
    arguments, state, _ = drawn(name)
    beside = foreign.folder(tmp_path, state, {"constructor_kwargs": arguments})
    converted = convert(path, tmp_path / "converted.safetensors")
    labels = LABELS if arguments["label_dim"] else None
    expected = load(path, "edm2").denoise(x, 1.0, labels)
    for source in (beside, converted):
        assert torch.equal(load(source).denoise(x, 1.0, labels), expected)


@torch.no_grad()
def test_frequencies_stay_in_float32_when_the_network_computes_in_half_precision(checkpoint):
    path, x = checkpoint("conditional")
    expected = load(path).denoise(x, 0.5, LABELS)
    network = load(path).compute_in(torch.bfloat16)
    assert network.network.fourier.frequencies.dtype == torch.float32
    found = network.denoise(x, 0.5, LABELS)
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).abs().max()) < 0.1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"img_channels": 4}, "latent model .4 channels.*adds noise to pixels.*edm2-img64"),
        ({"resample_filter": [1, 3, 3, 1]}, "resample_filter"),
        ({"flavour": "x"}, "not supported: flavour"),
        ({"num_blocks": 2}, "it is of another architecture: it lacks enc.8x8_block1"),
        ({"model_channels": 32}, "another architecture: it has shapes"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_the_reason(checkpoint, arguments, said):
    with pytest.raises(WeightsError, match=said):
        load(checkpoint("conditional", **arguments)[0])


def test_an_unknown_entry_is_refused(checkpoint):
    path, _ = checkpoint("conditional", {"unet.dec.extra": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"unknown entries dec\.extra"):
        load(path)
