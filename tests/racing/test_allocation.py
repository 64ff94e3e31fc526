"""Races on made-up images: who is dropped, how races end, what they spend."""

from __future__ import annotations

import numpy as np
import pytest

from bench.racing.allocation import Seen, run_race
from bench.racing.forecast import forecast
from bench.racing.replay import Stored, Traces
from bench.store.races import Race, race_of


def world(shares, images=300, seed=0, common=0.9):
    """Verdicts `[K, images]` of candidates with such accuracies, which agree on most images."""
    rng = np.random.default_rng(seed)
    shared, own = rng.random(images), rng.random((len(shares), images))
    difficulty = np.where(rng.random((len(shares), images)) < common, shared, own)
    return (difficulty < np.array(shares)[:, None]).astype(float)


def traces(certified, draws=50, first=None):
    """Traces with one level; with `first` a lower level before it, at which this share of the images is open."""
    low, high, made = certified[:, None], certified[:, None], np.full(certified[:, None].shape, draws)
    if first is not None:
        is_open = np.random.default_rng(9).random(certified.shape) < first
        low = np.stack([np.where(is_open, 0.0, certified), certified], 1)
        high = np.stack([np.where(is_open, 1.0, certified), certified], 1)
        made = np.stack([np.full(certified.shape, draws), np.where(is_open, 20 * draws, draws)], 1)
    return Traces(low, high, made)


def new_race(candidates, images=300, margin=0.02):
    return Race(0.5, margin, 0.05, "", list(range(images)), 0, 10**6, [f"c{k}" for k in range(candidates)], {}, [], [])


def raced(certified, seed=0, margin=0.02, costs=None, **options):
    k, images = certified.shape
    order = np.random.default_rng(seed).permutation(images)
    source = Stored(traces(certified, **options), order)
    return run_race(new_race(k, images, margin), source, costs or [1.0] * k)


def test_beaten_candidates_are_dropped_with_their_evidence_and_cost_nothing_afterwards():
    race = raced(world([0.9, 0.5, 0.45, 0.1]))
    assert (race.ended, race.chosen) == ("one", "c0")
    assert {d.cell for d in race.dropped} == {"c1", "c2", "c3"}
    assert all(d.rival and d.won > d.lost and d.p <= 0.025 for d in race.dropped)
    last = race.rounds[-1]
    assert last.draws < 4 * 50 * last.images < 4 * 50 * 300
    assert all(set(b.standing) <= set(a.standing) for a, b in zip(race.rounds, race.rounds[1:], strict=False))


def test_of_candidates_that_are_alike_the_cheapest_is_chosen():
    same = world([0.8], images=400).repeat(3, axis=0)
    race = raced(same, costs=[3.0, 1.0, 2.0])
    assert (race.ended, race.chosen) == ("alike", "c1")
    assert set(race.within) == {"c0", "c1", "c2"}
    assert race.rounds[-1].images < 400


def test_without_a_margin_equal_candidates_need_all_images():
    race = raced(world([0.8]).repeat(2, axis=0), margin=0.0, costs=[2.0, 1.0])
    assert (race.ended, race.chosen, race.rounds[-1].images) == ("all", "c1", 300)


def test_one_image_decides_between_candidates_once_all_are_drawn():
    certified = world([0.8]).repeat(2, axis=0)
    certified[0, np.flatnonzero(certified[0] == 0)[0]] = 1
    assert raced(certified, margin=0.0).chosen == "c0"


def test_open_images_are_drawn_further_only_when_images_no_longer_help():
    """A clear difference is found at the first level; candidates that are alike need the second."""
    clear = raced(world([0.95, 0.3]), first=0.1)
    assert clear.ended == "one" and {r.level for r in clear.rounds} == {0}
    close = raced(world([0.8]).repeat(2, axis=0), first=0.1)
    assert close.ended == "alike" and close.rounds[-1].level == 1
    assert close.rounds[0].level == 0


def test_the_best_is_dropped_in_at_most_five_percent_of_races():
    certified = world([0.80, 0.79, 0.79, 0.78, 0.77, 0.6], images=200, common=0.5)
    best = {f"c{k}" for k in np.flatnonzero(certified.sum(1) == certified.sum(1).max())}
    races = [raced(certified, seed=i, margin=0.05) for i in range(200)]
    assert sum(any(d.cell in best for d in race.dropped) for race in races) <= 10
    shares = certified.mean(1)
    behind = [shares.max() - shares[int(str(race.chosen)[1:])] for race in races]
    assert sum(b >= 0.05 for b in behind) <= 10


class Broke:
    """A source whose budget ends, or whose candidates fail."""

    levels = 1

    def __init__(self, certified, over=False, out=None):
        self.certified, self.over, self.out = certified, over, out or {}

    def look(self, candidates, images, level):
        return Seen(self.certified[:, :images], self.certified[:, :images], images, 1.0, self.over, self.out)


def test_a_spent_budget_names_the_highest_and_keeps_the_others():
    race = run_race(new_race(2), Broke(world([0.7, 0.72]), over=True), [1.0, 1.0])
    assert race.ended == "budget" and race.left == ["c0", "c1"] and len(race.rounds) == 1


def test_failed_candidates_leave_with_their_reason():
    race = run_race(new_race(2), Broke(world([0.9, 0.2]), out={0: "it raised"}), [1.0, 1.0])
    assert (race.ended, race.chosen) == ("one", "c1")
    assert [(d.cell, d.rival, d.reason) for d in race.dropped] == [("c0", None, "it raised")]
    assert run_race(new_race(1), Broke(world([0.9]), out={0: "x"}), [1.0]).ended == "failed"


def test_a_forecast_says_how_many_draws_would_end_the_race():
    certified = world([0.8, 0.72, 0.5], images=400)
    race = run_race(new_race(3, 400), Broke(certified[:, :60], over=True), [1.0] * 3)
    known = certified.copy()
    found = forecast(race, known, known, np.full(known.shape, 50))
    assert found is not None and sum(found.endings.values()) == 20 and "budget" not in found.endings
    assert 0 < found.draws[0] <= found.draws[1] <= 50 * 2 * 400


def test_a_race_is_read_from_a_manifest_as_it_was_written():
    race = raced(world([0.9, 0.5]))
    assert race_of({"race": race.record()}) == race
    assert race_of({}) is None
    assert race_of({"race": {**race.record(), "radius": "far"}}) is None


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_race_of_one_candidate_ends_at_once(share):
    assert raced(world([share])).ended == "one"
