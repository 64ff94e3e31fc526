"""The arena: the field's stopping rules against their formulas, and what they cost on published certificates."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats
from scipy.special import ndtr

from bench.certify import Sequential, Tally
from bench.certify.arena import paths, scores
from bench.certify.arena.contenders import Anytime, GroupSequential, Proof
from bench.certify.arena.evidence import BETTING, MIXTURE, UNION, fewest_hits, lower_bound, union_epochs
from bench.certify.arena.failure import Failure, failure
from bench.certify.arena.learned import VOTES, fit_beta
from bench.certify.arena.paths import SELECTION, Images, published_images
from bench.certify.arena.stages import AdaptiveSampling, InputSpecific, cohen
from bench.certify.boundaries import crossing_probability
from bench.certify.bounds import anytime_lower, certified_radius, clopper_pearson_lower, e_process_lower
from bench.store.imported import read_log

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
SHARED = Path(os.environ.get("PURIFYBENCH_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
JEFFREYS = np.array([0.5]), np.array([0.5])
SOME = Images("some", 0.5, np.linspace(0.4, 1, 30), np.arange(30) % 5 > 0, RADII)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A log of five images: certain, likely, likely but wrong, and two that were abstained from."""
    radius = [certified_radius(clopper_pearson_lower(hits, 100_000, 0.01), 0.5) for hits in (100_000, 80_000, 80_000)]
    rows = [(3, 3, radius[0], 1), (3, 3, radius[1], 1), (3, 4, radius[2], 0), (3, -1, 0.0, 0), (3, -1, 0.0, 0)]
    lines = [f"{i}\t{label}\t{predict}\t{r:.3}\t{correct}\t15.4" for i, (label, predict, r, correct) in enumerate(rows)]
    path = tmp_path / "noise_0.50-sigma_0.50.tsv"
    path.write_text("\n".join(["idx\tlabel\tpredict\tradius\tcorrect\ttime", *lines]) + "\n")
    return path


def images(path: Path, sigma: float) -> Images:
    rows, _ = read_log(path, sigma, 100_000, 0.01)
    columns = rows["radius"].to_numpy(), (rows["predicted"] < 0).to_numpy(), rows["correct"].to_numpy()
    return published_images(path.name, sigma, *columns, RADII, 0.01, 100_000)


def published(sigma: float) -> Images:
    path = SHARED / "cohen2019" / f"cifar10-resnet110-noise_{sigma:.2f}-sigma_{sigma:.2f}.tsv"
    if not path.exists():
        pytest.skip(f"the published certificates are not at {path.parent}")
    return images(path, sigma)


def test_published_radii_give_back_the_hits_that_they_were_computed_from(file: Path) -> None:
    found = images(file, 0.5)
    assert found.p == pytest.approx([1.0, 0.8, 0.8, 0.3, 0.5], abs=3e-4)  # to the three digits that were printed
    assert found.correct.tolist() == [True, True, False, False, False]


def test_cohens_accuracy_is_the_share_of_counts_whose_bound_reaches_the_threshold() -> None:
    few = Images("", 0.5, np.array([0.7, 0.9]), np.array([True, True]), (0.2, 0.25, 0.6))
    hits = np.random.default_rng(0).binomial(500, few.p, size=(4000, 2))
    radii = np.array([certified_radius(clopper_pearson_lower(h, 500, 0.01), 0.5) for h in range(501)])[hits]
    proved, radius = cohen(few, 500, 0.01)
    for j, r in enumerate(few.radii):
        assert (radii >= r).mean(axis=0) == pytest.approx(proved[:, j], abs=0.025)
    assert radius == pytest.approx(radii.mean(axis=0), abs=0.003)


def test_boundaries_on_paths_decide_what_the_certifier_decides() -> None:
    rule = GroupSequential(SOME, 0.001, "fast")
    certifier = Sequential(SOME.sigma, RADII, n0=1, alpha=0.001, preset="fast", block=10**6)
    (part,) = paths.paths(SOME, rule.looks, 8, seed=3)
    outcomes = rule.play(part)
    steps = np.diff(part.hits, axis=1, prepend=0)
    sizes = np.diff(rule.looks, prepend=0)
    for run in range(len(part.image)):
        starts = [0, *rule.looks[:-1].tolist()]
        blocks = {s: [int(h), int(n - h)] for s, h, n in zip(starts, steps[run], sizes, strict=True)}
        found = certifier.certify(Tally({0: [1, 0]}, blocks))
        assert found is not None
        assert (found.draws, found.radius) == (outcomes.draws[run], outcomes.radius[run])
        assert outcomes.proved[run].any() == (found.predicted is not None)


def test_the_betting_wealth_is_a_ratio_of_binomials_and_gives_the_anytime_bound() -> None:
    n, hits, t = 500, np.arange(300, 501), 0.6
    ratio = stats.betabinom.logpmf(hits, n, 0.5, 0.5) - stats.binom.logpmf(hits, n, t)
    assert BETTING.against(t, hits, n, 0.5, 0.5) == pytest.approx(ratio)
    looks, thresholds = np.array([200, 500, 5000]), np.array([0.5, 0.7, 0.9])
    needed = fewest_hits(BETTING, thresholds, looks, 0.001, *JEFFREYS)[0]
    for t, row in zip(thresholds, needed, strict=True):
        for n, h in zip(looks.tolist(), row.tolist(), strict=True):
            assert anytime_lower(h, n, 0.001) >= t > anytime_lower(h - 1, n, 0.001)


def test_the_evidence_with_a_prior_for_each_threshold_gives_the_bound_of_the_e_process() -> None:
    hits, draws = np.array([170, 990, 60_000]), np.array([200, 1000, 100_000])
    z = lower_bound(MIXTURE, hits, draws, 0.001, 0.5, 0.5)
    exact = [e_process_lower(h, n, 0.001) for h, n in zip(hits.tolist(), draws.tolist(), strict=True)]
    assert ndtr(z) == pytest.approx(exact, abs=2e-4) and (ndtr(z) <= exact).all()


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (101.4, 0.2), (31.0, 71.0)])
@pytest.mark.parametrize("p", [0.7, 0.65])
def test_evidence_against_the_truth_is_expected_to_stay_at_one_or_less(a: float, b: float, p: float) -> None:
    n, hits, t = 60, np.arange(61), 0.7
    expected = (stats.binom.pmf(hits, n, p) * np.exp(MIXTURE.against(t, hits, n, a, b))).sum()
    assert expected <= 1 + 1e-9
    assert expected == pytest.approx(1) if p == t else expected < 0.999


def test_the_union_bound_spends_at_most_alpha_and_looks_where_the_authors_do() -> None:
    epochs = union_epochs(100_001)
    assert epochs[:6].tolist() == [3, 4, 5, 6, 7, 8] and (np.diff(np.log(epochs[-20:])) < 0.0954).all()
    levels = np.exp(-UNION.level(epochs, 0.001))
    assert levels[0] == pytest.approx(0.001 / 6) and 0.9e-3 < levels.sum() < 0.001
    needed = fewest_hits(UNION, np.array([0.8]), epochs, 0.001, *JEFFREYS)[0, 0]
    assert needed[-1] == stats.binom.ppf(1 - levels[-1], epochs[-1], 0.8) + 1
    assert np.isinf(UNION.level(np.array([1, 101, 5001]), 0.001)).all()


def test_no_rule_fails_more_often_than_alpha_and_some_waste_most_of_it() -> None:
    small = Images("", 0.5, np.array([0.9]), np.array([True]), (0.0, 0.5))
    rates = {name: failure(Proof(small, 0.01, rule, 2000)).rate for name, rule in
             (("union", UNION), ("betting", BETTING), ("mixture", MIXTURE))}  # fmt: skip
    assert rates["union"] < 0.001 < rates["betting"] <= rates["mixture"] + 1e-12 < 0.01


def test_the_sampled_failure_rate_of_a_learned_prior_agrees_with_the_exact_one() -> None:
    few = Images("", 0.5, np.linspace(0.5, 1, 40), np.ones(40, dtype=bool), (0.0, 0.5))
    proof = Proof(few, 0.05, MIXTURE, 400, learned=True)
    levels = np.maximum(np.searchsorted(VOTES, np.arange(SELECTION + 1), side="right") - 1, 0)
    exact = []
    for j, t in enumerate(proof.thresholds):
        crossing = crossing_probability(np.full(len(proof.upper), t), proof.looks, proof.upper[:, j])
        share = stats.binom.pmf(np.arange(SELECTION + 1), SELECTION, t)
        exact.append((share * (crossing[levels] + crossing[len(VOTES) + levels]) / 2).sum())
    found = failure(proof)
    assert found.interval is not None
    assert found.interval[0] <= max(exact) <= found.interval[1] <= 0.05
    assert found.interval[1] - found.interval[0] < 0.2 * found.rate


def test_a_prior_is_fitted_to_the_other_half_of_the_images() -> None:
    draws = np.random.default_rng(1).beta(3, 0.6, size=4000)
    assert fit_beta(draws) == pytest.approx((3, 0.6), rel=0.1)
    p = np.where(np.arange(60) % 2 == 0, 0.95, 0.6) + np.linspace(-0.03, 0.03, 60)
    a, b = Proof(Images("", 0.5, p, np.ones(60, dtype=bool), RADII), 0.01, MIXTURE, 100, learned=True).priors
    even, odd = (a / (a + b)).reshape(2, -1)[:, 0]  # both from 50 votes of 100
    assert odd > even  # an image at an odd place learns from the even ones, which are near 0.95


def test_input_specific_sampling_fails_as_often_as_it_says() -> None:
    rule = InputSpecific(SOME, 0.05, 0.2, full=2000, pilot=200, batch=100)
    p = clopper_pearson_lower(1700, 2000, 0.05) - 1e-12
    one = Images("", 0.5, np.array([p]), np.array([True]), RADII)
    played = InputSpecific(one, 0.05, 0.2, full=2000, pilot=200, batch=100)
    radius = played.play(np.zeros(200_000, dtype=np.int64), np.random.default_rng(0)).radius
    wrong = float((radius > certified_radius(p, 0.5)).mean())
    assert rule._wrong(p, np.arange(201), rule.plan) == pytest.approx(wrong, abs=0.002)
    assert rule.failure().rate > 0.03
    assert set(rule.plan[rule.plan > 0]) <= set(range(200, 2001, 100)) and rule.plan[100] == 0


def test_adaptive_sampling_fails_at_most_as_often_as_it_says() -> None:
    at = Images("", 0.5, np.array([ndtr(1.0)]), np.array([True]), (0.5,))
    rule = AdaptiveSampling(at, 0.05, stages=(100, 1000), beta=0.01)
    outcomes = rule.play(np.zeros(200_000, dtype=np.int64), np.random.default_rng(0))
    assert outcomes.proved.mean() == pytest.approx(rule.failure().rate, rel=0.1)
    assert rule.failure().rate <= 0.05
    assert set(np.unique(outcomes.draws)) == {100, 1200}  # with the selection of the second stage


def test_a_rule_beats_another_only_with_fewer_draws_and_no_radius_worse() -> None:
    def score(name: str, group: str, draws: float, lost: tuple[float, ...]) -> scores.Score:
        facts = scores.Facts(name, group, "radii", "")
        return scores.Score(facts, draws, draws, np.array(lost), 0.0, 0.5, 0.0, Failure(0.001))

    ours = score("tight", "ours", 5000, (0.1, 0.2))
    field = [score("better", "anytime", 4000, (0.1, 0.1)), score("worse", "anytime", 4000, (0.0, 0.3)),
             score("dear", "stages", 9000, (0.0, 0.0))]  # fmt: skip
    assert scores.winners([ours, *field]) == [("better", "tight")]


def test_the_command_prints_every_rule_and_draws_a_picture(cli, file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(scores, "REFERENCE", 2000)  # for time
    result = cli("arena", file, "--log-alpha", "0.01", "--repeats", "3", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = [line.split("|")[1].strip() for line in result.stdout.splitlines() if line.startswith("| ")]
    for rule in (
        "cohen N = 100",
        "tight",
        "union-bound CS: grid decided",
        "e-process: to the horizon",
        "adaptive sampling",
    ):
        assert rule in rows
    assert len(rows) == len(set(rows)) == 2 + 23
    assert (tmp_path / "out" / "arena.png").stat().st_size > 20_000


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("sigma_0.50.tsv", (), "fits --log-alpha 0.01"),
        ("log.tsv", ("--log-alpha", "0.01"), "give --sigma"),
        ("log.tsv", ("--log-alpha", "0.01", "--sigma", "0.5,1"), "for each of the 1 logs"),
    ],
)
def test_a_log_that_is_misread_is_refused(cli, file: Path, name: str, options: tuple[str, ...], words: str) -> None:
    result = cli("arena", file.rename(file.with_name(name)), *options)
    assert result.exit_code == 2 and words in result.stderr


def documented() -> dict[float, dict[str, list[str]]]:
    """The arena's tables in docs/certifiers.md: for each sigma, the columns of each rule."""
    page = (ROOT / "docs" / "certifiers.md").read_text()
    found = re.findall(r"^cifar10-resnet110.*: sigma = ([\d.]+), 500 images.*\n\n((?:\|.*\n)+)", page, re.M)
    tables = {float(sigma): [line.strip("| ").split(" | ") for line in body.splitlines()[2:]] for sigma, body in found}
    return {sigma: {row[0]: row[1:] for row in rows} for sigma, rows in tables.items()}


@pytest.mark.parametrize("sigma", [0.25, 0.5])
def test_the_documented_figures_of_cohens_rule_are_exact(sigma: float) -> None:
    log, rows = published(sigma), documented()[sigma]
    exact, _ = cohen(log, 100_000, 0.001)
    for n in (*scores.FIXED, scores.REFERENCE):
        proved, radius = cohen(log, n, 0.001)
        lost = 100 * ((exact - proved) * log.correct[:, None]).mean(axis=0)
        row = rows[f"cohen N = {n:,}"]
        assert row[0] == f"{n + SELECTION:,}" and row[3:8] == [f"{x:.2f}" for x in lost]
        assert row[8] == f"{(radius * log.correct).mean():.3f}"


@pytest.mark.parametrize("sigma", [0.25, 0.5])
def test_the_documented_figures_of_sequential_rules_are_found_again(sigma: float) -> None:
    log, rows = published(sigma), documented()[sigma]
    proof = Proof(log, 0.001, MIXTURE, scores.REFERENCE)
    rules: dict[str, GroupSequential | Anytime] = {
        "tight": GroupSequential(log, 0.001, "tight"),
        "half-point": GroupSequential(log, 0.001, "half-point"),
    }
    rules["e-process: grid decided"] = Anytime(proof, "grid")
    rules["e-process: gives up as `tight`"] = Anytime(proof, "price")
    looks = np.unique(np.concatenate([rule.looks for rule in rules.values()]))
    parts = list(paths.paths(log, looks, 10, seed=5))
    exact, _ = cohen(log, scores.REFERENCE, 0.001)
    for name, rule in rules.items():
        outcomes = [rule.play(part) for part in parts]
        draws = np.concatenate([o.draws for o in outcomes]).mean() + SELECTION
        correct = np.concatenate([log.correct[part.image] for part in parts])
        accuracy = (np.concatenate([o.proved for o in outcomes]) * correct[:, None]).mean(axis=0)
        lost = 100 * ((exact * log.correct[:, None]).mean(axis=0) - accuracy)
        assert draws == pytest.approx(float(rows[name][0].replace(",", "")), rel=0.06), name
        assert lost == pytest.approx([float(x) for x in rows[name][3:8]], abs=0.5), name
