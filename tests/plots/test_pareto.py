"""The picture of what certified robustness costs: its points, names, fronts and floors."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from drawn import (
    CLASSIFY_MS,
    PURIFIERS,
    names_of_points,
    small,
    synthetic,
    without_networks,
    words_of,
    words_with,
)
from matplotlib.figure import Figure

from bench.plots import accuracy_vs_radius, pareto, pareto_at
from bench.plots.labels import _hits
from bench.plots.panel import _APART, _on_front, _side_by_side
from bench.summary.headline import COSTS, _accuracy, _average_radius
from bench.summary.summary import Summary


def boxes_of(figure: Figure, axes) -> list[tuple[str, Any]]:
    renderer = figure.canvas.get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in axes.texts]


def meet(first: Any, second: Any) -> bool:
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return width > 1 and height > 1


@pytest.fixture(scope="module")
def full() -> Summary:
    return synthetic()


def test_every_point_has_its_short_name_and_no_two_names_overlap(full):
    figure = pareto(full)
    expected = set(full.table["name"]) - {"none"}
    for axes in figure.axes:
        boxes = boxes_of(figure, axes)
        assert expected <= {words.partition(" (σ")[0] for words, _ in boxes}
        assert not [(a, b) for (a, p), (b, q) in combinations(boxes, 2) if meet(p, q)]
        frame = axes.get_window_extent()
        assert all(box.x0 >= frame.x0 - 1 and box.x1 <= frame.x1 + 1 for _, box in boxes)


def test_plain_smoothing_is_a_level_with_its_interval_where_it_costs_nothing_or_is_far_below(full):
    none = full.table[(full.table["name"] == "none") & (full.table["sigma"] == 0.25)].iloc[0]
    figure = pareto_at(full, 0.25)
    floors = [axes for axes in figure.axes if any(t.get_text() == f"none: {none['acr']:.3f}" for t in axes.texts)]
    assert len(floors) == 2  # beside network evaluations and beside milliseconds
    for axes in floors:
        levels = [line for line in axes.lines if list(line.get_ydata()) == [none["acr"]] * 2]
        assert len(levels) == 1
        spans = [patch.get_window_extent().transformed(axes.transData.inverted()) for patch in axes.patches]
        assert any(np.allclose((span.y0, span.y1), (none["acr_low"], none["acr_high"])) for span in spans)
    assert not any("none" in words for words in names_of_points(figure) if not words.startswith("none: "))


def test_a_floor_far_below_gets_a_strip_of_its_own(full):
    far, near = pareto_at(full, 0.25), pareto(full)
    assert len(far.axes) == 2 * len(words_with(far, "Certified accuracy", "Average certified")) * 2
    assert len(near.axes) == 2 * len(words_with(near, "Certified accuracy", "Average certified"))


@pytest.mark.parametrize(("sigma", "radii"), [(0.25, (0, 0.1, 0.25)), (0.5, (0, 0.25, 0.5)), (1.0, (0, 0.5, 1))])
def test_radii_near_half_of_sigma_and_sigma_are_shown(full, sigma, radii):
    headings = words_with(pareto_at(full, sigma), "Certified accuracy")
    assert [float(heading.split("radius ")[1].split()[0]) for heading in headings] == list(radii)


def test_radii_that_the_draws_cannot_reach_are_left_out(full):
    beyond = [f"{part}@{r:g}" for r in full.radii if r > 0.3 for part in ("acc", "acc_low", "acc_high")]
    table = full.table.assign(largest=0.3)
    table[beyond] = np.nan
    headings = words_with(pareto_at(replace(full, table=table), 1.0), "Certified accuracy")
    assert {float(heading.split("radius ")[1].split()[0]) for heading in headings} == {0, 0.25}
    far = table["name"] == "ddpm 4"  # one purifier alone reaches further
    table.loc[far, ["largest", *beyond]] = full.table.loc[far, ["largest", *beyond]]
    figure = pareto_at(replace(full, table=table), 1.0)
    assert len(words_with(figure, "Certified accuracy")) == 3
    assert {text for text in names_of_points(figure) if "edm" in text}
    row = [axes for axes in figure.axes if {t.get_text() for t in axes.texts} == {"ddpm 4"}]
    assert len(row) == 4  # at two radii, beside two costs


def test_the_front_runs_through_the_points_that_nothing_dominates():
    summary = small()
    table = summary.table.assign(acr=[0.1, 0.3, 0.2, 0.4], nfe=[0.0, 1, 1, 4], competes=True)
    floor, points = table[table["family"] == "none"], table[table["family"] != "none"].reset_index(drop=True)
    acr = _average_radius(table)
    assert [points["name"][i] for i in _on_front(points, floor, acr, "nfe")] == ["onestep-edm", "ddpm 4"]
    elsewhere = points.assign(competes=[False, True, True])  # of other images, or a published log
    kept = _on_front(elsewhere, floor, acr, "nfe")
    assert [points["name"][i] for i in kept] == ["consistency", "ddpm 4"]
    below = floor.assign(acr=0.35)
    assert [points["name"][i] for i in _on_front(points, below, acr, "nfe")] == ["ddpm 4"]


def test_average_radii_of_different_certifiers_share_a_panel_but_no_front():
    summary = small()
    table = summary.table.assign(competes=True)
    assert "by cohen" in _average_radius(table).heading
    mixed = table.assign(rule=["sequential tight (x)", *table["rule"][1:]])
    assert "do not compare" in _average_radius(mixed).heading
    floor, points = mixed[mixed["family"] == "none"], mixed[mixed["family"] != "none"].reset_index(drop=True)
    alike, apart = points.assign(rule="a"), points.assign(rule=[str(i) for i in range(len(points))])
    assert _on_front(alike, floor, _average_radius(alike), "nfe")
    assert not _on_front(apart, floor, _average_radius(apart), "nfe")
    assert _on_front(apart, floor, _accuracy(0.25, 1.0), "nfe")


def test_marks_of_one_cost_stand_apart_and_keep_their_order():
    x = np.array([100.0, 100.0, 100.0, 103.0, 300.0])
    moved = _side_by_side(x, point=1.0)
    assert (np.diff(moved) >= _APART - 1e-9).all()
    assert moved[-1] == 300
    assert abs(moved[:4].mean() - x[:4].mean()) < 1e-9


def test_lines_through_boxes_are_seen_and_those_beside_them_are_not():
    boxes = np.array([[0.0, 0.0, 2.0, 1.0]])
    through, inside, beside, short = (
        [[-1, 0.5], [3, 0.6]],
        [[1, 0.5], [1, 0.5]],
        [[-1, 2], [3, 1.5]],
        [[-2, 0], [-1, 0.5]],
    )
    corner = [[-1, 0.5], [0.5, 2]]
    segments = np.array([through, inside, beside, short, corner], float)
    assert _hits(segments, boxes)[:, 0].tolist() == [True, True, False, False, False]


def test_a_purifier_without_a_network_stands_at_zero_evaluations():
    figure = pareto(without_networks())
    assert "median" in names_of_points(figure)
    assert "0" in [tick.get_text() for tick in figure.axes[0].get_xticklabels()]


def test_incomplete_rows_say_how_many_images_they_have():
    summary = small()
    table = summary.table.assign(wanted=100, complete=False)
    assert "onestep-edm (60 images)" in names_of_points(pareto(replace(summary, table=table)))


def test_fifty_purifiers_carry_numbers_and_a_key(tmp_path):
    families = ("one-step", "consistency", "pf-ode", "sde")
    many = {f"method-{i}": (families[i % 4], 1 + i % 4 * (i % 9), 0.2 * i + 0.1, 0.01 * i) for i in range(50)}
    summary = synthetic(many, sigmas=(0.5,), images=40)
    figure = pareto(summary)
    assert {str(i + 1) for i in range(50)} <= names_of_points(figure)
    assert any(words.endswith("  method-49") for words in words_of(figure))
    figure.savefig(tmp_path / "many.png", dpi=40)
    accuracy_vs_radius(summary).savefig(tmp_path / "curves.png", dpi=40)


OWN = {**PURIFIERS, "none": ("none", 0, 0.0004, 0.3), "own": ("own-classifier", 0, 0.0004, 0.1)}


def test_without_a_purifier_a_vote_is_at_nfe_0_and_at_its_time_and_never_free():
    """Near the others, plain smoothing is a level against evaluations only; another classifier is a point in both."""
    figure = pareto(synthetic(OWN, images=200))
    by_nfe, by_time = figure.axes[:2]
    assert any(words.get_text().startswith("none: ") for words in by_nfe.texts)
    assert not any(words.get_text().startswith("none: ") for words in by_time.texts)
    points = [{words.get_text().partition(" (σ")[0] for words in axes.texts} for axes in (by_nfe, by_time)]
    assert "own" in points[0] and {"own", "none"} <= points[1]
    assert "0" in [label.get_text() for label in by_nfe.get_xticklabels()]
    assert "0" not in [label.get_text() for label in by_time.get_xticklabels()]
    costs = [line.get_xdata()[0] for line in by_time.lines if line.get_transform() == by_time.get_xaxis_transform()]
    assert min(costs) == pytest.approx(CLASSIFY_MS, rel=0.02)
    assert "at NFE 0 the classifier alone does the work" in " ".join(" ".join(words_of(figure)).split())
    assert "at NFE 0" not in " ".join(" ".join(words_of(pareto(small()))).split())


def test_the_first_picture_has_evaluations_and_the_time_of_the_whole_vote(full):
    axes = [ax for ax in pareto(full).axes if ax.get_xlabel()]
    assert [ax.get_xlabel() for ax in axes] == [COSTS[cost].axis for cost in ("nfe", "ms_joint")]


def test_operations_take_the_place_of_times_that_do_not_compare(full):
    def axes(**fields):
        drawn = pareto(replace(full, untimed="the run waited", **fields)).axes
        return [ax.get_xlabel() for ax in drawn if ax.get_xlabel()]

    counted = full.table.assign(gflops=0.1 + 0.3 * full.table["nfe"])
    assert axes(table=counted) == [COSTS[cost].axis for cost in ("nfe", "gflops")]
    assert axes() == [COSTS[cost].axis for cost in ("nfe", "ms_joint")]
