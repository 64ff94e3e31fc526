"""Checks of the contracts of purifiers and classifiers, for use in tests. Certificates need independent rows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from bench.engine import CountedNetwork, RowRng
from classifiers.base import Classifier
from purifiers.base import Purifier
from purifiers.nets.denoisers import SIGMA_DATA, karras_levels

_SIGMA = 0.5
_SHAPE = (6, 3, 8, 8)
_ROWS = torch.arange(_SHAPE[0])
_CLOSE = 1e-4  # batched and single rows may be summed in another order


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


def repeats_itself_for_the_same_rng(purifier: Purifier) -> None:
    assert torch.equal(_run(purifier)[1], _run(purifier)[1])


def treats_rows_independently(purifier: Purifier) -> None:
    """Row i of a batch equals row i alone, and does not depend on the order of the others."""
    _, batch, _ = _run(purifier)
    for i in range(len(batch)):
        _, alone, _ = _run(purifier, torch.tensor([i]))
        assert torch.allclose(batch[i], alone[0], atol=_CLOSE), f"row {i} depends on the rows beside it"
    order = _ROWS.flip(0)
    _, reversed_batch, _ = _run(purifier, order)
    assert torch.allclose(batch[order], reversed_batch, atol=_CLOSE), "rows depend on their order"


def costs_what_it_documents(purifier: Purifier) -> None:
    x, _, networks = _run(purifier)
    measured = sum(network.rows for network in networks.values()) / len(x)
    documented = purifier.nfe()
    assert documented is None or measured == documented, f"measured {measured} NFE, documented {documented}"


def leaves_no_state(purifier: Purifier) -> None:
    """No gradients, no use of the global random state, no change of the purifier or of its input."""
    before = copy.deepcopy(purifier)
    x = torch.rand(_SHAPE, generator=torch.Generator().manual_seed(0))
    networks = {role: CountedNetwork(GaussianDenoiser()) for role in purifier.networks}
    with _without_side_effects(x):
        y = purifier.purify(x, _SIGMA, networks, RowRng(0, "purifier", _ROWS, _ROWS))
    assert not y.requires_grad, "the purified images carry gradients"
    assert purifier == before, "the purifier was changed"


PURIFIER_CHECKS: tuple[Callable[[Purifier], None], ...] = (
    keeps_shape_dtype_and_device,
    returns_finite_values,
    stays_in_range_if_bounded,
    repeats_itself_for_the_same_rng,
    treats_rows_independently,
    costs_what_it_documents,
    leaves_no_state,
)


def logits_are_finite_and_repeatable(classifier: Classifier, shape: tuple[int, int, int]) -> None:
    """Images `[B,C,H,W]` of the given shape `(C,H,W)`, also noisy ones outside [0,1] -> logits `[B,K]`."""
    x, vote = _images(shape, _ROWS), classifier.load()
    first, second = vote(x.clone()), vote(x.clone())
    assert first.ndim == 2 and len(first) == len(x), f"got {tuple(first.shape)}, expected [{len(x)}, classes]"
    assert bool(first.isfinite().all()) and torch.equal(first, second)


def logits_treat_rows_independently(classifier: Classifier, shape: tuple[int, int, int]) -> None:
    x, vote = _images(shape, _ROWS), classifier.load()
    batch = vote(x.clone())
    for i in range(len(x)):
        alone = vote(x[i : i + 1].clone())[0]
        assert torch.allclose(batch[i], alone, atol=_CLOSE, rtol=_CLOSE), f"row {i} depends on the rows beside it"


def logits_leave_no_state(classifier: Classifier, shape: tuple[int, int, int]) -> None:
    """No gradients, no use of the global random state, no change of the input."""
    x, vote = _images(shape, _ROWS), classifier.load()
    with _without_side_effects(x):
        logits = vote(x)
    assert not logits.requires_grad, "the logits carry gradients"


@contextmanager
def _without_side_effects(x: Tensor) -> Iterator[None]:
    before, seeds, grad = x.clone(), torch.get_rng_state(), torch.is_grad_enabled()
    yield
    assert torch.is_grad_enabled() == grad, "the gradient mode was changed"
    assert torch.equal(x, before), "the input was changed"
    assert torch.equal(torch.get_rng_state(), seeds), "the global random state was used"


def _images(shape: tuple[int, int, int], rows: Tensor) -> Tensor:
    """Noisy images `[B,C,H,W]`, one for each of `rows [B]`."""
    clean = torch.linspace(0, 1, math.prod(shape)).view(1, *shape).expand(len(rows), *shape)
    return clean + _SIGMA * RowRng(0, "smoothing", rows, rows).normal(clean)


CLASSIFIER_CHECKS: tuple[Callable[[Classifier, tuple[int, int, int]], None], ...] = (
    logits_are_finite_and_repeatable,
    logits_treat_rows_independently,
    logits_leave_no_state,
)
