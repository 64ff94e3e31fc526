"""The sequential certifier: stop drawing as soon as every radius is proved or given up.

The test of `bench.certify.boundaries` as a state machine over counts, and a cache of its boundaries on disk.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from platformdirs import user_cache_path

from bench.certify.base import Request, Tally, gaps
from bench.certify.boundaries import PRESETS, Boundaries, Constants, boundaries
from bench.errors import InputError
from bench.files import make_folder, read_arrays, writing
from bench.records import Certificate

_FORMAT = 1  # version of the cache files
_VERSION = 1  # raise it when the same constants give other looks, boundaries or stops: cells and caches then differ
_FINE = 0.01  # step between the radii of a fine family


class _Progress(NamedTuple):
    """The state of the rule for one image.

    Attributes:
        choice: the selected class, or None while selection draws are missing.
        proved, top: number of radii proved, and number of radii not given up.
        looks: number of looks taken.
        decided: whether no more draws are needed.
    """

    choice: int | None
    proved: int
    top: int
    looks: int
    decided: bool


@dataclass(frozen=True)
class Sequential:
    """Exact one-sided group-sequential certifier of the largest proved radius of `radii`, at `alpha` per image.

    `n0` draws select the class and are not used again. Fresh draws are evaluated at the looks: a radius is proved
    when the hits reach its upper boundary, and given up when they do not exceed its lower boundary. Both decisions are
    final. Drawing stops when every radius is decided, or at `n_max`.

    A certificate's `p_lower` is the threshold of the largest proved radius, so its radius is one of `radii`. Average
    certified radii are therefore lower than those of a fixed N on the same draws, and not comparable with them.

    Parameters:
        sigma: standard deviation of the smoothing noise, in [0,1] pixel units.
        radii: radii to decide, L2 in [0,1] pixel units, increasing; 0 claims `pA > 1/2`.
        n0: draws of the selection.
        alpha: probability that the certificate is wrong, at most.
        preset: a key of `PRESETS`, or `Constants`. Fix it before any draw is seen; choosing a larger `n_max` after
            looking at counts would void the guarantee.
        n_max: replaces the preset's largest number of estimation draws; fix it before any draw is seen, too.
        block: largest number of draws sent and stored together; no block crosses a look.
        label_aware: abstain at once if the selected class is not the image's label. This leaves certified accuracy
            unchanged, but counts misclassified images as abstentions.

    Raises:
        ValueError: unknown preset; n0 or block below 1; sigma, radii or alpha out of range (checked when the
            boundaries are first used).
    """

    sigma: float
    radii: tuple[float, ...]
    n0: int = 100
    alpha: float = 0.001
    preset: str | Constants = "tight"
    block: int = 100
    label_aware: bool = False
    n_max: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.preset, str) and self.preset not in PRESETS:
            raise InputError(f"unknown preset {self.preset!r} of the sequential certifier. Known: {', '.join(PRESETS)}")
        if self.n0 < 1 or self.block < 1:
            raise InputError(f"n0 and block must be at least 1, got n0 = {self.n0}, block = {self.block}")
        object.__setattr__(self, "radii", tuple(float(r) for r in self.radii))  # hashable

    @property
    def constants(self) -> Constants:
        """The constants of the preset."""
        chosen = PRESETS[self.preset] if isinstance(self.preset, str) else self.preset
        return chosen if self.n_max is None else chosen.up_to(self.n_max)

    @cached_property
    def boundaries(self) -> Boundaries:
        """The looks and boundaries, cached in memory and on disk."""
        return _boundaries(self.sigma, self.radii, self.alpha, self.constants)

    @property
    def rule(self) -> str:
        """The rule and its constants, for reports."""
        c, r = self.constants, self.radii
        name = self.preset if isinstance(self.preset, str) else "custom"
        radii = " ".join(f"{x:g}" for x in r) if len(r) <= 10 else f"{r[0]:g} to {r[-1]:g} ({len(r)} of them)"
        aware = ", label-aware" if self.label_aware else ""
        worth = f", worth = {c.worth:g}" if c.worth else ""
        return (
            f"sequential {name} (N0 = {self.n0}, Nmax = {c.n_max}, lambda0 = {c.lambda0:g}, power = {c.power:g}"
            f"{worth}, alpha = {self.alpha:g}, radii {radii}{aware})"
        )

    @cached_property
    def identity(self) -> str:
        """Sixteen hexadecimal digits of a hash of VERSION and all constants; see `Certifier.identity`."""
        facts = [_VERSION, self.sigma, self.radii, self.n0, self.alpha, asdict(self.constants), self.label_aware]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def largest(self) -> float:
        """The largest of `radii` that `n_max` draws can prove."""
        alive = self.boundaries.radii[self.boundaries.alive]
        return float(alive.max()) if len(alive) else 0.0

    def missing(self, tally: Tally) -> list[Request]:
        """The rest of the selection; after it, the draws up to the next look."""
        progress = self.progress(tally)
        if progress.choice is None:
            return gaps(tally.select, "select", 0, self.n0, self.block)
        if progress.decided:
            return []
        looks = self.boundaries.looks
        start = int(looks[progress.looks - 1]) if progress.looks else 0
        return gaps(tally.estimate, "estimate", start, int(looks[progress.looks]), self.block)

    def certify(self, tally: Tally) -> Certificate | None:
        """The certificate, or None while draws are missing. Draws beyond the deciding look are ignored."""
        progress = self.progress(tally)
        if not progress.decided:
            return None
        b, c = self.boundaries, progress.proved
        draws = int(b.looks[progress.looks - 1]) if progress.looks else 0
        if c == 0:
            return Certificate(None, draws, 0.0, 0.0, self.rule)
        return Certificate(progress.choice, draws, float(b.thresholds[c - 1]), float(b.radii[c - 1]), self.rule)

    def reaches(self, tally: Tally, radius: float) -> bool | None:
        """See `Certifier.reaches`: the smallest decided radius of at least `radius` is proved, or given up."""
        progress = self.progress(tally)
        if progress.choice is None:
            return None
        if progress.choice != tally.label:
            return False
        needed = int(np.searchsorted(self.boundaries.radii, radius)) + 1
        if progress.proved >= needed:
            return True
        return False if progress.decided or progress.top < needed else None

    def progress(self, tally: Tally) -> _Progress:
        """Apply the rule to the counts, look by look.

        Raises:
            ValueError: a stored block crosses a look, or a label-aware rule has no label.
        """
        selected, choice_votes = tally.uninterrupted("select", self.n0)
        if selected < self.n0:
            return _Progress(None, 0, 0, 0, False)
        choice = max(range(len(choice_votes)), key=choice_votes.__getitem__)
        if self.label_aware and tally.label is None:
            raise InputError("a label-aware rule needs the image's label")
        if self.label_aware and choice != tally.label:
            return _Progress(choice, 0, 0, 0, True)
        b = self.boundaries
        proved, top = 0, int(np.count_nonzero(b.alive))
        look, draws, hits = 0, 0, 0
        while proved < top and look < len(b.looks):
            n = int(b.looks[look])
            while draws < n and draws in tally.estimate:
                votes = tally.estimate[draws]
                draws, hits = draws + sum(votes), hits + votes[choice]
            if draws < n:
                return _Progress(choice, proved, top, look, False)
            if draws > n:
                raise InputError(
                    f"the stored counts join draws up to {draws} in one block, so the look at {n} is "
                    "impossible; read them with the rule that made them, or give another --out"
                )
            proved = max(proved, min(int(np.count_nonzero(hits >= b.upper[:, look])), top))
            top = min(top, int(np.count_nonzero(hits > b.give_up[:, look])))
            if self.constants.worth and not promising(b, self.sigma, self.constants.worth, look, hits, proved):
                top = proved
            look += 1
        return _Progress(choice, proved, top, look, True)


def fine_family(radii: Sequence[float], sigma: float) -> tuple[float, ...]:
    """The radii of a sweep and all multiples of 0.01 up to 5 sigma, beyond the reach of 20 million draws.

    Average radii and certified accuracies both come from this one family: a second family would need its own alpha.
    """
    steps = int(5 * sigma / _FINE)
    return tuple(sorted({*map(float, radii), *(round(k * _FINE, 10) for k in range(steps + 1))}))


@lru_cache(maxsize=1 << 20)
def promising(b: Boundaries, sigma: float, worth: float, look: int, hits: int, proved: int) -> bool:
    """Whether a later look promises enough radius for its draws, if hits come one standard error above their rate.

    The guarantee does not depend on this choice: it holds for any stopping rule.

    Parameters:
        worth: draws that one sigma of radius is worth.
        look: index of the last look; `hits` at that look, and `proved` radii so far.
    """
    n, later = int(b.looks[look]), b.looks[look + 1 :]
    rate = (hits + 0.5) / (n + 1)  # posterior mean under Jeffreys' prior
    expected = np.floor(min(1.0, rate + math.sqrt(rate * (1 - rate) / n)) * later)
    radius = np.concatenate([[0.0], b.radii])  # indexed by the number of proved radii
    gain = radius[np.count_nonzero(b.upper[:, look + 1 :] <= expected, axis=0)] - radius[proved]
    return bool((gain * worth > sigma * (later - n)).any())


def _cache_folder() -> Path:
    """The folder of cached boundaries, in the user's cache."""
    return user_cache_path("purifybench", appauthor=False)


def _cached_boundaries(sigma: float, radii: Sequence[float], alpha: float, constants: Constants) -> Boundaries:
    """`bench.certify.boundaries.boundaries`, read from the disk cache if it was computed before.

    A damaged cache file is replaced. If the cache folder cannot be written, boundaries are computed each time.
    """
    facts = json.dumps([_FORMAT, _VERSION, sigma, list(radii), alpha, asdict(constants)])
    path = _cache_folder() / f"boundaries-{hashlib.sha256(facts.encode()).hexdigest()[:32]}.npz"
    with suppress(Exception):  # damaged zip files raise many kinds of error
        file = read_arrays(path)
        if str(file["facts"]) == facts:
            return Boundaries(**{f.name: file[f.name] for f in fields(Boundaries)})
    fresh = boundaries(sigma, radii, alpha, constants)
    with suppress(OSError):  # the cache only saves time
        make_folder(path.parent)
        with writing(path) as new:
            np.savez(new, facts=np.array(facts), **vars(fresh))
    return fresh


_boundaries = lru_cache(maxsize=64)(_cached_boundaries)  # one object for all images of a run
