"""The sequential certifier: its guarantee, its state machine and the cache of its boundaries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bench.certify.sequential
from bench.certify.base import Tally
from bench.certify.boundaries import PRESETS, Boundaries, Constants, boundaries
from bench.certify.fixed import FixedN
from bench.certify.sequential import Sequential, _cached_boundaries, fine_family

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
SMALL = Constants(lambda0=300.0, power=0.5, n_max=400, n_first=10)
WORTH = Constants(lambda0=100.0, power=0.0, n_max=400, n_first=10, worth=300.0)  # stops by the worth of radii
TINY = Constants(lambda0=30.0, power=0.5, n_max=40, n_first=8)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the tests' own."""
    folder = tmp_path_factory.mktemp("cache") / "made-when-needed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.certify.sequential, "_cache_folder", lambda: folder)
        yield folder


def small(**changes: Any) -> Sequential:
    """Three radii and a dead one, in a few hundred draws at most."""
    return replace(Sequential(0.5, (0.0, 0.1, 0.3, 2.0), n0=20, alpha=0.05, preset=SMALL, block=16), **changes)


def run(certifier: Sequential, path: np.ndarray, beyond: bool = False, label: int | None = None) -> Tally:
    """Answer a certifier's requests from `path` (one 0/1 per estimation draw, 1 = the selected class)."""
    select: dict[int, tuple[int, int]] = {}
    estimate: dict[int, tuple[int, int]] = {}
    tally = Tally(select, estimate, label=label)
    while requests := certifier.missing(tally):
        for r in requests:
            hits = r.draws if r.stage == "select" else int(path[r.first : r.first + r.draws].sum())
            stored = select if r.stage == "select" else estimate
            assert r.first not in stored and r.draws <= certifier.block
            stored[r.first] = (r.draws - hits, hits)
    if beyond:
        draws = sum(map(sum, estimate.values()))
        estimate[draws] = (0, certifier.constants.n_max)
    return tally


@pytest.mark.parametrize("changes", [{}, {"preset": WORTH, "radii": fine_family((0.1,), 0.5)}, {"n_max": 250}])
def test_certificates_claim_too_much_with_probability_alpha_at_most(changes: dict[str, Any]) -> None:
    certifier, rng, images = small(**changes), np.random.default_rng(5), 1500
    p = certifier.boundaries.thresholds[certifier.radii.index(0.1)]  # so a claim of the radius 0.1 or more is false
    draws = rng.random((images, SMALL.n_max)) < p
    claims = [certifier.certify(run(certifier, path)) for path in draws]
    false = np.mean([c is not None and c.radius >= 0.1 for c in claims])
    assert false <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / images)


def test_an_unknown_preset_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"'tigth'.*parity, tight, half-point, fast"):
        Sequential(0.5, RADII, preset="tigth")


def test_radii_out_of_reach_are_dead_from_the_start() -> None:
    b = boundaries(0.25, RADII, 0.001, PRESETS["tight"])
    assert b.alive.tolist() == [True] * 4 + [False]
    assert b.crossing[-1] == 0 and (b.upper[-1] == b.looks + 1).all()
    hopeless = Sequential(0.25, (1.0, 1.2))
    certificate = hopeless.certify(run(hopeless, np.ones(10)))
    assert certificate is not None and certificate.predicted is None and certificate.draws == 0
    # Every draw a hit: the largest radius that is alive is proved.
    sure = small()
    certificate = sure.certify(run(sure, np.ones(SMALL.n_max, dtype=int)))
    assert certificate is not None and (certificate.predicted, certificate.radius) == (1, 0.3)


def test_radius_zero_claims_only_that_the_class_has_a_majority() -> None:
    certifier = small(radii=(0.0,))
    rng = np.random.default_rng(0)
    proved = certifier.certify(run(certifier, rng.random(SMALL.n_max) < 0.8))
    assert proved is not None and (proved.predicted, proved.radius, proved.p_lower) == (1, 0.0, 0.5)
    abstained = certifier.certify(run(certifier, rng.random(SMALL.n_max) < 0.3))
    assert abstained is not None and abstained.predicted is None and abstained.draws < SMALL.n_max


@settings(max_examples=60)
@given(
    p=st.floats(0.2, 1),
    seed=st.integers(0, 2**32 - 1),
    block=st.integers(1, 70),
    cut=st.floats(0, 1),
    preset=st.sampled_from([SMALL, WORTH]),
)
def test_any_stored_prefix_resumes_to_the_same_certificate(
    p: float, seed: int, block: int, cut: float, preset: Constants
) -> None:
    certifier = small(block=block, preset=preset)
    path = np.random.default_rng(seed).random(SMALL.n_max) < p
    tally = run(certifier, path)
    certificate = certifier.certify(tally)
    assert certificate is not None and certificate.draws in (0, *SMALL.looks)
    assert certificate.draws == sum(map(sum, tally.estimate.values()))
    assert certifier.certify(run(certifier, path, beyond=True)) == certificate

    firsts = sorted(tally.estimate)
    kept = {first: tally.estimate[first] for first in firsts[: int(cut * len(firsts))]}
    resumed = Tally(tally.select, kept)
    if len(kept) < len(firsts):
        assert certifier.certify(resumed) is None
    while requests := certifier.missing(resumed):
        for r in reversed(requests):  # blocks return in any order
            assert r.stage == "estimate" and sum(tally.estimate[r.first]) == r.draws
            kept[r.first] = tally.estimate[r.first]
            assert r not in certifier.missing(resumed)
    assert resumed.estimate == tally.estimate and certifier.certify(resumed) == certificate


@settings(max_examples=60)
@given(p=st.floats(0.3, 1), seed=st.integers(0, 2**32 - 1))
def test_the_certificate_equals_a_direct_evaluation_of_the_rule(p: float, seed: int) -> None:
    certifier = small()
    path = np.random.default_rng(seed).random(SMALL.n_max) < p
    b, proved, top = certifier.boundaries, 0, 3
    for k, n in enumerate(b.looks):
        hits = path[:n].sum()
        proved = max(proved, min(sum(hits >= u for u in b.upper[:, k]), top))
        top = min(top, sum(hits > g for g in b.give_up[:, k]))
        if proved >= top:
            break
    certificate = certifier.certify(run(certifier, path))
    assert certificate is not None
    assert (certificate.draws, certificate.predicted) == (n, 1 if proved else None)
    assert certificate.radius == (b.radii[proved - 1] if proved else 0)
    assert certificate.p_lower == (b.thresholds[proved - 1] if proved else 0)


def test_selection_comes_first_and_is_never_reused() -> None:
    certifier = small(n0=40)
    assert [(r.stage, r.first, r.draws) for r in certifier.missing(Tally())] == [
        ("select", 0, 16), ("select", 16, 16), ("select", 32, 8),
    ]  # fmt: skip
    begun = Tally({16: (0, 16)})
    assert [(r.first, r.draws) for r in certifier.missing(begun)] == [(0, 16), (32, 8)]
    assert certifier.certify(begun) is None
    requests = certifier.missing(Tally({0: (0, 40)}))
    assert [(r.stage, r.first, r.draws) for r in requests] == [("estimate", 0, 10)]


def test_blocks_of_another_size_are_kept_and_the_gaps_between_them_filled() -> None:
    tally = Tally({0: (0, 20)}, {0: (0, 3), 5: (1, 2)})
    assert [(r.first, r.draws) for r in small().missing(tally)] == [(3, 2), (8, 2)]


def test_counts_of_another_rule_are_read_where_they_meet_the_looks() -> None:
    votes = dict.fromkeys(range(0, 10000, 100), (0, 100))
    easy = Sequential(0.5, (0.0,))
    certificate = easy.certify(Tally({0: (0, 100)}, votes))
    assert certificate is not None and certificate.draws == 100  # decided at the first look
    with pytest.raises(ValueError, match=r"up to 200 in one block, so the look at 115 .* another --out"):
        Sequential(0.5, RADII).certify(Tally({0: (0, 100)}, votes))
    rounded = Sequential(0.5, RADII, preset=replace(PRESETS["tight"], multiple=100))
    assert rounded.certify(Tally({0: (0, 100)}, votes)) is not None
    assert FixedN(0.5, 100, 10_000, 0.001).certify(Tally({0: (0, 100)}, votes)) is not None


def test_label_aware_stops_images_whose_selected_class_is_wrong() -> None:
    path = np.ones(SMALL.n_max, dtype=int)
    aware, blind = small(label_aware=True), small()
    tally = run(aware, path, label=0)
    certificate = aware.certify(tally)
    assert certificate is not None and certificate.predicted is None and not tally.estimate
    assert "label-aware" in certificate.rule and "label-aware" not in blind.rule
    assert run(aware, path, label=1) == run(blind, path, label=1)
    assert aware.identity != blind.identity
    with pytest.raises(ValueError, match="label"):
        aware.missing(Tally({0: (0, 20)}))


def test_every_constant_of_the_rule_changes_the_identity() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"sigma": 0.4},
        {"radii": (0.0, 0.1)},
        {"n0": 30},
        {"alpha": 0.01},
        {"preset": "tight"},
    ]
    changes += [{"preset": replace(SMALL, n_max=500)}, {"preset": replace(SMALL, lambda0=1.0)}, {"n_max": 300}]
    changes += [{"preset": replace(SMALL, worth=10.0)}, {"label_aware": True}]
    assert len({small(**c).identity for c in changes}) == len(changes)
    assert small(block=5).identity == small().identity
    assert small(preset="tight").identity == small(preset=PRESETS["tight"]).identity


def test_boundaries_and_identity_change_only_with_a_new_version() -> None:
    """Stored counts and cached boundaries rely on it: raise VERSION before you change the numbers here."""
    rule = Sequential(0.5, (0.0, 0.5), preset=Constants(lambda0=500.0, power=0.5, n_max=300))
    assert bench.certify.sequential._VERSION == 1 and rule.identity == "a9e9a33d9ebba965"
    b = rule.boundaries
    assert b.looks.tolist() == [100, 115, 133, 153, 176, 203, 234, 270, 300]
    assert b.upper.tolist() == [
        [68, 77, 87, 100, 113, 128, 146, 166, 179],
        [96, 110, 126, 144, 165, 189, 217, 249, 273],
    ]
    assert b.give_up.tolist() == [
        [56, 65, 76, 88, 102, 118, 137, 159, 300],
        [89, 102, 118, 137, 158, 182, 211, 244, 300],
    ]


def test_cached_boundaries_equal_fresh_ones_and_damaged_files_are_rewritten(cache: Path) -> None:
    def same(a: Boundaries, b: Boundaries) -> bool:
        return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Boundaries))

    before = set(cache.glob("*")) if cache.exists() else set()
    fresh = boundaries(0.5, (0.0, 0.2), 0.01, TINY)
    assert same(_cached_boundaries(0.5, (0.0, 0.2), 0.01, TINY), fresh)
    (path,) = set(cache.glob("*")) - before
    good = path.read_bytes()
    assert same(_cached_boundaries(0.5, (0.0, 0.2), 0.01, TINY), fresh)
    at = good.index(fresh.upper.tobytes())
    for bad in (b"", good[:300], good[:at] + b"\xff" + good[at + 1 :], b"nonsense" * 100):
        path.write_bytes(bad)
        assert same(_cached_boundaries(0.5, (0.0, 0.2), 0.01, TINY), fresh)
        assert path.read_bytes() != bad
    assert set(cache.glob("*")) - before == {path}  # no temporary file stays


def test_boundaries_are_computed_if_the_cache_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(bench.certify.sequential, "_cache_folder", lambda: tmp_path / "file" / "folder")
    assert _cached_boundaries(0.5, (0.0,), 0.01, TINY).alive.all()


def test_a_fine_family_holds_the_radii_of_the_sweep_and_every_hundredth() -> None:
    family = fine_family((0.0, 0.123), 0.25)
    assert {0.0, 0.01, 0.12, 0.123, 0.57, 1.0} <= set(family) and list(family) == sorted(set(family))
    assert len(family) == 127


def test_draws_are_bought_while_they_promise_radius() -> None:
    """Cheap draws go to the last look, dear ones end at the first; both prove what their draws allow."""
    path = np.random.default_rng(0).random(400) < 0.9
    family = fine_family((), 0.5)
    certificates = []
    for worth in (1e-9, 300.0, 1e9):
        certifier = small(preset=replace(WORTH, worth=worth), radii=family)
        certificate = certifier.certify(run(certifier, path))
        assert certificate is not None
        certificates.append((certificate.draws, certificate.radius))
    (least, first), (some, middle), (most, last) = certificates
    assert least == 10 < some < most == 400
    assert first <= middle <= last and last > 0.3
