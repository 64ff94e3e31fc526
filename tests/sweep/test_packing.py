"""How blocks are packed into batches, on executors that answer at once with made-up votes."""

import tracemalloc
from concurrent.futures import Future

import numpy as np

from bench.certify.base import Request, Tally
from bench.certify.fixed import FixedN
from bench.certify.sequential import Sequential
from bench.records import Block, Cost, Counts, Task
from bench.store.store import Store
from bench.sweep import preset
from bench.sweep.bookkeeping import CellProgress
from bench.sweep.plan import make_plan
from bench.sweep.scheduler import Observer, sweep


class Doubling:
    """A rule that stops early: asks for 4 more draws until 12, or until the first class has 6."""

    rule, identity, largest = "doubling", "doubling", 0.0

    def missing(self, tally: Tally) -> list[Request]:
        done, votes = tally.uninterrupted("estimate", 12)
        return [] if done == 12 or (votes and votes[0] >= 6) else [Request("estimate", done, 4)]

    def certify(self, tally: Tally) -> None:
        return None


class Scripted:
    """An executor that answers at once: image 0 always hits, others never."""

    workers, slots = 1, 3

    def submit(self, task: Task) -> Future:
        future: Future = Future()
        cost = Cost(0, 0, 0, 0, 0, 0, "none")
        votes = [(b.draws, 0) if b.image == 0 else (0, b.draws) for b in task.blocks]
        future.set_result([Counts(b, v, cost) for b, v in zip(task.blocks, votes, strict=True)])
        return future

    def close(self) -> None:
        pass


def test_a_rule_that_stops_early_gets_no_more_draws_than_it_asks_for(tiny_preset, tmp_path):
    planned = make_plan(preset.load_preset(str(tiny_preset(purifiers=["none"])), {}), "cpu")
    with Store(tmp_path) as store:
        store.begin(planned.cells, {"sweep": [planned.cells[0].key]})
        sweep(planned.cells[:1], lambda cell: Doubling(), {0: 0, 1: 1, 2: 2}, store, Scripted(), 6, Observer())
        tallies = dict(store.tallies(planned.cells[0].key))
    drawn = {image: sum(map(sum, tally.estimate.values())) for image, tally in tallies.items()}
    assert drawn == {0: 8, 1: 12, 2: 12}


class Flipping(Scripted):
    """Answers with as many hits as each image's probability gives, on two workers."""

    workers, slots = 2, 4

    def __init__(self, p):
        self.p, self.rng = p, np.random.default_rng(0)

    def submit(self, task: Task) -> Future:
        future: Future = Future()
        hits = [int(self.rng.binomial(b.draws, self.p[b.image])) for b in task.blocks]
        cost = Cost(0, 0, 0, 0, 0, 0, "none")
        future.set_result([Counts(b, (h, b.draws - h), cost) for b, h in zip(task.blocks, hits, strict=True)])
        return future


def test_batches_stay_full_while_images_finish_at_different_times(tiny_preset, tmp_path):
    planned = make_plan(
        preset.load_preset(str(tiny_preset(purifiers=["none", "onestep-edm", "ddpm:steps=2"])), {}), "cpu"
    )
    p = np.clip(np.random.default_rng(1).beta(3, 0.25, 100), 0.3, 1)
    with Store(tmp_path) as store:
        store.begin(planned.cells, {"sweep": [cell.key for cell in planned.cells]})
        rule = Sequential(0.5, (0.0, 0.25, 0.5, 0.75, 1.0))
        labels = dict.fromkeys(range(100), 0)
        outcome = sweep(planned.cells, lambda cell: rule, labels, store, Flipping(p), 500, Observer())
        tallies = dict(store.tallies(planned.cells[0].key))
    assert outcome.draws > 100 * outcome.batch and outcome.occupancy > 0.9
    draws = {rule.certify(tally).draws for tally in tallies.values()}
    assert len(tallies) == 100 and len(draws) > 10


def test_a_batch_is_filled_from_many_images_and_never_beyond_its_size():
    cell = type("Cell", (), {"key": "k"})()
    progress = CellProgress.resume(cell, FixedN(0.5, 10, 100, 0.001, block=40), dict.fromkeys(range(20), 0), {})
    sizes = []
    while progress.fill(90):
        task = progress.take(90)
        sizes.append(sum(b.draws for b in task.blocks))
    assert max(sizes) <= 90
    assert sum(sizes) == 20 * 110
    assert sum(sizes[:-1]) / (90 * len(sizes[:-1])) > 0.75


def test_a_cell_of_many_draws_keeps_the_votes_of_the_images_that_are_worked_on_and_no_others():
    """N = 100,000 for 60 images of 100 classes would be 60,000 blocks, and 50 MiB."""
    cell, cost = type("Cell", (), {"key": "k"})(), Cost(0, 0, 0, 0, 0, 0, "none")
    progress = CellProgress.resume(cell, FixedN(0.5, 100, 100_000, 0.001), dict.fromkeys(range(60), 0), {})
    tracemalloc.start()
    blocks = decided = 0
    while progress.fill(5000):
        task = progress.take(5000)
        decided += progress.add([Counts(b, tuple([b.draws] + [0] * 99), cost) for b in task.blocks])
        blocks += len(task.blocks)
        assert len(progress.tallies) <= 2 and len(progress.ready) <= 1100
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (blocks, decided) == (60 * 1001, 60) and progress.done
    assert most < 16 * 2**20


def test_a_block_larger_than_the_batch_still_runs():
    cell = type("Cell", (), {"key": "k"})()
    progress = CellProgress.resume(cell, FixedN(0.5, 10, 100, 0.001, block=100), {0: 0}, {0: Tally({0: [10, 0]}, {})})
    assert progress.take(8).blocks == (Block("k", 0, "estimate", 0, 100),)
