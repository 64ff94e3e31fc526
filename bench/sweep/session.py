"""The sessions of a run: what each may count, and what the manifest keeps of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.store import Store
from bench.store.races import RACE
from bench.sweep.plan import Plan
from bench.sweep.scheduler import Outcome

_SESSION = ("started", "purifybench", "git", "python", "libraries", "platform", "devices")  # facts of one session


@dataclass(frozen=True)
class Session:
    """A run that is about to count: its plan, its open folder, and `count`, which a driver calls once or more often.

    Attributes:
        record: the manifest; what a driver adds to it is stored at the end, and with `store.describe`.
        count: `bench.sweep.scheduler.sweep` in this session, of some cells, their rules, and labels of some images;
            `observer` and `stop` replace those of the session.
        costs: waits for the static costs, and returns them.
    """

    planned: Plan
    store: Store
    workers: int
    stop: Callable[[], bool]
    record: dict[str, Any]
    count: Callable[..., Outcome]
    costs: Callable[[], dict[str, Any]]


def count_all(session: Session) -> Outcome:
    """Count every image of every cell."""
    return session.count(session.planned.cells, session.planned.certifier, session.planned.labels)


def with_sessions(record: dict[str, Any], before: dict[str, Any], blocks: int) -> dict[str, Any]:
    """The new manifest with the sessions and the pixel hashes of the one before.

    Parameters:
        blocks: stored at the beginning of this session. An earlier session with as many stored none, and is dropped.
    """
    earlier = before.get("sessions") or ([{k: before.get(k) for k in _SESSION}] if before else [])
    earlier = [session for session in earlier if session.get("blocks") != blocks]
    sessions = [*earlier, {**{k: record[k] for k in _SESSION}, "blocks": blocks}]
    kept = {RACE: before[RACE]} if RACE in before else {}
    return {**record, **kept, "sessions": sessions, "pixels": before.get("pixels", {}) | record["pixels"]}


def without_latest(record: dict[str, Any]) -> dict[str, Any]:
    """The manifest without its latest session, which counted nothing."""
    *earlier, _ = record["sessions"]
    return {**record, **{k: earlier[-1][k] for k in _SESSION}, "sessions": earlier} if earlier else record
