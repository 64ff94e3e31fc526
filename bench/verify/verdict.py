"""The answer of a verification, as a record and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

VERIFIED, FAILED, CHECKED = "verified", "not reproduced", "cannot be checked"


@dataclass(frozen=True)
class Recount:
    """The blocks that were counted again.

    Attributes:
        seed, share: of the choice.
        blocks, of_blocks: number of blocks that were counted again, and of the run.
        cells: number of cells that they belong to.
        draws, moved: number of their draws, and of those that gave another class.
        exact: whether no vote may differ.
        limit: most draws that may give another class.
        reason: why so many may.
        changed: number of certificates that change with the recounted votes.
        smallest: number of edited blocks of which this choice contains one with a probability of 95 %.
        device: of the recount.
        seconds: that it took.
    """

    seed: int
    share: float
    blocks: int
    of_blocks: int
    cells: int
    draws: int
    moved: int
    exact: bool
    limit: int
    reason: str
    changed: int
    smallest: int
    device: str
    seconds: float


@dataclass(frozen=True)
class Verification:
    """The result of `verify`. It prints as the command does.

    Attributes:
        run: name of the results folder.
        status: `verified`, `not reproduced` or `cannot be checked`.
        claim: the facts under which the figures hold: data, sigmas, rule.
        problems: contradictions, each with its place.
        missing: what could not be checked, each with its reason and its remedy.
        checked: what follows from the counts.
        notes: facts that a reader should know, and what no verification covers.
        recount: None if nothing was counted again.
        files: SHA-256 of the manifest and of the counts that were checked, by name; empty without exports.
    """

    run: str
    status: str
    claim: str
    problems: tuple[str, ...]
    missing: tuple[str, ...]
    checked: tuple[str, ...]
    notes: tuple[str, ...]
    recount: Recount | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """The verdict, its reasons, and what it covers."""
        covered = "its counts and figures" if self.recount else "only that its figures follow from its counts"
        yield f"{self.status}: {self.run}" + (f" ({covered})" if self.status == VERIFIED else "")
        yield f"claim: {self.claim}"
        for line in self.problems:
            yield f"not reproduced: {line}"
        for line in self.missing:
            yield f"cannot be checked: {line}"
        if self.recount:
            yield from _recount_lines(self.recount)
        for line in self.checked:
            yield f"follows from the counts: {line}"
        for line in self.notes:
            yield f"note: {line}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _recount_lines(r: Recount) -> Iterator[str]:
    yield (
        f"counted again: {r.blocks:,} of {r.of_blocks:,} blocks in {r.cells} cells (share {r.share:g}, seed {r.seed}), "
        f"{r.draws:,} draws, on {r.device}, in {r.seconds:.0f} s"
    )
    yield f"votes that differ: {r.moved:,} ({r.moved / max(r.draws, 1):.3%}); at most {r.limit:,} may: {r.reason}"
    if r.moved:
        yield f"certificates that change with these votes: {r.changed:,}"
    if r.blocks < r.of_blocks:
        yield (
            f"smallest edit that this share finds with 95 %: {r.smallest:,} of {r.of_blocks:,} blocks "
            f"({r.smallest / r.of_blocks:.2%}), wherever they are; --share 1 finds every edit"
            + ("" if r.exact else " of more votes than may differ")
        )
