"""The arena: every rule on the same images, its draws, its losses, its failure rate and what it asks beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr

from bench.certify.arena.contenders import Anytime, GroupSequential, Outcomes, Proof
from bench.certify.arena.evidence import BETTING, MIXTURE, UNION, Evidence, Floats, Ints
from bench.certify.arena.failure import Failure, failure
from bench.certify.arena.paths import SELECTION, Images, paths
from bench.certify.arena.stages import AdaptiveSampling, InputSpecific, cohen, needed_hits
from bench.certify.boundaries import PRESETS

REFERENCE = 100_000  # N of Cohen's rule that losses are measured against, and the horizon of anytime rules
FIXED = (100, 1000, 10_000)
_EVIDENCE: tuple[tuple[str, Evidence, bool], ...] = (
    ("union-bound CS", UNION, False),
    ("betting CS, `anytime`", BETTING, False),
    ("e-process", MIXTURE, False),
    ("e-process, learned prior", MIXTURE, True),
)

_ENDINGS = {"grid": "grid decided", "price": "gives up as `tight`", "horizon": "to the horizon"}


class Facts(NamedTuple):
    """A rule's name, its group (`fixed N`, `ours`, `anytime`, `stages`), what must be fixed before, and what later."""

    rule: str
    group: str
    before: str
    later: str


@dataclass(frozen=True, eq=False)
class Score:
    """How a rule did on a log.

    Attributes:
        facts: its name and what it asks.
        draws, draws_95: mean and 95th percentile of the draws of an image, with those of the selection.
        lost `[J]`: points of certified accuracy lost at each radius, against Cohen's rule with N = 100,000.
        error: largest Monte Carlo standard error of `lost`, in points; 0 if exact.
        acr, acr_lost: average certified radius, and its loss.
        failure: the largest probability that a claim is wrong.
    """

    facts: Facts
    draws: float
    draws_95: float
    lost: Floats
    error: float
    acr: float
    acr_lost: float
    failure: Failure

    @property
    def largest_loss(self) -> float:
        """At the radius where most is lost, in points."""
        return float(self.lost.max())

    def beats(self, other: Score) -> bool:
        """Whether it needs fewer draws and loses no more at any radius."""
        return self.draws < other.draws and bool((self.lost <= other.lost).all())


@dataclass(eq=False)
class _Sums:
    """Outcomes of a rule, gathered over parts of the runs."""

    draws: list[Ints] = field(default_factory=list)
    lost: list[Floats] = field(default_factory=list)
    radius: list[Floats] = field(default_factory=list)

    def add(self, outcomes: Outcomes, reference: Floats, correct: Floats) -> None:
        """Add runs; the loss of each is that against `reference [R,J]` where the class is correct `[R]`."""
        self.draws.append(outcomes.draws)
        self.lost.append((reference - outcomes.proved) * correct[:, None])
        self.radius.append(outcomes.radius * correct)

    def score(self, facts: Facts, image: Ints, reference_acr: float, wrong: Failure) -> Score:
        """Averages over runs of images `[R]`."""
        draws, lost = np.concatenate(self.draws) + SELECTION, 100 * np.concatenate(self.lost)
        runs, images = len(draws), int(image.max()) + 1
        within = np.array([lost[image == i].var(axis=0) for i in range(images)]).sum(axis=0)
        error = np.sqrt(within * images / runs) / images  # images are fixed; only the draws are random
        acr = float(np.nanmean(np.concatenate(self.radius)))
        percentile = float(np.quantile(draws, 0.95))
        mean = float(draws.mean())
        return Score(facts, mean, percentile, lost.mean(axis=0), error.max(), acr, reference_acr - acr, wrong)


def compete(images: Images, alpha: float = 0.001, repeats: int = 100, seed: int = 0) -> list[Score]:
    """The scores of all rules on a log.

    Sequential rules share their simulated draws, and their losses are measured against Cohen's rule on the same draws.

    Parameters:
        alpha: probability that a certificate is wrong, of every rule.
        repeats: simulated runs of each image; figures of Cohen's rule are exact.
    """
    exact, radius = cohen(images, REFERENCE, alpha)
    acr = float((radius * images.correct).mean())
    scores = [_fixed(images, n, alpha, exact, acr) for n in (*FIXED, REFERENCE)]
    scores += _on_paths(images, alpha, repeats, seed, acr)
    image, rng = np.repeat(np.arange(len(images.p)), repeats), np.random.default_rng([seed, 1])
    for facts, rule in _with_stages(images, alpha):
        sums = _Sums()
        sums.add(rule.play(image, rng), exact[image], images.correct[image].astype(float))
        scores.append(sums.score(facts, image, acr, rule.failure()))
    return scores


def _fixed(images: Images, n: int, alpha: float, exact: Floats, acr: float) -> Score:
    proved, radius = cohen(images, n, alpha)
    own, correct = float((radius * images.correct).mean()), images.correct[:, None]
    lost = 100 * ((exact - proved) * correct).mean(axis=0)
    facts = Facts(f"cohen N = {n:,}", "fixed N", "N", "radii")
    return Score(facts, n + SELECTION, n + SELECTION, lost, 0.0, own, acr - own, Failure(alpha))


def _crossing(rule: GroupSequential) -> Failure:
    return Failure(float(rule.rule.crossing.max()))


def _sequential(images: Images, alpha: float) -> Iterator[tuple[Facts, Any, Callable[[], Failure]]]:
    """Name, rule and failure rate of every rule that is tried on paths."""
    for preset in PRESETS:
        rule = GroupSequential(images, alpha, preset)
        before = "horizon" if PRESETS[preset].worth else "radii, horizon"
        later = "radii (steps of 0.01)" if PRESETS[preset].worth else "nothing"
        yield Facts(preset, "ours", before, later), rule, partial(_crossing, rule)
    for name, evidence, learned in _EVIDENCE:
        proof = Proof(images, alpha, evidence, REFERENCE, learned)
        rate = cache(partial(failure, proof))  # the same for every ending
        prior = "prior" if learned else "nothing"
        for ending, words in _ENDINGS.items():
            if ending != "price" or evidence is not UNION:  # the union bound cannot say what a last look needs
                yield Facts(f"{name}: {words}", "anytime", prior, "radii, more draws"), Anytime(proof, ending), rate


def _on_paths(images: Images, alpha: float, repeats: int, seed: int, acr: float) -> list[Score]:
    rules = list(_sequential(images, alpha))
    looks = np.unique(np.concatenate([[REFERENCE], *(rule.looks for _, rule, _ in rules)]))
    needed = needed_hits(ndtr(np.asarray(images.radii) / images.sigma), REFERENCE, alpha)
    sums, order = [_Sums() for _ in rules], []
    for part in paths(images, looks, repeats, seed):
        order.append(part.image)
        correct = images.correct[part.image].astype(float)
        reference = (part.hits[:, np.searchsorted(looks, REFERENCE), None] >= needed).astype(float)
        for (_, rule, _), gathered in zip(rules, sums, strict=True):
            gathered.add(rule.play(part), reference, correct)
    image = np.concatenate(order)
    return [s.score(facts, image, acr, rate()) for (facts, _, rate), s in zip(rules, sums, strict=True)]


def _with_stages(images: Images, alpha: float) -> Iterator[tuple[Facts, InputSpecific | AdaptiveSampling]]:
    for loss in (0.01, 0.05):
        facts = Facts(f"input-specific (ISS), loss {loss:g}", "stages", "largest N, loss", "radii")
        yield facts, InputSpecific(images, alpha, loss)
    yield Facts("adaptive sampling", "stages", "radii, stages", "nothing"), AdaptiveSampling(images, alpha)


def winners(scores: Sequence[Score]) -> list[tuple[str, str]]:
    """Pairs (rule, preset of ours) in which a rule of the field needs fewer draws and loses no more at any radius."""
    ours = [s for s in scores if s.facts.group == "ours" and "radii" in s.facts.before]
    field_ = [s for s in scores if s.facts.group != "ours"]
    return [(s.facts.rule, o.facts.rule) for o in ours for s in field_ if s.beats(o)]
