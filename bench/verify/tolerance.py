"""How many votes may differ between a run and its recount, and whether those that do are too many. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

RATE = 0.003  # of votes that differ between a Xeon with and an EPYC without bf16, compiled: the most that is known
_CELL = 4  # times this rate in one cell: samplers of several steps at a high sigma change more than the mean of a run
_BLOCK = 10  # times this rate in one block: an image near a class border changes more often than the others
_RARE = 1e-3  # probability with which rounding alone exceeds a limit


@dataclass(frozen=True)
class Tolerance:
    """The votes that may differ.

    Attributes:
        exact: none may.
        reason: why.
    """

    exact: bool
    reason: str

    def most(self, draws: int, times: float = 1, tests: int = 1) -> int:
        """Most of so many draws that rounding moves, except with the probability `_RARE` in `tests` such limits.

        Parameters:
            times: this many times the known rate.
        """
        if self.exact:
            return 0
        from scipy.stats import binom

        return int(binom.isf(_RARE / tests, draws, RATE * times))


class Vote(NamedTuple):
    """A block that was counted again: its draws, those that gave another class, and votes lost by the true class."""

    cell: str
    draws: int
    moved: int
    lost: int


def tolerance_of(manifest: Mapping[str, Any], counted_on: Sequence[str], here: Sequence[str], torch: str) -> Tolerance:
    """The tolerance of a recount: bit for bit on the same device model with the same torch, or else the known rate.

    Parameters:
        counted_on: names of the devices that counted the blocks of the run.
        here: names of the devices of the recount.
        torch: version of the recount.
    """
    sessions = [manifest, *manifest.get("sessions", ())]
    versions = {str(session.get("libraries", {}).get("torch")) for session in sessions}
    devices = sorted({*counted_on, *here})
    differs = []
    if len(devices) > 1:
        differs.append(f"counted on {' + '.join(sorted(set(counted_on)))}, here on {' + '.join(sorted(set(here)))}")
    if versions != {torch}:
        differs.append(f"counted with torch {' and '.join(sorted(versions))}, here with {torch}")
    if not differs:
        return Tolerance(
            True, f"bit for bit, because device model ({devices[0]}), torch ({torch}) and way to compute are the same"
        )
    return Tolerance(
        False,
        f"{'; '.join(differs)}; the rounding of two devices is known to change up to {RATE:.1%} of the votes "
        "(CIFAR-10, bf16, Intel Xeon and AMD EPYC)",
    )


def excesses(votes: Sequence[Vote], tolerance: Tolerance, names: Mapping[str, str]) -> list[str]:
    """Where more votes differ than may, in sentences; empty if none do.

    In all blocks together, in one cell, in one block, and in their direction: rounding takes as many votes from the
    true class as it gives, an edit that raises accuracy does not.

    Parameters:
        names: of the cells, by key.
    """
    found, draws, moved = [], sum(v.draws for v in votes), sum(v.moved for v in votes)
    if moved > (most := tolerance.most(draws)):
        found.append(f"{moved:,} of {draws:,} votes differ, at most {most:,} may")
    by_cell: dict[str, tuple[int, int]] = {}
    for v in votes:
        before = by_cell.get(v.cell, (0, 0))
        by_cell[v.cell] = before[0] + v.draws, before[1] + v.moved
    for cell, (cell_draws, cell_moved) in by_cell.items():
        if cell_moved > (most := tolerance.most(cell_draws, _CELL, len(by_cell))):
            found.append(f"{names[cell]}: {cell_moved:,} of {cell_draws:,} votes differ, at most {most:,} may")
    local = [v for v in votes if v.moved > tolerance.most(v.draws, _BLOCK, len(votes))]
    if local and not tolerance.exact:
        found.append(f"{len(local):,} blocks have more differing votes each than rounding moves in one")
    signs = [v.lost > 0 for v in votes if v.lost]
    if signs and not tolerance.exact:
        from scipy.stats import binomtest

        if binomtest(sum(signs), len(signs), 0.5, alternative="greater").pvalue < _RARE:
            found.append(
                f"in {sum(signs)} of {len(signs)} blocks that differ in votes of the true class the run has more of "
                "them than the recount; rounding has no such preference"
            )
    return found
