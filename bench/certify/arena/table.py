"""The arena's table in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from bench.certify.arena.paths import SELECTION, Images
from bench.certify.arena.scores import REFERENCE, Score, winners


def heads(images: Images) -> list[str]:
    """The columns."""
    lost = [f"r = {r:g}" for r in images.radii]
    return ["rule", "draws", "95 %", "times fewer", *lost, "ACR", "ACR lost", "failure", "fixed before", "later"]


def row(score: Score) -> list[str]:
    """A line of the table."""
    fewer = (REFERENCE + SELECTION) / score.draws
    lost = [f"{max(x, 0.0) if abs(x) < 0.005 else x:.2f}" for x in score.lost]
    return [
        score.facts.rule, f"{score.draws:,.0f}", f"{score.draws_95:,.0f}", f"{fewer:.1f}", *lost,
        f"{score.acr:.3f}", f"{score.acr_lost:.3f}", str(score.failure), score.facts.before, score.facts.later,
    ]  # fmt: skip


def table(images: Images, scores: Sequence[Score], repeats: int) -> str:
    """A title, a row for each rule, and whether a rule of the field beats one of ours."""
    lines = [heads(images), ["---"] * len(heads(images)), *map(row, scores)]
    error = max(score.error for score in scores)
    title = (
        f"{images.name}: sigma = {images.sigma:g}, {len(images.p)} images, {repeats} runs of each; standard errors of "
        f"losses at most {error:.2f} points"
    )
    found = winners(scores)
    verdict = "\n".join(f"{rule} beats {preset}" for rule, preset in found) or "none"
    return "\n".join([
        title, "", *(f"| {' | '.join(line)} |" for line in lines), "",
        f"fewer draws than a rule of ours for known radii, and no more lost at any radius: {verdict}",
    ])  # fmt: skip
