"""The simulation: what the sequential rule saves and loses on the certificates of Cohen et al. (2019)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bench.certify import simulation as simulate
from bench.certify.boundaries import PRESETS
from bench.certify.bounds import certified_radius, clopper_pearson_lower

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
SHARED = Path(os.environ.get("PURIFYBENCH_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A table of five images: certain, likely, likely but wrong, and two that were abstained from."""
    radius = [certified_radius(clopper_pearson_lower(hits, 100_000, 0.01), 0.5) for hits in (100_000, 80_000, 80_000)]
    rows = [(3, 3, radius[0], 1), (3, 3, radius[1], 1), (3, 4, radius[2], 0), (3, -1, 0.0, 0), (3, -1, 0.0, 0)]
    lines = [f"{i}\t{label}\t{predict}\t{r:.3}\t{correct}\t15.4" for i, (label, predict, r, correct) in enumerate(rows)]
    path = tmp_path / "certificates.tsv"
    path.write_text("\n".join(["idx\tlabel\tpredict\tradius\tcorrect\ttime", *lines]) + "\n")
    return path


def test_published_radii_give_back_the_hits_that_they_were_computed_from(file: Path) -> None:
    p, correct = simulate._published(file, 0.5)
    assert p == pytest.approx([1.0, 0.8, 0.8, 0.3, 0.5], abs=3e-4)  # to the three digits that were printed
    assert correct.tolist() == [True, True, False, False, False]


def test_cohens_accuracy_is_the_share_of_counts_whose_bound_reaches_the_threshold() -> None:
    p, correct, n = np.array([0.7, 0.9]), np.array([True, True]), 500
    hits = np.random.default_rng(0).binomial(n, p, size=(4000, 2))
    radii = np.array([[certified_radius(clopper_pearson_lower(h, n, 0.01), 0.5) for h in row] for row in hits.tolist()])
    outcome = simulate._Study(p, correct, 0.5, (0.2, 0.25, 0.6), 0.01).cohen(n)
    for accuracy, r in zip(outcome.accuracy, (0.2, 0.25, 0.6), strict=True):
        assert (radii >= r).mean() == pytest.approx(accuracy, abs=0.02)
    assert outcome.acr == pytest.approx(radii.mean(), abs=0.005)


def test_the_table_has_a_row_for_every_rule(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate.main([str(file), "--sigma", "0.5", "--repeats", "10", "--fixed", "500,10000"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == [
        *PRESETS, "cohen N = 500", "cohen N = 10,000", "cohen N = 100,000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sigma", "preset", "draws", "loss"),
    [(0.25, "tight", 6970, 0.3), (0.25, "fast", 3140, 3.4), (0.5, "tight", 3370, 0.3), (0.5, "fast", 1670, 1.1)],
)
def test_published_models_are_certified_with_many_times_fewer_draws(
    sigma: float, preset: str, draws: int, loss: float
) -> None:
    path = SHARED / "cohen2019" / f"cifar10-resnet110-noise_{sigma:.2f}-sigma_{sigma:.2f}.tsv"
    if not path.exists():
        pytest.skip(f"the published certificates are not at {path.parent}")
    study = simulate._Study(*simulate._published(path, sigma), sigma, RADII, 0.001)
    reference, outcome = study.cohen(100_000), study.sequential(preset, repeats=1000)
    assert outcome.draws == pytest.approx(draws, rel=0.03)
    assert 100 * (reference.accuracy - outcome.accuracy).max() < loss


def test_the_rule_for_average_radii_needs_fewer_draws_than_a_fixed_number_for_the_same_average() -> None:
    path = SHARED / "cohen2019" / "cifar10-resnet110-noise_0.50-sigma_0.50.tsv"
    if not path.exists():
        pytest.skip(f"the published certificates are not at {path.parent}")
    study = simulate._Study(*simulate._published(path, 0.5), 0.5, RADII, 0.001)
    early = study.sequential("acr", repeats=40)
    assert early.acr > study.cohen(round(1.15 * early.draws), repeats=40).acr
    grid = study.sequential("tight", repeats=40)
    assert grid.acr < early.acr  # what a grid of five radii can say
