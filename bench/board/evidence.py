"""Who vouches for a submission: verifications, the run's own audit, attacks, and what a reader should know. Pure."""

from __future__ import annotations

import re
import shlex
from typing import Any

from bench.board.submission import BUNDLES, Submission
from bench.store.attacks import Attacks
from bench.summary import Summary
from bench.summary.format import images_text, listed, number_of, percent
from bench.verify import FAILED, VERIFIED, VerificationRecord

_SPACES = re.compile(r"[^\w.-]+")
_STATES = {VERIFIED: "good", FAILED: "bad"}


def evidence(name: str, submission: Submission, summary: Summary) -> dict[str, Any]:
    """A submission as the page shows it.

    Parameters:
        name: of the run in the summary.
    """
    audit = summary.evidence.get(name, "no audit")
    notes = [note.removeprefix(f"{name}: ") for note in summary.notes if note.startswith(f"{name}: ")]
    manifest, rows = submission.run.manifest, summary.table[summary.table["run"] == name]
    failed = int(rows["error"].notna().sum())
    return {
        "name": name,
        "id": f"run-{_SPACES.sub('_', submission.bundle.removesuffix('.zip'))}",
        "rows": number_of(len(rows), "row") + (f", {failed} failed" if failed else ""),
        "images": images_text(int(images) for images in rows["images"]),
        "sigmas": listed((f"{sigma:g}" for sigma in sorted(rows["sigma"].unique())), 8),
        "date": str(manifest.get("ended", ""))[:10],
        "version": str(manifest.get("purifybench", "")),
        "revision": str(manifest.get("git") or "")[:12],
        "devices": sorted(set(rows["device"].dropna())),
        "bundle": f"{BUNDLES}/{submission.bundle}",
        "command": f"bench verify {shlex.quote(f'{BUNDLES}/{submission.bundle}')} --share 0.02",
        "megabytes": f"{submission.size / 1e6:.1f}",
        "digest": submission.digest,
        "verifications": [_verification(record) for record in submission.records],
        "badge": _badge(submission),
        "audit": audit,
        "attack": _attack(submission.attacks),
        "remarks": [note for note in notes if note != audit],
    }


def _badge(submission: Submission) -> dict[str, str]:
    """The strongest of the verifications, in three words; a contradiction is never hidden by another record."""
    states = {record.verification.status for record in submission.records}
    if FAILED in states:
        return {"state": "bad", "words": "not reproduced"}
    if submission.recounted:
        return {"state": "good", "words": f"{_share(submission.recounted)} recounted"}
    return {"state": "plain", "words": "not recounted"}


def _share(share: float) -> str:
    """A share of blocks; a small one is never rounded to nothing."""
    return percent(share, 1) if share >= 0.001 else "under 0.1 %"


def _verification(record: VerificationRecord) -> dict[str, str]:
    """A record in a sentence."""
    found, again = record.verification, record.verification.recount
    who = f"{record.date[:10]}, by {record.by}" if record.by else record.date[:10]
    if again is None:
        words = "its figures against its counts only"
    else:
        moved = "no vote differs" if not again.moved else f"{again.moved:,} votes differ, of at most {again.limit:,}"
        words = (
            f"{again.blocks:,} of {again.of_blocks:,} blocks ({_share(again.blocks / max(1, again.of_blocks))}, seed "
            f"{again.seed}) counted again on {again.device}: {again.draws:,} draws, {moved}"
        )
        if again.blocks < again.of_blocks:
            words += f"; an edit of {again.smallest:,} blocks or more would have been found with a probability of 95 %"
    reasons = listed([*found.problems, *found.missing], 2)
    return {
        "state": _STATES.get(found.status, "plain"),
        "status": found.status,
        "who": who,
        "words": f"{words}. {reasons}" if reasons else words,
    }


def _attack(attacks: Attacks | None) -> dict[str, Any]:
    """The certificates that were attacked and broken, and how many of those tried are expected to be wrong at most."""
    if attacks is None or not attacks.cells:
        return {"tried": 0, "words": "not attacked"}
    tried = sum(len(cell.images) for cell in attacks.cells)
    broken = sum(cell.broken for cell in attacks.cells)
    return {
        "tried": tried,
        "words": f"{broken:,} of {number_of(tried, 'certificate')} broken (at most {attacks.alpha * tried:.2g} "
        f"expected), {number_of(len(attacks.cells), 'row')}, {attacks.attack}, "
        f"{number_of(attacks.restarts, 'restart')}",
        "state": "bad" if broken > attacks.alpha * tried else "good",
    }
