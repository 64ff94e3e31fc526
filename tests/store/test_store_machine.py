"""Whatever happens to a store, in whatever order: no block that was stored is lost, and none is counted twice."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stored import make_manifest

from bench.certify.base import Tally
from bench.records import Block, Cell, Cost, Counts, Stage
from bench.store.database import DATABASE, StoreError
from bench.store.repair import repair
from bench.store.run import MANIFEST, PARQUET, export, read_run
from bench.store.store import Store

COST = Cost(10, 10, 0.25, 0.5, 0.125, 1 << 30, "CPU")
CELLS = [Cell(name, {}, "cnn", {}, "mnist5k", "data", 0.5, 0, "fp32", "cpu", {"noise": "n"}) for name in ("a", "b")]
Place = tuple[int, int, Stage, int]  # cell, image, stage, first draw

places = st.tuples(
    st.integers(0, len(CELLS) - 1), st.integers(0, 1), st.sampled_from(["select", "estimate"]), st.sampled_from([0, 10])
)
blocks = st.lists(st.tuples(places, st.integers(0, 10)), min_size=1, max_size=8)


class StoreMachine(RuleBasedStateMachine):
    """The store beside a dictionary: the first votes that are given for a place are its votes, for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="purifybench-store-"))
        self.folder = self.root / "0"
        self.copies = 0
        self.stored: dict[Place, tuple[int, ...]] = {}
        self.errors: dict[int, str] = {}
        self.store: Store | None = None

    def teardown(self) -> None:
        self.close()
        shutil.rmtree(self.root)

    @initialize()
    def start(self) -> None:
        self.reopen()

    @precondition(lambda self: self.store is not None)
    @rule(given=blocks)
    def add(self, given: list[tuple[Place, int]]) -> None:
        """Some blocks in one transaction, perhaps the same one several times, perhaps with other votes than before."""
        assert self.store is not None
        counts = []
        for (cell, image, stage, first), hits in given:
            votes = (hits, 10 - hits)
            counts.append(Counts(Block(CELLS[cell].key, image, stage, first, 10), votes, COST))
            self.stored.setdefault((cell, image, stage, first), votes)
        self.store.add(counts)

    @precondition(lambda self: self.store is not None)
    @rule(cell=st.integers(0, len(CELLS) - 1))
    def fail(self, cell: int) -> None:
        assert self.store is not None
        self.store.fail(CELLS[cell].key, f"cell {cell} failed")
        self.errors[cell] = f"cell {cell} failed"

    @rule()
    def close(self) -> None:
        if self.store is not None:
            self.store.__exit__()
            self.store = None

    @precondition(lambda self: self.store is None)
    @rule()
    def reopen(self) -> None:
        self.store = Store(self.folder)
        self.begin()

    @precondition(lambda self: self.store is not None)
    @rule()
    def begin(self) -> None:
        """The same command once more: failures are forgotten, counts are not."""
        assert self.store is not None
        self.store.begin(CELLS, make_manifest(*CELLS, labels={}))
        self.errors.clear()

    @precondition(lambda self: self.store is not None)
    @rule(index_too=st.booleans())
    def crash(self, index_too: bool) -> None:
        """The files as they lie, nothing closed, perhaps without the journal's index, which needs no care."""
        self.copies += 1
        other = self.root / str(self.copies)
        shutil.copytree(self.folder, other)
        if not index_too:
            (other / f"{DATABASE}-shm").unlink(missing_ok=True)
        self.close()
        self.folder = other

    @precondition(lambda self: self.store is None and self.stored and (self.folder / DATABASE).is_file())
    @rule(cell=st.integers(0, 10**6))
    def flip_and_repair(self, cell: int) -> None:
        """Votes that changed on the disk: noticed; their block alone is lost, unless exports hold it."""
        place = sorted(self.stored)[cell % len(self.stored)]
        db = sqlite3.connect(self.folder / DATABASE)
        where = (CELLS[place[0]].key, *place[1:])
        db.execute("UPDATE blocks SET votes = '[5, 6]' WHERE (cell, image, stage, first) = (?, ?, ?, ?)", where)
        db.commit()
        db.close()
        with pytest.raises(StoreError, match="bench doctor --repair"):
            read_run(self.folder)
        repaired = repair(self.folder)
        assert repaired.damaged == 1
        if repaired.kept < len(self.stored) or not (self.folder / MANIFEST).is_file():  # not in the exports
            assert repaired.kept == len(self.stored) - 1
            del self.stored[place]

    @precondition(lambda self: self.store is None and (self.folder / DATABASE).is_file())
    @rule()
    def repair_what_is_whole(self) -> None:
        assert repair(self.folder).backup is None

    @precondition(lambda self: self.store is None)
    @rule()
    def keep_the_exports_only(self) -> None:
        """As a committed run: the database is gone, and is made anew from the exports."""
        export(read_run(self.folder))
        self.copies += 1
        other = self.root / str(self.copies)
        other.mkdir()
        for name in (MANIFEST, PARQUET):
            shutil.copy(self.folder / name, other / name)
        self.folder = other

    @rule()
    def a_second_run_is_refused(self) -> None:
        if self.store is not None:
            with pytest.raises(StoreError, match="another run is writing"):
                Store(self.folder)

    @invariant()
    def everything_is_there_once(self) -> None:
        if not any((self.folder / name).exists() for name in (DATABASE, MANIFEST)):
            return
        run = read_run(self.folder)
        index = {cell.key: i for i, cell in enumerate(CELLS)}
        rows = run.blocks[["cell", "image", "stage", "first", "votes"]].values.tolist()
        assert len(rows) == len(self.stored)
        assert {(index[c], i, s, f): tuple(votes) for c, i, s, f, votes in rows} == self.stored
        assert {index[key]: error for key, error in run.errors.items()} == self.errors

    @invariant()
    def tallies_say_the_same(self) -> None:
        if self.store is None:
            return
        assert self.store.size() == len(self.stored)
        for i, cell in enumerate(CELLS):
            expected: dict[int, Tally] = {}
            for (owner, image, stage, first), votes in self.stored.items():
                if owner == i:
                    getattr(expected.setdefault(image, Tally({}, {})), stage)[first] = votes
            assert self.store.tallies(cell.key) == expected


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=15, stateful_step_count=20)
