"""The scheduler under anything that can happen to it: every block is counted once, none is lost, certificates agree.

Votes are a function of (cell, image, stage, draw): any packing has the same counts, and a plain loop is the reference.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from chaos import FREE, Chaos, Tallying, cases, executors, votes_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.records import Block, Counts, Task
from bench.store.store import Store
from bench.sweep.bookkeeping import CellProgress


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield lambda: Path(tempfile.mkdtemp(dir=path))


thorough = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@thorough
@given(case=cases(), executor=executors())
def test_every_block_is_counted_once_and_certificates_are_those_of_a_plain_loop(folder, case, executor):
    observer = Tallying()
    with Store(folder()) as store:
        store.begin(case.cells, {})
        outcome = case.run(store, executor, observer)
        case.check(store)
    assert not outcome.errors and not outcome.stopped and not executor.pending
    assert set(executor.counted.values()) <= {1}
    assert outcome.draws == sum(block.draws for block in executor.counted)
    assert outcome.batches == executor.answered
    assert executor.largest <= case.batch
    assert observer.ended == dict.fromkeys((cell.key for cell in case.cells), None)
    assert observer.decided == Counter({cell.key: len(case.labels) for cell in case.cells})


@thorough
@given(case=cases(), executor=executors(), data=st.data())
def test_a_cell_that_fails_at_any_moment_takes_nothing_from_the_others(folder, case, executor, data):
    executor.faulty = frozenset(data.draw(st.sets(st.sampled_from([cell.key for cell in case.cells]), min_size=1)))
    with Store(folder()) as store:
        store.begin(case.cells, {})
        outcome = case.run(store, executor)
        assert outcome.errors.keys() <= executor.faulty
        case.check(store, but=frozenset(outcome.errors))
    assert set(executor.counted.values()) <= {1}


@thorough
@given(case=cases(), tries=st.lists(executors(crash=st.integers(1, 12)), max_size=4), data=st.data())
def test_a_sweep_that_dies_or_is_stopped_again_and_again_ends_with_the_same_counts(folder, case, tries, data):
    stops = data.draw(st.lists(st.integers(0, 20), min_size=len(tries), max_size=len(tries)))
    counted: Counter[Block] = Counter()
    place = folder()
    for executor, patience in zip(tries, stops, strict=True):
        asked = iter(range(10**9))
        with Store(place) as store:
            store.begin(case.cells, {})
            try:
                case.run(store, executor, stop=lambda n=asked, most=patience: next(n) >= most)
            except RuntimeError:
                lost = sum(executor.counted.values())  # what came back together with the crash is stored, too
                stored = sum(len(t.select) + len(t.estimate) for c in case.cells for t in store.tallies(c.key).values())
                assert stored == sum(counted.values()) + lost
        counted += executor.counted
    with Store(place) as store:
        store.begin(case.cells, {})
        last, observer = Chaos(0, 2, 4), Tallying()
        case.run(store, last, observer)
        case.check(store)
    assert observer.decided == Counter({cell.key: len(case.labels) for cell in case.cells})
    assert set((counted + last.counted).values()) <= {1}  # what was stored is never asked for again


@thorough
@given(case=cases(), seed=st.integers(0, 2**32), capacities=st.lists(st.integers(1, 80), min_size=1, max_size=8))
def test_a_cell_may_be_taken_in_batches_of_changing_size_and_given_back_in_any_order(case, seed, capacities):
    rng, cell = random.Random(seed), case.cells[0]
    progress = CellProgress.resume(cell, case.rules[cell.key], case.labels, {})
    flying: list[Task] = []
    seen: Counter[Block] = Counter()
    while not progress.done:
        if progress.fill(1) and (not flying or rng.random() < 0.6):
            flying.append(progress.take(rng.choice(capacities)))
            seen.update(flying[-1].blocks)
        else:
            task = flying.pop(rng.randrange(len(flying)))
            progress.add([Counts(block, votes_of(block), FREE) for block in task.blocks])
    assert not flying
    alone = {image: case.alone(cell, image) for image in case.labels}
    blocks = {(b.image, b.stage, b.first): votes_of(b) for b in seen}
    expected = {
        (image, stage, first): votes
        for image, tally in alone.items()
        for stage in ("select", "estimate")
        for first, votes in getattr(tally, stage).items()
    }
    assert blocks == expected and set(seen.values()) <= {1}
