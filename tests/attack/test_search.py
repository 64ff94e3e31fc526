"""An attack reaches the exact radius of a linear classifier, breaks unsound certificates, and leaves sound ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import norm

from bench.api.memory import _MemoryLoader
from bench.attack import search as searching
from bench.attack.base import AttackError
from bench.attack.pgd import PGD
from bench.attack.search import Certified, Search, attack_images, distances, feasible
from bench.attack.target import CHECKPOINTED, EXACT, STRAIGHT_THROUGH, SmoothedClassifier
from bench.certify.bounds import certified_radius, clopper_pearson_lower
from bench.engine import Engine
from bench.engine.noise import is_quantised
from bench.records import Block, Cell, Task
from bench.testing import GaussianDenoiser
from purifiers.base import Purifier
from purifiers.consistency import Consistency
from purifiers.none import NoPurifier

SIGMA, SHAPE, DEVICE = 0.5, (1, 6, 6), torch.device("cpu")
SEARCH = Search(PGD(steps=8, draws=4), restarts=2, rounds=5, draws=300)


class Linear(torch.nn.Module):
    """Two classes, apart by a plane at distance `d` from each image: its smoothed radius is `d` exactly."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(36, generator=torch.Generator().manual_seed(0))
        self.weight = torch.nn.Parameter(weight / weight.norm())

    def forward(self, x):
        margin = (x.flatten(1) - 0.5) @ self.weight
        return torch.stack([margin, -margin], 1)


@dataclass(frozen=True)
class NeighbourMean(Purifier):
    """Unsound: the mean over ten neighbouring rows, so that the noise of one image averages out."""

    name = "neighbour-mean"
    bounded = False

    def purify(self, x, sigma, networks, rng):
        return torch.cat([part.mean(0, keepdim=True).expand_as(part) for part in x.split(10)])


@dataclass(frozen=True)
class CallCounter(Purifier):
    """Unsound: removes all noise in its first calls, those of the certificates."""

    name = "call-counter"
    bounded = False
    calls = [0]

    def purify(self, x, sigma, networks, rng):
        self.calls[0] += 1
        helped = self.calls[0] <= 9  # the engine's warm-up, and one call for each certificate
        return x.flatten(1).mean(1).view(-1, 1, 1, 1) + DIRECTION if helped else x


@dataclass(frozen=True)
class Detached(Purifier):
    """Sound, but without a gradient: an attack has to go straight through it."""

    name = "detached"
    bounded = False

    def purify(self, x, sigma, networks, rng):
        return x.detach().clone()


MODEL = Linear()
DIRECTION = MODEL.weight.detach().view(1, *SHAPE)
FARS = np.linspace(0.15, 0.9, 8)
CLEAN = (0.5 + torch.tensor(FARS).float().view(-1, 1, 1, 1) * DIRECTION).numpy()


def cell_of(purifier):
    return Cell(purifier.name, {}, "linear", {}, "in-memory", "", SIGMA, 0, "fp32", "cpu", {}, {"rows": 50})


def loader_of(purifier, classifier=MODEL):
    return _MemoryLoader(DEVICE, SHAPE, purifier, {"cm": GaussianDenoiser(), "classifier": classifier})


def engine_of(purifier, classifier=MODEL):
    return Engine(dict(enumerate(CLEAN)), {}, DEVICE, loader=loader_of(purifier, classifier))


def attacked(purifier, radii, classifier=MODEL, search=SEARCH):
    cell = cell_of(purifier)
    loaded, engine = loader_of(purifier, classifier).load(cell), engine_of(purifier, classifier)
    certified = [Certified(i, 0, 0, float(r)) for i, r in enumerate(radii)]
    return attack_images(cell, loaded, engine, CLEAN, certified, search, len(certified))


def certificates(purifier):
    """The radii by which 400 draws certify the images; unsound purifiers get too large ones."""
    cell, engine = cell_of(purifier), engine_of(purifier)
    counts = [engine.run(Task(cell, (Block(cell.key, i, "estimate", 0, 400),)))[0] for i in range(len(CLEAN))]
    bounds = [clopper_pearson_lower(c.votes[0], 400, 0.001) for c in counts]
    return np.array([max(certified_radius(bound, SIGMA), 1e-3) for bound in bounds])


def test_a_linear_classifier_is_attacked_at_its_exact_radius_and_no_true_certificate_breaks():
    found, method = attacked(NoPurifier(), 0.95 * FARS)
    assert method == EXACT
    assert not any(image.broken for image in found)
    assert all(image.distance <= image.radius for image in found)
    beyond = np.array([image.attacked for image in found], float) - FARS
    assert (beyond >= 0).all(), "an attack cannot succeed within the exact radius"
    # A share of 0.4 lies a quarter of a sigma beyond the plane; the search resolves as much again.
    assert np.median(beyond) < 0.4 * SIGMA and beyond.max() < 0.8 * SIGMA, beyond


def test_a_bound_computed_wrongly_is_broken():
    """The radius of twice the sigma: the prediction changes at half of it."""
    found, _ = attacked(NoPurifier(), 2 * FARS)
    strong = [image for image, far in zip(found, FARS, strict=True) if far > 0.3]
    assert all(image.broken and image.distance <= image.radius for image in strong)
    assert all(image.attacked < image.radius for image in strong)  # the search goes inwards from a broken radius


@pytest.mark.parametrize("deviant", [NeighbourMean(), CallCounter()], ids=lambda p: p.name)
def test_certificates_of_unsound_purifiers_are_broken_and_sound_ones_are_not(deviant):
    CallCounter.calls[0] = 0
    false = certificates(deviant)
    assert (false > FARS).sum() >= 4, "the deviant gained nothing"
    found, _ = attacked(deviant, false)
    broken = [image.broken for image in found]
    assert sum(broken) >= 3
    assert not any(b for b, radius, far in zip(broken, false, FARS, strict=True) if radius < far)
    sound, _ = attacked(NoPurifier(), certificates(NoPurifier()))
    assert not any(image.broken for image in sound)


def test_verdicts_use_draws_that_nothing_else_has_used(monkeypatch):
    used, run = [], Engine.run

    def recording(self, task):
        used.extend((b.image, b.first, b.first + b.draws) for b in task.blocks)
        return run(self, task)

    monkeypatch.setattr(Engine, "run", recording)
    attacked(NoPurifier(), 2 * FARS)
    for image in range(len(CLEAN)):
        spans = sorted((first, end) for i, first, end in used if i == image)
        assert spans and all(a[1] <= b[0] for a, b in pairwise(spans)), spans
        judged = [span for span in spans if span[0] < searching._ESTIMATING]
        assert judged and all(first >= searching._JUDGING for first, _ in judged)


def test_gradients_through_several_evaluations_are_exact():
    rows = torch.arange(len(CLEAN))

    def gradient(purifier, method):
        cell = cell_of(purifier)
        loaded = loader_of(purifier).load(cell)
        target = SmoothedClassifier(cell, loaded, torch.from_numpy(CLEAN), rows, torch.zeros_like(rows))
        assert target.method == CHECKPOINTED
        if method is not None:
            target._networks, target.method = loaded.networks, method
        return target.gradient(target.clean, lambda logits, classes: logits[:, 0] ** 2, 3)

    purifier = Consistency(steps=3)
    assert torch.allclose(gradient(purifier, None), gradient(purifier, EXACT), atol=1e-7)
    assert gradient(purifier, None).abs().max() > 1e-3


def test_an_attack_goes_straight_through_a_purifier_without_a_gradient():
    found, method = attacked(Detached(), 1.5 * FARS)
    assert method == STRAIGHT_THROUGH
    assert sum(image.broken for image in found) >= 4


def test_a_classifier_without_a_gradient_is_refused():
    with pytest.raises(AttackError, match="passes no gradient"):
        attacked(NoPurifier(), FARS, lambda x: MODEL(x).detach())


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("radius", [1e-6, 0.02, 0.5, 3.0])
def test_adversarial_images_lie_within_the_radius_in_float64(radius, discrete):
    generator = torch.Generator().manual_seed(1)
    clean = torch.rand(20, 1, 28, 28, generator=generator).mul(255).round().div(255)
    x = clean + torch.randn(clean.shape, generator=generator)
    radii = torch.full((20,), radius, dtype=torch.float64)
    result = feasible(clean, x, radii, discrete)
    away = distances(clean, result)
    assert (away <= radii).all() and (not discrete or is_quantised(result))
    if radius >= (0.5 if discrete else 0.02):
        assert (away > 0.8 * radius).all()


def test_the_smoothed_probability_at_the_exact_radius_is_one_half():
    """The check of the check: votes at the plane are even, beyond it they are Phi of the distance."""
    found, _ = attacked(NoPurifier(), 2 * FARS, search=Search(PGD(steps=10, draws=6), 1, 0, 2000))
    far = found[-1]
    expected = norm.cdf((FARS[-1] - far.distance) / SIGMA)
    assert far.hits / far.draws == pytest.approx(expected, abs=0.06)
