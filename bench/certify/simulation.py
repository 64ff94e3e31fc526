"""Simulate the cost and the loss of certification rules on images with known pA.

`python -m bench.certify.simulation FILE --sigma S` reads pA from published certificates (Cohen et al. 2019). For each
preset of the sequential rule it prints the mean draws per image, the certified accuracy and average certified radius,
and the largest loss of accuracy against Cohen's rule with N = 100,000. No network runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, ndtri
from scipy.stats import binom

from bench.certify.boundaries import PRESETS, boundaries
from bench.certify.sequential import fine_family, promising
from bench.files import MOST_TEXT, open_file

_Floats = NDArray[np.float64]
_REFERENCE = 100_000  # N of the rule used as reference
_N0 = 100  # selection draws of every rule
_CHUNK = 1 << 20  # images simulated at once; bounds the memory


@dataclass(frozen=True, eq=False)
class _Outcome:
    """Averages of a rule over images and repetitions.

    Attributes:
        rule: name of the rule.
        draws: mean estimation draws per image, without the N0 selection draws that every rule needs.
        accuracy `[J]`: certified accuracy at each radius.
        acr: average certified radius.
    """

    rule: str
    draws: float
    accuracy: _Floats
    acr: float


def _published(path: Path, sigma: float, alpha: float = 0.01, n: int = 100_000) -> tuple[_Floats, NDArray[np.bool_]]:
    """The `pA [M]` to simulate, and whether the predicted class is correct `[M]`, from a published table.

    Each radius is inverted to its number of hits (to its three printed digits), and `pA = hits / n`. Abstentions get
    values of pA spread evenly over [0.3, 0.5] and count as incorrect.

    Parameters:
        path: tab-separated `idx label predict radius correct time`, as Cohen et al. publish them.
        alpha, n: the constants of the table. The largest radii in the files of 2019 imply alpha = 0.01.
    """
    import pandas as pd

    with open_file(path, MOST_TEXT) as file:
        log = pd.read_csv(file, sep="\t")
    abstained = (log["predict"] < 0).to_numpy()
    correct = (log["correct"] == 1).to_numpy() & ~abstained
    hits = np.arange(n // 2, n + 1)
    radii = sigma * ndtri(betaincinv(hits, n - hits + 1, alpha))
    p = hits[np.searchsorted((radii[1:] + radii[:-1]) / 2, log["radius"])] / n
    p[abstained] = np.linspace(0.3, 0.5, abstained.sum())
    return p, correct


@dataclass(frozen=True, eq=False)
class _Study:
    """Images with known pA, on which rules are simulated.

    Attributes:
        p `[M]`: probability of the class that the selection chooses; it is assumed to choose no other.
        correct `[M]`: whether this class is the true one.
        sigma: standard deviation of the noise, in [0,1] pixel units.
        radii: at which accuracy is compared, L2 in [0,1] pixel units.
        alpha: of the simulated rules.
    """

    p: _Floats
    correct: NDArray[np.bool_]
    sigma: float
    radii: Sequence[float]
    alpha: float

    def cohen(self, n: int, repeats: int = 1000, seed: int = 0) -> _Outcome:
        """Cohen's rule with `n` draws: accuracy is exact (binomial tail), ACR is simulated `repeats` times."""
        t = ndtr(np.asarray(self.radii) / self.sigma)
        needed = binom.isf(self.alpha, n, t) + 1  # fewest hits whose Clopper-Pearson bound reaches t
        reached = binom.sf(needed - 1, n, self.p[:, None])
        hits = np.arange(1, n + 1)
        radius = np.concatenate([[0], self.sigma * np.maximum(ndtri(betaincinv(hits, n - hits + 1, self.alpha)), 0)])
        rng = np.random.default_rng(seed)
        acr = np.mean([(radius[rng.binomial(n, self.p)] * self.correct).mean() for _ in range(repeats)])
        return _Outcome(f"cohen N = {n:,}", n, (reached * self.correct[:, None]).mean(axis=0), float(acr))

    def sequential(self, preset: str, repeats: int = 1000, seed: int = 0) -> _Outcome:
        """A preset of the sequential rule, simulated `repeats` times."""
        constants, sigma = PRESETS[preset], self.sigma
        family = fine_family(self.radii, sigma) if constants.worth else self.radii
        b = boundaries(sigma, family, self.alpha, constants)
        rng = np.random.default_rng(seed)
        draws, accuracy, radius_sum = 0, np.zeros(len(self.radii)), 0.0
        order = np.tile(np.arange(len(self.p)), repeats)
        radius = np.concatenate([[0.0], b.radii])  # indexed by the number of proved radii
        for start in range(0, len(order), _CHUNK):
            image = order[start : start + _CHUNK]
            hits, proved = np.zeros(len(image), dtype=np.int64), np.zeros(len(image), dtype=np.int64)
            top = np.full(len(image), np.count_nonzero(b.alive))
            running, before = np.flatnonzero(proved < top), 0
            for k, n in enumerate(b.looks):
                hits[running] += rng.binomial(n - before, self.p[image[running]])
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
            accuracy += (self.correct[image, None] & (claimed[:, None] >= np.asarray(self.radii))).sum(axis=0)
            radius_sum += float((radius[proved] * self.correct[image]).sum())
        return _Outcome(preset, draws / len(order), accuracy / len(order), radius_sum / len(order))

    def table(self, repeats: int, fixed: Sequence[int]) -> str:
        """A Markdown table of all presets and Cohen's rule: draws, and loss against Cohen's rule with N = 100,000.

        `times fewer` includes the N0 selection draws of both rules; `mean draws` does not.

        Parameters:
            fixed: further numbers of draws of Cohen's rule.
        """
        reference = self.cohen(_REFERENCE, repeats)
        rules = [self.sequential(preset, repeats) for preset in PRESETS]
        rules += [self.cohen(n, repeats) for n in fixed]
        columns = ("rule", "mean draws", "times fewer", "largest loss (points)")
        heads = [*columns, *(f"r = {r:g}" for r in self.radii), "ACR"]
        rows = [heads]
        for rule in (*rules, reference):
            loss = 100 * (reference.accuracy - rule.accuracy).max()
            cells = [rule.rule, f"{rule.draws:,.0f}", f"{(_REFERENCE + _N0) / (rule.draws + _N0):.1f}", f"{loss:.2f}"]
            rows.append([*cells, *(f"{a:.4f}" for a in rule.accuracy), f"{rule.acr:.4f}"])
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


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
    radii = [float(r) for r in options.radii.split(",")]
    study = _Study(*_published(options.file, options.sigma), options.sigma, radii, options.alpha)
    print(study.table(options.repeats, [int(n) for n in options.fixed.split(",")]))


if __name__ == "__main__":
    main()
