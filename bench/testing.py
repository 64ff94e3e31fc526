"""The conformance suite: checks of the contracts of purifiers and classifiers, for use in tests.

It calls a plugin on one large batch, then on batches of 64, 6, 1, 64 and the other rows, in another order, with other
seeds of the global generators and with shifted clocks. `bench run` makes the same examination on the real networks
before it counts (`bench.engine.contracts`); docs/trust.md lists what each of them finds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bench.engine import CountedNetwork, RowRng
from bench.engine.contracts import Finding, Subject, examine, namespaces_of
from classifiers.base import Classifier
from purifiers.base import Purifier
from purifiers.nets.denoisers import SIGMA_DATA, karras_levels

_SIGMA = 0.5
_SHAPE = (6, 3, 8, 8)
_ROWS = torch.arange(_SHAPE[0])
_FULL = 500  # rows of the large batch, as many as a preset's batch
_FEWER = 200  # of images with more values than 3 x 64 x 64


class GaussianDenoiser:
    """The exact posterior mean for `u0 ~ N(0, sigma_data^2)`: `D(u, t) = u sd^2 / (sd^2 + t^2)`."""

    t_min, t_max = 0.002, 80.0

    def __call__(self, u: Tensor, t: float | Tensor) -> Tensor:
        level = torch.as_tensor(t, dtype=u.dtype, device=u.device).expand(len(u)).view(-1, 1, 1, 1)
        return u * SIGMA_DATA**2 / (SIGMA_DATA**2 + level**2)

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        return karras_levels(t, max(self.t_min, t_end or 0.0), steps)


def _run(purifier: Purifier, rows: Tensor | None = None) -> tuple[Tensor, Tensor, Mapping[str, CountedNetwork]]:
    """Purify some rows of a fixed noisy batch; returns the input, the output and the counted networks.

    The output of a purifier that votes over K images, `[K,B,C,H,W]`, is returned as `[B,K,C,H,W]`.
    """
    rows = _ROWS if rows is None else rows
    x = _images(_SHAPE[1:], rows)
    networks = {role: CountedNetwork(GaussianDenoiser()) for role in purifier.networks}
    y = purifier.purify(x.clone(), _SIGMA, networks, RowRng(0, "purifier", rows, rows))
    return x, y.transpose(0, 1) if y.ndim > x.ndim else y, networks


def keeps_shape_dtype_and_device(purifier: Purifier) -> None:
    x, y, _ = _run(purifier)
    one = y[:, 0] if y.ndim == x.ndim + 1 else y  # of K images of each row
    assert (one.shape, y.dtype, y.device) == (x.shape, x.dtype, x.device), (y.shape, y.dtype, y.device)


def returns_finite_values(purifier: Purifier) -> None:
    _, y, _ = _run(purifier)
    assert bool(y.isfinite().all())


def stays_in_range_if_bounded(purifier: Purifier) -> None:
    _, y, _ = _run(purifier)
    assert not purifier.bounded or (float(y.min()) >= 0 and float(y.max()) <= 1)


def examine_purifier(purifier: Purifier, rows: int = _FULL) -> tuple[Finding, ...]:
    """The breaches of the contract that show on `rows` noisy images; empty if there are none."""

    def call(x: Tensor, chosen: Tensor) -> tuple[Tensor, int]:
        networks = {role: CountedNetwork(GaussianDenoiser()) for role in purifier.networks}
        y = purifier.purify(x, _SIGMA, networks, RowRng(0, "purifier", chosen, chosen))
        return y.transpose(0, 1) if y.ndim > x.ndim else y, sum(network.rows for network in networks.values())

    before = copy.deepcopy(purifier)
    inputs = _images(_SHAPE[1:], torch.arange(rows))
    found = examine(Subject(call, inputs, purifier.nfe(), namespaces=namespaces_of(purifier))).findings
    changed = () if purifier == before else (Finding("state", "a call changes the purifier"),)
    return (*found, *changed)


def examine_classifier(classifier: Classifier, shape: tuple[int, int, int], rows: int = _FULL) -> tuple[Finding, ...]:
    """The breaches of the contract that show on `rows` noisy images `(C,H,W)`; empty if there are none."""
    vote = classifier.load()
    modules = [vote] if isinstance(vote, nn.Module) else []
    subject = Subject(
        lambda x, _: (vote(x), 0), _images(shape, torch.arange(rows)), 0, modules, namespaces_of(classifier, vote)
    )
    return examine(subject).findings


def _refuse(found: tuple[Finding, ...]) -> None:
    assert not found, "; ".join(finding.problem for finding in found)


def keeps_the_contract(purifier: Purifier) -> None:
    """A row is the same in a batch of 500 and in batches of 64, 6 and 1, in any order, in later calls, at other times.

    The measured evaluations are the documented ones. Nothing is left behind: no gradients, no use of global generators
    or settings, no change of the purifier or of its input.
    """
    _refuse(examine_purifier(purifier))


PURIFIER_CHECKS: tuple[Callable[[Purifier], None], ...] = (
    keeps_shape_dtype_and_device,
    returns_finite_values,
    stays_in_range_if_bounded,
    keeps_the_contract,
)


def logits_are_finite_and_repeatable(classifier: Classifier, shape: tuple[int, int, int]) -> None:
    """Images `[B,C,H,W]` of the given shape `(C,H,W)`, also noisy ones outside [0,1] -> logits `[B,K]`."""
    x, vote = _images(shape, _ROWS), classifier.load()
    first, second = vote(x.clone()), vote(x.clone())
    assert first.ndim == 2 and len(first) == len(x), f"got {tuple(first.shape)}, expected [{len(x)}, classes]"
    assert bool(first.isfinite().all()) and torch.equal(first, second)


def logits_keep_the_contract(classifier: Classifier, shape: tuple[int, int, int]) -> None:
    """A row is the same in a large batch and in batches of 64, 6 and 1, in any order, in later calls, at other times.

    Nothing is left behind: no gradients, no layer in training mode, no use of global generators or settings, no change
    of the input.
    """
    _refuse(examine_classifier(classifier, shape, _rows_of(shape)))


def _rows_of(shape: tuple[int, int, int]) -> int:
    return _FULL if math.prod(shape) <= 3 * 64 * 64 else _FEWER


def _images(shape: tuple[int, int, int], rows: Tensor) -> Tensor:
    """Noisy images `[B,C,H,W]`, one for each of `rows [B]`."""
    clean = torch.linspace(0, 1, math.prod(shape)).view(1, *shape).expand(len(rows), *shape)
    return clean + _SIGMA * RowRng(0, "smoothing", rows, rows).normal(clean)


CLASSIFIER_CHECKS: tuple[Callable[[Classifier, tuple[int, int, int]], None], ...] = (
    logits_are_finite_and_repeatable,
    logits_keep_the_contract,
)
