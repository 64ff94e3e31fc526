"""The sessions of a run: what each may count, and what the manifest keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bench.executors import Executor
from bench.records import Cell
from bench.store import Store
from bench.store.races import RACE
from bench.sweep.costs import weigh_cells
from bench.sweep.plan import Plan
from bench.sweep.scheduler import Outcome
from bench.sweep.stop import Stop
from bench.sweep.trust import Trust, check_plugins

_SESSION = ("started", "purifybench", "git", "python", "libraries", "platform", "devices")  # facts of one session


@dataclass
class Session:
    """A run that is about to count: its plan, its open folder, and what a driver calls.

    Attributes:
        record: the manifest; what a driver adds to it is stored at the end, and with `store.describe`.
        before: that of the earlier sessions; empty for a new run.
        unfinished: keys of the cells that lack draws.
        stop: whether the user, or the time limit, stops the session.
        count: `bench.sweep.scheduler.sweep` in this session, of some cells, their rules, and labels of some images;
            `observer` and `stop` replace those of the session.
        costs: waits for the static costs, and returns them; after `check`.
    """

    planned: Plan
    store: Store
    executor: Executor
    record: dict[str, Any]
    before: dict[str, Any]
    unfinished: set[str]
    trust: Trust
    stop: Stop
    count: Callable[..., Outcome]
    notify: Callable[[str], object]
    costs: Callable[[], dict[str, Any]] = dict

    def check(self, cells: Iterable[Cell]) -> None:
        """Check the plugins of the cells that will be counted, and begin to count their FLOPs."""
        unfinished = self.unfinished & {cell.key for cell in cells}
        check_plugins(self.planned, self.executor, unfinished, self.trust, self.notify, lambda: self.stop.received)
        self.costs = weigh_cells(self.planned, self.executor, self.before, self.notify)


def count_all(session: Session) -> Outcome:
    """Count every image of every cell."""
    session.check(session.planned.cells)
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
