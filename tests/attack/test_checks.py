"""Each check of attacks passes for PGD, and fails for an attack that breaks its part of the contract."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from bench.attack import ATTACK_CHECKS, Attack
from bench.attack.pgd import PGD


def broken(perturb):
    """An attack with another way to perturb."""
    return dataclass(frozen=True)(type("Broken", (Attack,), {"name": "broken", "perturb": perturb}))()


def moved(target, start):
    return start - 3 * torch.sign(target.gradient(start, lambda logits, k: logits.gather(1, k[:, None])[:, 0], 4))


def changing(target, start):
    start += 1
    return moved(target, start)


FAILING = {  # check -> how an attack fails it
    "keeps_shape_dtype_and_device": lambda self, target, start, radii, attempt: moved(target, start).double(),
    "returns_finite_images_without_gradients": lambda self, target, start, radii, attempt: start / 0,
    "leaves_its_input_as_it_is": lambda self, target, start, radii, attempt: changing(target, start),
    "repeats_itself_and_leaves_global_generators_alone": lambda self, target, start, radii, attempt: (
        start + torch.randn(start.shape)
    ),
    "crosses_a_plane": lambda self, target, start, radii, attempt: start,
}


@pytest.mark.parametrize("check", ATTACK_CHECKS, ids=lambda check: check.__name__)
def test_pgd_passes_and_a_broken_attack_fails(check):
    check(PGD())
    with pytest.raises(AssertionError):
        check(broken(FAILING[check.__name__]))


def test_an_attack_that_keeps_the_contract_in_another_way_passes():
    attack = broken(lambda self, target, start, radii, attempt: moved(target, start))
    for check in ATTACK_CHECKS:
        check(attack)
