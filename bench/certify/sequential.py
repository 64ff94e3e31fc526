"""The sequential certifier: stop drawing as soon as every radius of interest is proved or given up.

The rule of `bench.certify.boundaries` as a state machine over counts, and a cache of its boundaries on disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from platformdirs import user_cache_path

from bench.certify import boundaries as rules_of_looks
from bench.certify.base import Request, Tally, gaps
from bench.certify.boundaries import PRESETS, Boundaries, Constants, boundaries
from bench.records import Certificate

FORMAT = 1  # of the cache files
VERSION = 1  # of the rule: raise it where looks, boundaries or the stop come out differently for the same constants
FINE = 0.01  # between the radii of a fine family


class Progress(NamedTuple):
    """How far the counts of one image take the rule.

    Attributes:
        choice: the selected class, or None while selection draws are missing.
        proved, top: number of radii proved, and number of those that are not given up.
        looks: looks reached, up to the one that decided.
        decided: no draw is needed any more.
    """

    choice: int | None
    proved: int
    top: int
    looks: int
    decided: bool


@dataclass(frozen=True)
class Sequential:
    """Exact one-sided group-sequential certifier: the largest of `radii` that is proved, at `alpha` per image.

    `n0` draws choose the class and are never used again. Fresh draws are looked at in groups; at each look a radius
    is proved when the hits reach its upper boundary, or given up when they do not exceed its lower one. What is proved
    stays proved, what is given up stays given up; it stops when nothing is left to decide, or at `n_max`.

    A certificate's `p_lower` is the threshold of the largest radius proved, so its radius is one of `radii`: average
    certified radii are lower than those of a fixed N on the same draws, and not comparable with them.

    Parameters:
        sigma: of the smoothing noise, in [0,1] pixel units.
        radii: to be decided, L2, increasing, in [0,1] pixel units; 0 claims `pA > 1/2`.
        n0: draws of the selection.
        alpha: probability that the certificate is wrong.
        preset: a name of `PRESETS`, or constants of your own. To be fixed before any draw is seen: a longer `n_max`
            chosen after looking at the counts would void the guarantee.
        n_max: most draws of the estimation, instead of the preset's; to be fixed likewise.
        block: most draws that travel and are stored together; none crosses a look.
        label_aware: abstain at once where the selected class is not the image's label, which leaves certified
            accuracy as it is, and makes abstention no more than the share of such images and of those not proved.

    Raises:
        ValueError: unknown preset; n0 or block below 1; sigma, radii or alpha out of range (as the boundaries need
            them, at the first use).
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
            raise ValueError(f"unknown preset {self.preset!r} of the sequential certifier. Known: {', '.join(PRESETS)}")
        if self.n0 < 1 or self.block < 1:
            raise ValueError(f"n0 and block must be at least 1, got n0 = {self.n0}, block = {self.block}")
        object.__setattr__(self, "radii", tuple(float(r) for r in self.radii))  # hashable, whatever was given

    @property
    def constants(self) -> Constants:
        """The constants of the preset."""
        chosen = PRESETS[self.preset] if isinstance(self.preset, str) else self.preset
        return chosen if self.n_max is None else chosen.up_to(self.n_max)

    @cached_property
    def boundaries(self) -> Boundaries:
        """The looks and boundaries; computed once per process and once per machine."""
        return _boundaries(self.sigma, self.radii, self.alpha, self.constants)

    @property
    def rule(self) -> str:
        """The rule and its constants, as a report names it."""
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
        """Sixteen hexadecimal digits of all that decides; counts begun under one must not be extended under another."""
        facts = [VERSION, self.sigma, self.radii, self.n0, self.alpha, asdict(self.constants), self.label_aware]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def largest(self) -> float:
        """The largest radius of the grid that can be certified at all."""
        alive = self.boundaries.radii[self.boundaries.alive]
        return float(alive.max()) if len(alive) else 0.0

    def missing(self, tally: Tally) -> list[Request]:
        """The rest of the selection; then, look by look, the draws up to the next look."""
        progress = self.progress(tally)
        if progress.choice is None:
            return gaps(tally.select, "select", 0, self.n0, self.block)
        if progress.decided:
            return []
        looks = self.boundaries.looks
        start = int(looks[progress.looks - 1]) if progress.looks else 0
        return gaps(tally.estimate, "estimate", start, int(looks[progress.looks]), self.block)

    def certify(self, tally: Tally) -> Certificate | None:
        """The certificate, or None while draws are missing; draws beyond the look that decided are ignored."""
        progress = self.progress(tally)
        if not progress.decided:
            return None
        b, c = self.boundaries, progress.proved
        draws = int(b.looks[progress.looks - 1]) if progress.looks else 0
        if c == 0:
            return Certificate(None, draws, 0.0, 0.0, self.rule)
        return Certificate(progress.choice, draws, float(b.thresholds[c - 1]), float(b.radii[c - 1]), self.rule)

    def progress(self, tally: Tally) -> Progress:
        """Where the counts stand.

        Raises:
            ValueError: stored blocks join draws across a look that the rule must see; a label is needed and not there.
        """
        selected, choice_votes = tally.uninterrupted("select", self.n0)
        if selected < self.n0:
            return Progress(None, 0, 0, 0, False)
        choice = max(range(len(choice_votes)), key=choice_votes.__getitem__)
        if self.label_aware and tally.label is None:
            raise ValueError("a label-aware rule needs the image's label")
        if self.label_aware and choice != tally.label:
            return Progress(choice, 0, 0, 0, True)
        b = self.boundaries
        proved, top = 0, int(np.count_nonzero(b.alive))
        look, draws, hits = 0, 0, 0
        while proved < top and look < len(b.looks):
            n = int(b.looks[look])
            while draws < n and draws in tally.estimate:
                votes = tally.estimate[draws]
                draws, hits = draws + sum(votes), hits + votes[choice]
            if draws < n:
                return Progress(choice, proved, top, look, False)
            if draws > n:
                raise ValueError(
                    f"the stored counts join draws up to {draws} in one block, so the look at {n} cannot be taken; "
                    f"read them with the rule that made them, or give another --out"
                )
            proved = max(proved, min(int(np.count_nonzero(hits >= b.upper[:, look])), top))
            top = min(top, int(np.count_nonzero(hits > b.give_up[:, look])))
            if self.constants.worth and not self._promising(look, hits, proved):
                top = proved
            look += 1
        return Progress(choice, proved, top, look, True)

    def _promising(self, look: int, hits: int, proved: int) -> bool:
        return _promises(self.sigma, self.radii, self.alpha, self.constants, look, hits, proved)


def fine_family(radii: Sequence[float], sigma: float) -> tuple[float, ...]:
    """The radii of a sweep and all multiples of 0.01 up to 5 sigma, further than 20 million draws reach.

    One family from which every radius is read: a second one would be a second chance to be wrong.
    """
    steps = int(5 * sigma / FINE)
    return tuple(sorted({*map(float, radii), *(round(k * FINE, 10) for k in range(steps + 1))}))


@lru_cache(maxsize=1 << 20)
def _promises(
    sigma: float, radii: tuple[float, ...], alpha: float, constants: Constants, look: int, hits: int, proved: int
) -> bool:
    return promising(_boundaries(sigma, radii, alpha, constants), sigma, constants.worth, look, hits, proved)


def promising(b: Boundaries, sigma: float, worth: float, look: int, hits: int, proved: int) -> bool:
    """Whether a later look promises enough radius for its draws, if hits go on at a standard error above their share.

    When to stop is no part of the guarantee, which holds wherever a path ends.

    Parameters:
        worth: draws that one sigma of radius is worth.
        look: index of the look that was taken, with its `hits`; `proved` radii so far.
    """
    n, later = int(b.looks[look]), b.looks[look + 1 :]
    share = (hits + 0.5) / (n + 1)
    expected = np.floor(min(1.0, share + math.sqrt(share * (1 - share) / n)) * later)
    radius = np.concatenate([[0.0], b.radii])  # by number of radii proved
    gain = radius[np.count_nonzero(b.upper[:, look + 1 :] <= expected, axis=0)] - radius[proved]
    return bool((gain * worth > sigma * (later - n)).any())


@lru_cache(maxsize=64)
def _boundaries(sigma: float, radii: tuple[float, ...], alpha: float, constants: Constants) -> Boundaries:
    return cached_boundaries(sigma, radii, alpha, constants)


def cache_folder() -> Path:
    """Where boundaries are kept between runs: the user's cache folder."""
    return user_cache_path("purifybench", appauthor=False)


def cached_boundaries(sigma: float, radii: Sequence[float], alpha: float, constants: Constants) -> Boundaries:
    """`bench.certify.boundaries.boundaries`, read from the cache where it has been computed before.

    A cache file that is damaged is computed anew and rewritten; a folder that cannot be written is done without.
    """
    source = hashlib.sha256(Path(rules_of_looks.__file__).read_bytes()).hexdigest()  # a changed rule is another one
    facts = json.dumps([FORMAT, source, sigma, list(radii), alpha, asdict(constants)])
    path = cache_folder() / f"boundaries-{hashlib.sha256(facts.encode()).hexdigest()[:32]}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["facts"]) == facts:
                return Boundaries(**{f.name: file[f.name] for f in fields(Boundaries)})
    except Exception:  # absent or damaged in any of the ways that zip files know: the answer is to compute
        pass
    fresh = boundaries(sigma, radii, alpha, constants)
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.array(facts), **{f.name: getattr(fresh, f.name) for f in fields(Boundaries)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(buffer.getvalue())
        try:
            os.replace(file.name, path)
        finally:
            Path(file.name).unlink(missing_ok=True)
    except OSError:
        pass  # the cache saves time and nothing else
    return fresh
