"""Simulate the cost and the loss of certification rules on images with known pA.

`python -m bench.certify.simulation FILE --sigma S` reads pA from published certificates (Cohen et al. 2019). For each
preset of the sequential rule it prints the mean draws per image, the certified accuracy and average certified radius,
and the largest loss of accuracy against Cohen's rule with N = 100,000. No network runs.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, ndtri
from scipy.stats import binom

from bench.certify.boundaries import PRESETS, boundaries
from bench.certify.sequential import fine_family, promising

Floats = NDArray[np.float64]
REFERENCE = 100_000  # N of the rule used as reference
N0 = 100  # selection draws of every rule
CHUNK = 1 << 20  # images simulated at once; bounds the memory


@dataclass(frozen=True, eq=False)
class Outcome:
    """Averages of a rule over images and repetitions.

    Attributes:
        rule: name of the rule.
        draws: mean estimation draws per image, without the N0 selection draws that every rule needs.
        accuracy `[J]`: certified accuracy at each radius.
        acr: average certified radius.
    """

    rule: str
    draws: float
    accuracy: Floats
    acr: float


def published(
    path: str | Path, sigma: float, alpha: float = 0.01, n: int = 100_000
) -> tuple[Floats, NDArray[np.bool_]]:
    """The `pA [M]` to simulate, and whether the predicted class is correct `[M]`, from a published table.

    Each radius is inverted to its number of hits (to its three printed digits), and `pA = hits / n`. Abstentions get
    values of pA spread evenly over [0.3, 0.5] and count as incorrect.

    Parameters:
        path: tab-separated `idx label predict radius correct time`, as Cohen et al. publish them.
        alpha, n: the constants of the table. The largest radii in the files of 2019 imply alpha = 0.01.
    """
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    abstained = np.array([int(row["predict"]) < 0 for row in rows])
    radius = np.array([float(row["radius"]) for row in rows])
    correct = np.array([row["correct"] == "1" for row in rows]) & ~abstained
    hits = np.arange(n // 2, n + 1)
    radii = sigma * ndtri(betaincinv(hits, n - hits + 1, alpha))
    p = hits[np.searchsorted((radii[1:] + radii[:-1]) / 2, radius)] / n
    p[abstained] = np.linspace(0.3, 0.5, abstained.sum())
    return p, correct


def cohen(
    p: Floats,
    correct: NDArray[np.bool_],
    sigma: float,
    radii: Sequence[float],
    alpha: float,
    n: int,
    repeats: int = 1000,
    seed: int = 0,
) -> Outcome:
    """Cohen's rule with `n` draws on images with pA `p [M]`: accuracy is exact (binomial tail), ACR is simulated."""
    t = ndtr(np.asarray(radii) / sigma)
    needed = binom.isf(alpha, n, t) + 1  # fewest hits whose Clopper-Pearson bound reaches t
    reached = binom.sf(needed - 1, n, p[:, None])
    hits = np.arange(1, n + 1)
    radius = np.concatenate([[0.0], sigma * np.maximum(ndtri(betaincinv(hits, n - hits + 1, alpha)), 0)])
    rng = np.random.default_rng(seed)
    acr = np.mean([(radius[rng.binomial(n, p)] * correct).mean() for _ in range(repeats)])
    return Outcome(f"cohen N = {n:,}", n, (reached * correct[:, None]).mean(axis=0), float(acr))


def sequential(
    p: Floats,
    correct: NDArray[np.bool_],
    sigma: float,
    radii: Sequence[float],
    alpha: float,
    preset: str,
    repeats: int = 1000,
    seed: int = 0,
) -> Outcome:
    """The sequential rule on images with pA `p [M]`, simulated `repeats` times.

    The simulation assumes that selection always chooses the class with probability `p`.
    """
    constants = PRESETS[preset]
    b = boundaries(sigma, fine_family(radii, sigma) if constants.worth else radii, alpha, constants)
    rng = np.random.default_rng(seed)
    draws, accuracy, radius_sum = 0, np.zeros(len(radii)), 0.0
    order = np.tile(np.arange(len(p)), repeats)
    radius = np.concatenate([[0.0], b.radii])  # indexed by the number of proved radii
    for start in range(0, len(order), CHUNK):
        image = order[start : start + CHUNK]
        hits, proved = np.zeros(len(image), dtype=np.int64), np.zeros(len(image), dtype=np.int64)
        top = np.full(len(image), np.count_nonzero(b.alive))
        running, before = np.flatnonzero(proved < top), 0
        for k, n in enumerate(b.looks):
            hits[running] += rng.binomial(n - before, p[image[running]])
            draws, before = draws + len(running) * int(n - before), n
            # Boundaries increase with the radius, so a binary search counts the boundaries reached.
            reached = np.searchsorted(b.upper[:, k], hits[running], side="right")
            not_given_up = np.searchsorted(b.give_up[:, k], hits[running], side="left")
            proved[running] = np.maximum(proved[running], np.minimum(reached, top[running]))
            top[running] = np.minimum(top[running], not_given_up)
            if constants.worth:
                states, inverse = np.unique(np.stack([hits[running], proved[running]]), axis=1, return_inverse=True)
                promises = [promising(b, sigma, constants.worth, k, int(h), int(c)) for h, c in states.T]
                top[running] = np.where(np.array(promises)[inverse.ravel()], top[running], proved[running])
            running = running[proved[running] < top[running]]
            if not len(running):
                break
        claimed = np.where(proved > 0, radius[proved], -1.0)
        accuracy += (correct[image, None] & (claimed[:, None] >= np.asarray(radii))).sum(axis=0)
        radius_sum += float((radius[proved] * correct[image]).sum())
    return Outcome(preset, draws / len(order), accuracy / len(order), radius_sum / len(order))


def table(
    p: Floats,
    correct: NDArray[np.bool_],
    sigma: float,
    radii: Sequence[float],
    alpha: float,
    repeats: int,
    fixed: Sequence[int] = (10_000,),
) -> str:
    """A Markdown table of all presets and Cohen's rule: draws, and loss against Cohen's rule with N = 100,000.

    `times fewer` includes the N0 selection draws of both rules; `mean draws` does not.
    """
    reference = cohen(p, correct, sigma, radii, alpha, REFERENCE, repeats)
    rules = [sequential(p, correct, sigma, radii, alpha, preset, repeats) for preset in PRESETS]
    lines = [
        "| rule | mean draws | times fewer | largest loss (points) | "
        + " | ".join(f"r = {r:g}" for r in radii)
        + " | ACR |",
        "|---" * (5 + len(radii)) + "|",
    ]
    rules += [cohen(p, correct, sigma, radii, alpha, n, repeats) for n in fixed]
    for rule in (*rules, reference):
        loss = 100 * (reference.accuracy - rule.accuracy).max()
        cells = [rule.rule, f"{rule.draws:,.0f}", f"{(REFERENCE + N0) / (rule.draws + N0):.1f}", f"{loss:.2f}"]
        lines.append("| " + " | ".join([*cells, *(f"{a:.4f}" for a in rule.accuracy), f"{rule.acr:.4f}"]) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: print the table for one file of certificates."""
    parser = argparse.ArgumentParser(prog="python -m bench.certify.simulation", description=__doc__)
    parser.add_argument("file", type=Path, help="table of certificates, as Cohen et al. (2019) publish them")
    parser.add_argument("--sigma", type=float, required=True, help="noise level of the table, in [0,1] pixel units")
    parser.add_argument("--radii", default="0,0.25,0.5,0.75,1", help="radii to decide (default: %(default)s)")
    parser.add_argument("--alpha", type=float, default=0.001, help="alpha of the rules (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=1000, help="repetitions (default: %(default)s)")
    parser.add_argument("--fixed", default="10000", help="N of Cohen's rule, several (default: %(default)s)")
    options = parser.parse_args(arguments)
    fixed = [int(n) for n in options.fixed.split(",")]
    radii = [float(r) for r in options.radii.split(",")]
    p, correct = published(options.file, options.sigma)
    print(table(p, correct, options.sigma, radii, options.alpha, options.repeats, fixed))


if __name__ == "__main__":
    main()
