"""The contract of attacks as checks, for use in tests. Each takes an attack, and raises AssertionError."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bench.attack.base import Attack, Loss, onto_ball

_SHAPE = (3, 6, 6)  # of an image
_ROWS, _SIGMA = 5, 0.5
_ATTEMPTS = (0, 1, 2)  # from the images themselves, then from points on the balls


class _Plane:
    """A smoothed linear classifier of two classes, whose nearest adversarial images are known; see `Target`."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)
        normal = torch.randn(_SHAPE, generator=self._generator)
        self.normal = normal / normal.norm()
        self.clean = torch.rand(_ROWS, *_SHAPE, generator=self._generator)
        self.classes = torch.arange(_ROWS) % 2

    def gradient(self, x: Tensor, loss: Loss, draws: int) -> Tensor:
        leaf = x.detach().repeat(draws, 1, 1, 1).requires_grad_()
        noisy = leaf + _SIGMA * torch.randn(leaf.shape, generator=self._generator)
        with torch.enable_grad():
            (found,) = torch.autograd.grad(loss(self._logits(noisy), self.classes.repeat(draws)).sum(), leaf)
        return found.view(draws, *x.shape).mean(0)

    def margin(self, x: Tensor) -> Tensor:
        """How far each image lies within its class, `[B]`, an L2 distance from the plane."""
        return self._side(x) * (1 - 2 * self.classes)

    def _side(self, x: Tensor) -> Tensor:
        return ((x - 0.5) * self.normal).flatten(1).sum(1)

    def _logits(self, x: Tensor) -> Tensor:
        side = 4 * self._side(x)
        return torch.stack([side, -side], 1)


def _perturbed(attack: Attack, attempt: int, radius: float = 1.0) -> tuple[_Plane, Tensor, Tensor, Tensor]:
    """The target, the start, the radii and the result of one attempt."""
    target = _Plane()
    radii = torch.full((_ROWS,), radius, dtype=torch.float64)
    away = torch.randn(target.clean.shape, generator=torch.Generator().manual_seed(attempt))
    start = onto_ball(target.clean + 100 * away, target.clean, radii.float()) if attempt else target.clean.clone()
    return target, start, radii, attack.perturb(target, start, radii, attempt)


def keeps_shape_dtype_and_device(attack: Attack) -> None:
    for attempt in _ATTEMPTS:
        _, start, _, x = _perturbed(attack, attempt)
        assert (x.shape, x.dtype, x.device) == (start.shape, start.dtype, start.device), (x.shape, x.dtype, x.device)


def returns_finite_images_without_gradients(attack: Attack) -> None:
    for radius in (1e-6, 1.0, 100.0):
        x = _perturbed(attack, 0, radius)[3]
        assert bool(x.isfinite().all()) and not x.requires_grad


def leaves_its_input_as_it_is(attack: Attack) -> None:
    before = copy.deepcopy(attack)
    for attempt in _ATTEMPTS:
        fresh, start, radii, _ = _perturbed(attack, attempt)
        clean = _Plane().clean
        assert torch.equal(fresh.clean, clean), "it changes the clean images"
        assert attempt or torch.equal(start, clean), "it changes the images that it starts from"
        assert bool((radii == 1).all()), "it changes the radii"
    assert attack == before, "it changes its parameters"


def repeats_itself_and_leaves_global_generators_alone(attack: Attack) -> None:
    """A stored attack can be made again: randomness comes from a generator of its own, seeded by the attempt."""
    results = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global generator is what is checked
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            state = torch.get_rng_state()
            results.append(_perturbed(attack, 1)[3])
            assert torch.equal(torch.get_rng_state(), state), "it draws from torch's global generator, or seeds it"
    assert torch.equal(*results), "its images depend on global generators, on the time or on earlier calls"


def crosses_a_plane(attack: Attack) -> None:
    """From a linear classifier, the nearest other class is found: its images lie beyond the plane, in all attempts."""
    for attempt in _ATTEMPTS:
        target, _, _, _ = _perturbed(attack, attempt)
        radius = float(target.margin(target.clean).abs().max()) + 1.0
        target, start, radii, x = _perturbed(attack, attempt, radius)
        margin = target.margin(onto_ball(x, target.clean, radii.float()))
        assert bool((margin < target.margin(start)).all()), "an attempt does not lower the margin of the class"
        assert bool((margin < 0).all()), "an attempt does not leave the class, though its ball contains others"


ATTACK_CHECKS: tuple[Callable[[Attack], None], ...] = (
    keeps_shape_dtype_and_device,
    returns_finite_images_without_gradients,
    leaves_its_input_as_it_is,
    repeats_itself_and_leaves_global_generators_alone,
    crosses_a_plane,
)
