"""Static costs: FLOPs and parameters of networks against their formulas, and what tells equal work from other work."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.api.memory import _MemoryLoader
from bench.engine.engine import Engine
from bench.engine.meter import weigh
from bench.plugins import registry as plugins
from bench.records import Cell, StaticCost
from purifiers.nets.denoisers import EDMDenoiser, VPDenoiser

CPU = torch.device("cpu")
SIDE, WIDE, TOKENS = 8, 16, 64


class Attending(nn.Module):
    """A convolution, attention over all pixels in the form of a choice, and a convolution back."""

    def __init__(self, packed: bool = False):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, WIDE, 3, padding=1), nn.Conv2d(WIDE, 3, 3, padding=1)
        self.attention = nn.MultiheadAttention(WIDE, 2, batch_first=True) if packed else None

    def forward(self, x, time):
        h = self.first(x).flatten(2).transpose(1, 2)
        if self.attention is None:
            h = nn.functional.scaled_dot_product_attention(h, h, h)
        else:
            h = self.attention(h, h, h, need_weights=False)[0]
        return self.last(h.transpose(1, 2).unflatten(2, (SIDE, SIDE)))


CONVOLUTIONS = 2 * 2 * 9 * 3 * WIDE * SIDE * SIDE
ATTENTION = 2 * 2 * TOKENS * TOKENS * WIDE
PROJECTIONS = 4 * 2 * TOKENS * WIDE * WIDE
CLASSIFIER = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 10))


def cost(purifier="onestep-edm", network=None, sigma=0.5, classifier=CLASSIFIER, compute=None, **parameters):
    """The static cost of one cell, or why it is not known."""
    method = plugins.create(plugins.PURIFIER, purifier, parameters)
    network = network or EDMDenoiser(Attending(), 0.002, 80.0)
    networks = dict.fromkeys(method.networks, network)
    loader = _MemoryLoader(CPU, (3, SIDE, SIDE), method, {**networks, "classifier": classifier})
    facts = ("cnn", {}, "memory", "", sigma, 0, "fp32", "cpu", {})
    cell = Cell(purifier, plugins.parameters(method), *facts, compute=compute or {"rows": 100})
    engine = Engine({3: torch.rand(3, SIDE, SIDE).numpy()}, {}, CPU, loader=loader)
    (found,) = engine.weigh([cell])
    assert not engine._loaded and not loader._denoisers  # a run's networks are loaded apart
    return found


@pytest.mark.parametrize("packed", [False, True])
def test_flops_and_parameters_follow_from_the_shapes(packed):
    found = cost(network=EDMDenoiser(Attending(packed), 0.002, 80.0))
    assert found.evaluation_flops == CONVOLUTIONS + ATTENTION + packed * PROJECTIONS
    assert found.parameters == (3 * 9 + 1) * WIDE + (WIDE * 9 + 1) * 3 + packed * 4 * WIDE * (WIDE + 1)
    assert (found.classifier_flops, found.classifier_parameters) == (2 * 192 * 10, 193 * 10)
    assert (found.evaluations, found.noise_numbers) == (1, 0)


def test_rows_and_compilation_of_a_cell_change_nothing():
    assert cost() == cost(compute={"rows": 7, "compile": "default", "channels_last": True})


def test_a_sampler_has_the_flops_of_one_evaluation_and_counts_its_noise():
    found = cost("edm-ancestral", steps=3)
    assert (found.evaluations, found.noise_numbers) == (3, 2 * 3 * SIDE * SIDE)
    assert found.evaluation_flops == cost().evaluation_flops
    voting = cost("densepure", network=VPDenoiser(Attending(), 1000), steps=2, votes=3)
    assert (voting.evaluations, voting.noise_numbers) == (6, 3 * 3 * SIDE * SIDE)


def test_equal_work_has_equal_operations_whatever_the_sigma_the_weights_and_the_preconditioning():
    one = cost().operations
    assert one == cost("consistency").operations == cost(sigma=0.25).operations
    assert one == cost("onestep-ddpm", network=VPDenoiser(Attending(), 1000)).operations


def test_other_samplers_and_other_networks_have_other_operations():
    evaluations = [
        cost("ddim", steps=3),
        cost("dpm-solver", steps=3),
        cost("edm-ancestral", steps=3),
        cost("pf-ode", steps=2, t_end=0.1),
    ]
    assert {found.evaluations for found in evaluations} == {3}
    assert len({found.operations for found in evaluations}) == 4

    class Activated(Attending):
        def forward(self, x, time):
            return super().forward(x, time).tanh()

    other = cost(network=EDMDenoiser(Activated(), 0.002, 80.0))
    assert other.evaluation_flops == cost().evaluation_flops and other.operations != cost().operations


def test_a_network_that_cannot_be_loaded_costs_an_unknown_number_and_no_other_cell():
    def load(cell):
        if cell.sigma > 0.6:
            raise OSError("no such weights\nand more")
        return loader.load(cell)

    method = plugins.create(plugins.PURIFIER, "none", {})
    loader = _MemoryLoader(CPU, (3, SIDE, SIDE), method, {"classifier": CLASSIFIER})
    cells = [Cell("none", {}, "cnn", {}, "memory", "", sigma, 0, "fp32", "cpu", {}) for sigma in (0.5, 1.0)]
    first, second = weigh(cells, load, torch.rand(3, SIDE, SIDE))
    assert isinstance(first, StaticCost) and first.evaluation_flops == 0
    assert second == "none: OSError: no such weights"


def test_the_settings_of_the_process_are_as_before():
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.math_sdp_enabled()
    cost()
    assert (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.math_sdp_enabled()) == before
