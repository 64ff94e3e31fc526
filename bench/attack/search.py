"""Attack the certificates of some images of one cell, and judge the adversarial images by fresh draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.attack.base import Attack, onto_ball, unit
from bench.attack.target import SmoothedClassifier
from bench.certify.bounds import clopper_pearson_upper
from bench.engine import Engine, RowRng
from bench.engine.loader import Loaded
from bench.records import DISCRETE, Block, Cell, Task
from bench.store.attacks import AttackedImage

_JUDGING, _ESTIMATING = 1 << 42, 1 << 43  # draws from here: fresh ones of verdicts, and those that guide the search
_ESTIMATE = 100  # draws that estimate the class's share at an adversarial image
_SUCCESS = 0.4  # such a share: two standard errors below 1/2, so that fresh draws will probably confirm it
_TRIALS = 3  # successes of an image that fresh draws judge, from the nearest on
_BATCH = 500  # draws that are counted together


class Certified(NamedTuple):
    """A certificate to attack."""

    image: int
    label: int
    predicted: int
    radius: float


@dataclass(frozen=True)
class Search:
    """How each certificate is attacked.

    Attributes:
        attack: the method.
        restarts: attempts within the certified radius: from the image itself, then from random points on the ball.
        rounds: steps of the search for the smallest radius at which the attack succeeds: the radius is doubled until it
            does, then bisected; each step starts from the last adversarial image.
        draws: fresh draws of a verdict.
        level: probability that any certificate of a cell is called broken although it holds.
    """

    attack: Attack
    restarts: int = 2
    rounds: int = 6
    draws: int = 500
    level: float = 0.001


def attack_images(
    cell: Cell,
    loaded: Loaded,
    engine: Engine,
    clean: np.ndarray,
    certified: Sequence[Certified],
    search: Search,
    tried: int,
) -> tuple[list[AttackedImage], str]:
    """Attack some certificates of a cell together.

    Parameters:
        loaded: plugins and networks for gradients, loaded outside of inference mode and not compiled.
        engine: counts the votes at adversarial images, as it counted those of the certificates.
        clean: `[n,C,H,W]` float32, the images of `certified`.
        tried: certificates of the cell, for which the level is corrected (Bonferroni).

    Returns:
        The results in the order of `certified`, and how gradients were computed.

    Raises:
        AttackError: no gradient passes through the classifier.
        PluginFault: a plugin raised or returned a wrong value.
    """
    x0 = torch.from_numpy(clean).to(engine.device)
    images = torch.tensor([c.image for c in certified], device=engine.device)
    classes = torch.tensor([c.predicted for c in certified], device=engine.device)
    radii = torch.tensor([c.radius for c in certified], dtype=torch.float64, device=engine.device)
    target = SmoothedClassifier(cell, loaded, x0, images, classes)
    ballots = _Ballots(cell, engine, certified, search.draws)
    best, share = x0, np.ones(len(certified))
    for restart in range(search.restarts):
        start = x0
        if restart:
            random = RowRng(cell.seed, "attack", images, torch.full_like(images, restart)).normal(x0)
            start = onto_ball(x0 + unit(random) * _by_row(radii, x0), x0, radii.float())
        x = feasible(x0, search.attack.perturb(target, start, radii, restart), radii, cell.noise == DISCRETE)
        now = ballots.estimate(x)
        lower = torch.from_numpy(now < share).to(x.device)
        best, share = torch.where(lower.view(-1, 1, 1, 1), x, best), np.minimum(now, share)
    promising = np.flatnonzero(share < 0.5)
    hits = dict(zip(promising.tolist(), ballots.judge(best, promising), strict=True))
    attacked = _smallest(cell, target, ballots, search, radii, best, share)
    results = []
    for row, (one, distance) in enumerate(zip(certified, distances(x0, best).tolist(), strict=True)):
        won = hits.get(row)
        broken = won is not None and distance <= one.radius and _below_half(won, search.draws, search.level / tried)
        judged = (int(won), search.draws) if won is not None else (0, 0)
        results.append(AttackedImage(*one, distance, round(float(share[row]), 4), *judged, broken, attacked[row]))
    return results, target.method


def _smallest(
    cell: Cell,
    target: SmoothedClassifier,
    ballots: _Ballots,
    search: Search,
    radii: Tensor,
    x: Tensor,
    share: np.ndarray,
) -> list[float | None]:
    """The distance of the nearest adversarial image of each row that fresh draws confirm; None if there is none.

    Parameters:
        x, share: the best images within `radii`, and the estimated share of the class there.
    """
    x0, level = target.clean, search.level / _TRIALS
    successes: list[list[tuple[float, Tensor]]] = [[] for _ in share]

    def record(rows: np.ndarray) -> None:
        away = distances(x0, x)
        for row in rows:
            successes[row].append((float(away[row]), x[row].clone()))

    won = share <= _SUCCESS
    record(np.flatnonzero(won))
    limits = radii.cpu().numpy()
    low, high = np.where(won, 0.0, limits), np.where(won, limits, np.inf)
    for step in range(search.rounds):
        tried = np.where(np.isinf(high), np.maximum(2 * low, low + cell.sigma / 2), (low + high) / 2)
        ball = torch.from_numpy(tried).to(radii.device)
        direction = unit(x - x0)
        start = x0 + direction * _by_row(ball, x0)
        x = feasible(x0, search.attack.perturb(target, start, ball, step), ball, cell.noise == DISCRETE)
        won = ballots.estimate(x) <= _SUCCESS
        record(np.flatnonzero(won))
        low, high = np.where(won, low, tried), np.where(won, tried, high)
    nearest: list[float | None] = [None] * len(successes)
    for trial in range(_TRIALS):
        open_rows = [row for row, found in enumerate(successes) if nearest[row] is None and len(found) > trial]
        candidates = x0.clone()
        for row in open_rows:
            candidates[row] = sorted(successes[row], key=lambda one: one[0])[trial][1]
        away = distances(x0, candidates)
        for row, hits in zip(open_rows, ballots.judge(candidates, np.array(open_rows, int)), strict=True):
            if _below_half(hits, search.draws, level):
                nearest[row] = float(away[row])
    return nearest


class _Ballots:
    """Votes of the smoothed classifier at adversarial images; no draw is used twice."""

    def __init__(self, cell: Cell, engine: Engine, certified: Sequence[Certified], draws: int):
        self._cell, self._engine, self._certified, self._draws = cell, engine, certified, draws
        self._estimating, self._judging = _ESTIMATING, _JUDGING

    def estimate(self, x: Tensor) -> np.ndarray:
        """The share of the certified class among a few draws at every image, `[B]`."""
        hits = self._hits(x, np.arange(len(x)), self._estimating, _ESTIMATE)
        self._estimating += _ESTIMATE
        return hits / _ESTIMATE

    def judge(self, x: Tensor, rows: np.ndarray) -> np.ndarray:
        """Fresh votes for the certified class at the images of some rows."""
        hits = self._hits(x, rows, self._judging, self._draws)
        self._judging += self._draws
        return hits

    def _hits(self, x: Tensor, rows: np.ndarray, first: int, draws: int) -> np.ndarray:
        if not len(rows):
            return np.zeros(0, int)
        pixels = x.cpu().numpy()
        engine = replace(
            self._engine, images={self._certified[row].image: pixels[row] for row in rows}, loader=self._engine._loader
        )
        blocks = [Block(self._cell.key, self._certified[row].image, "estimate", first, draws) for row in rows]
        together = max(1, _BATCH // draws)
        counted = [
            counts
            for at in range(0, len(blocks), together)
            for counts in engine.run(Task(self._cell, tuple(blocks[at : at + together])))
        ]
        return np.array([c.votes[self._certified[row].predicted] for c, row in zip(counted, rows, strict=True)])


def feasible(clean: Tensor, x: Tensor, radii: Tensor, discrete: bool) -> Tensor:
    """The images of `x [B,C,H,W]`, moved towards `clean` until their distance in float64 is at most `radii [B]`.

    Certificates cover every perturbation, so pixels may leave [0,1]. Under discrete noise they are 8-bit images.
    """
    shrink = torch.ones_like(radii)
    for _ in range(60):
        moved = clean.double() + (x.double() - clean.double()) * _by_row(shrink, x, torch.float64)
        result = (moved.clamp(0, 1) * 255).round().div(255).float() if discrete else moved.float()
        away = distances(clean, result)
        if bool((away <= radii).all()):
            return result
        shrink = torch.where(
            away > radii, shrink * (radii / away).clamp(max=1) * (0.99 if discrete else 1 - 1e-6), shrink
        )
    return torch.where(_by_row(away <= radii, x, torch.bool), result, clean)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """L2 distances of images `[B,...]` in float64, `[B]`."""
    return (a.double() - b.double()).flatten(1).norm(dim=1)


def _below_half(hits: int, draws: int, level: float) -> bool:
    """Whether fresh votes bound a class's probability below 1/2 at confidence `1 - level` (Clopper, Pearson 1934)."""
    return clopper_pearson_upper(int(hits), draws, level) < 0.5


def _by_row(values: Tensor, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """`[B]` as `[B,1,...]`, to be multiplied with the rows of `x`."""
    return values.to(dtype or x.dtype).view(-1, *(1,) * (x.ndim - 1))
