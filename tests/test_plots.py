"""Pictures are made from a summary alone, whatever it lacks; example images survive on disk."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from bench.analysis.gains import paired_gains
from bench.bounds import certified_radius, clopper_pearson_lower, largest_radius
from bench.examples_file import Examples, Panel, read_examples, write_examples
from bench.plots import accuracy_vs_radius, draw_all, draw_gains, gains, image_grid, pareto, pareto_at
from bench.plots.curves import steps
from bench.plots.labels import hits
from bench.plots.panel import APART, on_front, side_by_side
from bench.plots.pareto import accuracy, average_radius
from bench.plots.style import save
from bench.shorten import short_names
from bench.summary import COUNTED, IMPORTED, Summary, describe_row

NOTES = ("incomplete: 1 of 36 cells have fewer images than were asked for", "measured on different devices: a; b")
FAILED = {"run": "embedded", "cell": "x", "label": "broken", "purifier": "broken", "family": "sde", "sigma": 0.5}
FAILED |= {"source": COUNTED, "rule": "cohen", "wanted": 60, "error": "returned NaN", "largest": 0.56, "images": 0}
SIGMAS, RADII = (0.25, 0.5, 1.0), (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
PURIFIERS = {  # label: family, NFE, milliseconds, strength
    "none": ("none", 0, 0.0004, None),
    "onestep-ddpm": ("one-step", 1, 0.231, 0.00),
    "onestep-edm": ("one-step", 1, 0.236, 0.02),
    "onestep-edm-ft": ("one-step", 1, 0.238, 0.22),
    "consistency(steps=1)": ("consistency", 1, 0.237, -0.01),
    "consistency(steps=2)": ("consistency", 2, 0.451, -0.08),
    "consistency-ft(steps=1)": ("consistency", 1, 0.239, 0.24),
    "ddpm(steps=4)": ("sde", 4, 0.902, 0.03),
    "sde(steps=6)": ("sde", 6, 1.34, -0.75),
    "edm-stochastic(steps=3, churn=2.0, noise_scale=1.003)": ("sde", 5, 1.17, -0.02),
    "pf-ode(steps=3)": ("pf-ode", 5, 1.15, -0.03),
    "pf-ode-torchdiffeq(solver=midpoint, steps=2, rtol=0.01, atol=0.01, t_end=0.05)": ("pf-ode", 5, 1.21, -0.2),
}


def synthetic(
    purifiers: Mapping[str, tuple[str, float, float, float | None]] = PURIFIERS,
    sigmas: Sequence[float] = SIGMAS,
    images: int = 500,
    n: int = 50,
    alpha: float = 0.001,
    notes: Sequence[str] = (),
) -> Summary:
    """What `summarise` would make of a sweep, with images of every difficulty."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=images)
    table, certificates = [], []
    for label, (family, nfe, ms, strength) in purifiers.items():
        for sigma in sigmas:
            ease = (2.6 - 1.75 * sigma + strength * sigma) if strength is not None else 2.0 - 6 * sigma**0.7
            p = 1 / (1 + np.exp(-2.2 * (ease + 1.1 * difficulty + 0.1 * rng.normal(size=images))))
            if strength is None:
                p = np.where(rng.random(images) < 0.12, 0.97, p)
            hits = rng.binomial(n, p)
            lower = np.array([clopper_pearson_lower(int(k), n, alpha) for k in np.maximum(hits, n - hits)])
            radius = np.array([certified_radius(b, sigma) for b in lower])
            key = f"{label}@{sigma}"
            mine = pd.DataFrame(
                {
                    "cell": key,
                    "image": np.arange(images),
                    "label": 1,
                    "predicted": np.where(lower > 0.5, np.where(hits * 2 > n, 1, 0), -1),
                    "draws": n,
                    "p_lower": lower,
                    "radius": radius,
                    "correct": (lower > 0.5) & (hits * 2 > n),
                    "rule": f"cohen (N0 = 10, N = {n}, alpha = {alpha:g})",
                    "run": "embedded",
                }
            )
            certificates.append(mine)
            table.append(
                {
                    "run": "embedded",
                    "cell": key,
                    "label": label,
                    "purifier": label.split("(")[0],
                    "family": family,
                    "sigma": sigma,
                    "source": COUNTED,
                    "rule": mine["rule"].iloc[0],
                    "wanted": images,
                    "error": None,
                    "largest": largest_radius(n, alpha, sigma),
                    **describe_row(mine, RADII),
                    "counted_draws": images * (n + 10),
                    "nfe": float(nfe),
                    "classifier_rows": 1.0,
                    "ms_noise": 0.01,
                    "ms_purify": ms * (1 + 0.02 * rng.normal()),
                    "ms_classify": 0.05,
                    "device": "cpu: AMD EPYC 7763, 2 processes of 1 thread",
                    "peak_bytes": 5e8,
                }
            )
    return Summary(
        "Embedded benchmark: 500 MNIST digits", pd.DataFrame(table), pd.concat(certificates), RADII, tuple(notes)
    )


def synthetic_examples(labels: Sequence[str] = tuple(PURIFIERS), sigmas: Sequence[float] = (1.0,), channels: int = 1):
    """Six images of noise; every fourth prediction is wrong."""
    rng = np.random.default_rng(1)

    def pictures() -> np.ndarray:
        return rng.integers(0, 256, (6, channels, 28, 28), dtype=np.uint8)

    truth = np.arange(6)
    panels = []
    for sigma in sigmas:
        noisy = pictures()
        for i, label in enumerate(labels):
            predicted = np.where((truth + i) % 4 == 0, (truth + 1) % 10, truth)
            panels.append(Panel(label, sigma, noisy, noisy if label == "none" else pictures(), predicted))
    return Examples(truth * 83, truth, tuple("0123456789"), pictures(), tuple(panels))


def words_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def names_of_points(figure: Figure) -> set[str]:
    """Names that are written beside points: words inside axes, without those of the floor and of ticks."""
    return {text.get_text() for axes in figure.axes for text in axes.texts}


def svg_words(path: Path) -> str:
    return " ".join(element.text or "" for element in ElementTree.parse(path).iter() if element.tag.endswith("text"))


def is_picture(path: Path) -> bool:
    """Larger than a thumbnail and neither blank nor one colour."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    colours = np.unique(pixels[::5, ::5].astype(int) @ (65536, 256, 1))
    return pixels.shape[1] >= 1500 and len(colours) > 50


def boxes_of(figure: Figure, axes) -> list[tuple[str, Any]]:
    renderer = figure.canvas.get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in axes.texts]


def meet(first: Any, second: Any) -> bool:
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return width > 1 and height > 1


@pytest.fixture(scope="module")
def full() -> Summary:
    return synthetic(notes=NOTES)


@pytest.fixture(scope="module")
def drawn(full, tmp_path_factory) -> list[Path]:
    """Every picture of the full sweep."""
    folder = tmp_path_factory.mktemp("pictures") / "new"
    return draw_all(full, synthetic_examples(), folder)


def small(**options: Any) -> Summary:
    """Four purifiers at one sigma."""
    labels = ("none", "onestep-edm", "consistency(steps=1)", "ddpm(steps=4)")
    return synthetic(**{"purifiers": {k: PURIFIERS[k] for k in labels}, "sigmas": (0.5,), "images": 60, **options})


def test_every_picture_is_written_twice_and_shows_something(drawn):
    assert [path.name for path in drawn] == [
        f"{stem}.{kind}"
        for stem in (
            "pareto",
            "pareto-sigma-0.25",
            "pareto-sigma-0.5",
            "pareto-sigma-1",
            "accuracy-vs-radius",
            "examples-sigma-1",
        )
        for kind in ("png", "svg")
    ]
    for path in drawn:
        assert is_picture(path) if path.suffix == ".png" else len(svg_words(path)) > 200, path.name


def test_notes_and_conditions_stand_on_every_picture(drawn):
    for path in (path for path in drawn if path.suffix == ".svg"):
        words = svg_words(path)
        for note in NOTES:
            assert f"Note: {note}." in words, path.name
        for condition in ("500 images", "N0 = 10, N = 50, alpha = 0.001", "AMD EPYC 7763"):
            assert condition in words, path.name


def test_the_first_picture_shows_the_sigma_that_separates_the_purifiers(full):
    assert "What certified robustness costs at σ = 1" in words_of(pareto(full))


def test_every_point_has_its_short_name_and_no_two_names_overlap(full):
    figure = pareto(full)
    expected = set(short_names(full.table).values()) - {"none"}
    for axes in figure.axes:
        boxes = boxes_of(figure, axes)
        assert expected <= {words for words, _ in boxes}
        assert not [(a, b) for (a, p), (b, q) in combinations(boxes, 2) if meet(p, q)]
        frame = axes.get_window_extent()
        assert all(box.x0 >= frame.x0 - 1 and box.x1 <= frame.x1 + 1 for _, box in boxes)


def test_plain_smoothing_is_a_level_with_its_interval_and_not_a_point(full):
    none = full.table[(full.table["label"] == "none") & (full.table["sigma"] == 0.25)].iloc[0]
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


def words_with(figure: Figure, *starts: str) -> list[str]:
    return [words for words in words_of(figure) if words.startswith(starts)]


@pytest.mark.parametrize(("sigma", "radii"), [(0.25, (0, 0.1, 0.25)), (0.5, (0, 0.25, 0.5)), (1.0, (0, 0.5, 1))])
def test_radii_near_half_of_sigma_and_sigma_are_shown(full, sigma, radii):
    headings = words_with(pareto_at(full, sigma), "Certified accuracy")
    assert [float(heading.split("radius ")[1].split()[0]) for heading in headings] == list(radii)


def test_radii_that_the_draws_cannot_reach_are_left_out(full):
    table = full.table.assign(largest=0.3)
    headings = words_with(pareto_at(replace(full, table=table), 1.0), "Certified accuracy")
    assert {float(heading.split("radius ")[1].split()[0]) for heading in headings} == {0, 0.25}
    table.loc[table["label"] == "ddpm(steps=4)", "largest"] = 1.2  # one row alone reaches further
    figure = pareto_at(replace(full, table=table), 1.0)
    assert len(words_with(figure, "Certified accuracy")) == 3
    assert {text for text in names_of_points(figure) if "edm" in text}
    row = [axes for axes in figure.axes if {t.get_text() for t in axes.texts} == {"ddpm 4"}]
    assert len(row) == 4  # at two radii, beside two costs


def test_the_front_runs_through_the_points_that_nothing_dominates():
    summary = small()
    table = summary.table.assign(acr=[0.1, 0.3, 0.2, 0.4], nfe=[0.0, 1, 1, 4])
    floor, points = table[table["family"] == "none"], table[table["family"] != "none"].reset_index(drop=True)
    points["imported"] = False
    acr = average_radius(table)
    assert [points["label"][i] for i in on_front(points, floor.assign(imported=False), acr, "nfe")] == [
        "onestep-edm",
        "ddpm(steps=4)",
    ]
    published = points.assign(imported=[True, False, False])
    kept = on_front(published, floor.assign(imported=False), acr, "nfe")
    assert [points["label"][i] for i in kept] == ["consistency(steps=1)", "ddpm(steps=4)"]
    below = floor.assign(acr=0.35, imported=False)
    assert [points["label"][i] for i in on_front(points, below, acr, "nfe")] == ["ddpm(steps=4)"]


def test_average_radii_of_different_certifiers_share_a_panel_but_no_front():
    summary = small()
    table = summary.table
    assert "by cohen" in average_radius(table).heading
    mixed = table.assign(rule=["sequential tight (x)", *table["rule"][1:]])
    assert "do not compare" in average_radius(mixed).heading
    floor, points = mixed[mixed["family"] == "none"], mixed[mixed["family"] != "none"].reset_index(drop=True)
    points, floor = (t.assign(imported=False) for t in (points, floor))
    alike, apart = points.assign(rule="a"), points.assign(rule=[str(i) for i in range(len(points))])
    assert on_front(alike, floor, average_radius(alike), "nfe")
    assert not on_front(apart, floor, average_radius(apart), "nfe")
    assert on_front(apart, floor, accuracy(0.25, 1.0), "nfe")


def test_marks_of_one_cost_stand_apart_and_keep_their_order():
    x = np.array([100.0, 100.0, 100.0, 103.0, 300.0])
    moved = side_by_side(x, point=1.0)
    assert (np.diff(moved) >= APART - 1e-9).all()
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
    assert hits(segments, boxes)[:, 0].tolist() == [True, True, False, False, False]


def test_published_logs_are_hollow_labelled_and_absent_from_the_milliseconds():
    summary = with_published(small())
    figure = pareto(summary)
    beside_nfe, beside_ms = figure.axes[-2:]
    name = "Cohen ResNet-110 (imported)"
    assert name in {text.get_text() for text in beside_nfe.texts}
    assert name not in {text.get_text() for text in beside_ms.texts}
    assert any(line.get_markerfacecolor() == "white" for line in beside_nfe.lines)
    assert not any(line.get_markerfacecolor() == "white" for line in beside_ms.lines)
    assert name in words_of(accuracy_vs_radius(summary))


def with_published(summary: Summary) -> Summary:
    log = synthetic({"log": ("imported", 1, 1.0, 0.3)}, sigmas=(0.5,), images=80, n=10_000)
    costs = [c for c in log.table if c.startswith("ms_") or c in ("device", "peak_bytes", "counted_draws")]
    name = {"source": IMPORTED, "label": "Cohen ResNet-110", "purifier": "Cohen ResNet-110"}
    table = pd.concat([summary.table, log.table.assign(**name).drop(columns=costs)], ignore_index=True)
    return replace(summary, table=table, certificates=pd.concat([summary.certificates, log.certificates]))


def test_the_curves_read_what_the_table_reads(full):
    figure = accuracy_vs_radius(full)
    assert [words for words in words_of(figure) if words.startswith("σ = ")] == ["σ = 0.25", "σ = 0.5", "σ = 1"]
    assert {"onestep-edm", "torchdiffeq midpoint 2"} <= set(words_of(figure))
    row = full.table[(full.table["label"] == "onestep-edm") & (full.table["sigma"] == 0.5)].iloc[0]
    mine = full.certificates[full.certificates["cell"] == row["cell"]]
    x, hits = steps(np.sort(mine.loc[mine["correct"], "radius"].to_numpy()), row["largest"])
    for radius in (0.0, 0.1, 0.25, 0.5):
        drawn = hits[np.searchsorted(x, radius)] / len(mine)  # steps-pre: the value at the next corner
        assert drawn == pytest.approx(row[f"acc@{radius:g}"])
    assert x[-1] == pytest.approx(row["largest"])


def test_a_curve_whose_images_end_early_falls_to_zero():
    x, hits = steps(np.array([0.1, 0.1, 0.2]), largest=0.5)
    assert list(x) == [0, 0.1, 0.2, 0.2]
    assert list(hits) == [3, 3, 1, 0]
    x, hits = steps(np.array([]), largest=0.5)
    assert list(x) == [0, 0.5] and not hits.any()


@pytest.mark.parametrize("radius", [None, 0.5])
def test_gains_are_drawn_where_they_are_and_filled_where_they_are_sure(full, radius):
    found = paired_gains(full, "onestep-edm", radius)
    scale = 1 if radius is None else 100
    wanted = {round(scale * gain, 6) for gain in found[found["label"] != "none"]["gain"]}
    drawn, solid = set(), 0
    for axes in gains(full, "onestep-edm", radius).axes:
        low, high = axes.get_xlim()
        marks = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
        solid += sum(line.get_markerfacecolor() != "white" for line in marks)
        drawn |= {round(float(line.get_xdata()[0]), 6) for line in marks}
        assert low < 0 < high
    assert drawn <= wanted and len(drawn) > 0.8 * len(wanted)
    sure = found[(found["p_holm"] < 0.05) & (found["label"] != "none")]
    assert 0 < solid <= len(sure)


def test_gains_over_a_purifier_that_is_not_there_are_refused_and_nothing_is_drawn(full, tmp_path):
    with pytest.raises(ValueError, match="there are: none, onestep-ddpm"):
        draw_gains(full, "nope", None, tmp_path)
    assert not list(tmp_path.iterdir())
    assert [p.name for p in draw_gains(full, "onestep-edm", 0.5, tmp_path, ["png"])] == ["gains-radius-0.5.png"]


def test_the_grid_names_columns_and_classes_and_marks_them_without_colour(full):
    words = words_of(image_grid(full, synthetic_examples(), 1.0))
    assert {"clean", "noisy\n(none)", "image 83"} <= set(words)
    assert {"✓ 0", "✗ 1"} <= set(words)
    assert sum("✗" in word for word in words) == 1 + sum(
        int((panel.predicted != np.arange(6)).sum()) for panel in synthetic_examples().panels
    )  # one in the footer, which explains it


def test_a_grid_in_colour_and_with_more_purifiers_than_fit_continues_below():
    labels = [f"method-{i}" for i in range(30)]
    figure = image_grid(small(), synthetic_examples(labels, channels=3), 1.0)
    assert words_of(figure).count("clean") == 3
    assert len(figure.axes) == 3
    with pytest.raises(ValueError, match=r"sigma = 0\.3"):
        image_grid(small(), synthetic_examples(labels), 0.3)


@pytest.mark.parametrize("table", [pd.DataFrame(), pd.DataFrame([FAILED])], ids=["empty", "failed"])
def test_a_summary_without_figures_says_so(table, tmp_path):
    notes = ("nothing is certified yet",)
    summary = Summary("Young run", table, pd.DataFrame(), RADII, notes)
    written = draw_all(summary, None, tmp_path)
    assert [path.stem for path in written] == ["pareto"] * 2 + ["accuracy-vs-radius"] * 2
    for path in written[1::2]:
        assert "Nothing is certified yet" in svg_words(path)
        assert "Note: nothing is certified yet." in svg_words(path)


def abstained() -> Summary:
    summary = small()
    numbers = [c for c in summary.table if c.startswith(("acc@", "acc_low", "acr"))]
    table = summary.table.assign(**dict.fromkeys(numbers, 0.0))
    certificates = summary.certificates.assign(correct=False, predicted=-1, radius=0.0)
    return replace(summary, table=table, certificates=certificates)


def without(*columns: str) -> Summary:
    summary = small()
    return replace(summary, table=summary.table.drop(columns=list(columns)))


def beside_a_failed_cell() -> Summary:
    summary = small()
    return replace(summary, table=pd.concat([summary.table, pd.DataFrame([FAILED])], ignore_index=True))


def without_networks() -> Summary:
    return small(purifiers={"none": PURIFIERS["none"], "median(size=3)": ("other", 0, 0.02, -0.4)})


ODD = {
    "one image": lambda: small(images=1),
    "all abstained": abstained,
    "nfe unknown": lambda: replace(small(), table=small().table.assign(nfe=np.nan)),
    "no costs at all": lambda: without("nfe", "ms_purify", "device", "wanted"),
    "a failed cell": beside_a_failed_cell,
    "no plain smoothing": lambda: small(purifiers={"onestep-edm": PURIFIERS["onestep-edm"]}),
    "only plain smoothing": lambda: small(purifiers={"none": PURIFIERS["none"]}),
    "only radius 0": lambda: replace(small(), radii=(0.0,)),
    "no reachable radius": lambda: replace(small(), radii=(5.0,)),
    "a filter without network": without_networks,
    "dollars and underscores": lambda: small(purifiers={"a_$x$_b": PURIFIERS["onestep-edm"]}),
}


@pytest.mark.parametrize("build", ODD.values(), ids=ODD)
def test_odd_summaries_are_drawn(build, tmp_path):
    summary = build()
    for i, figure in enumerate((pareto(summary), accuracy_vs_radius(summary))):
        figure.savefig(tmp_path / f"{i}.png", dpi=40)
        assert "60 images" in " ".join(words_of(figure)) or "1 image" in " ".join(words_of(figure))


def test_a_purifier_without_a_network_stands_at_zero_evaluations():
    figure = pareto(without_networks())
    assert "median" in names_of_points(figure)
    assert "0" in [tick.get_text() for tick in figure.axes[0].get_xticklabels()]


def test_incomplete_rows_say_how_many_images_they_have():
    summary = small()
    table = summary.table.assign(wanted=100)
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


def test_the_same_summary_gives_the_same_files(tmp_path):
    (tmp_path / "again").mkdir()
    first, second = (save(pareto(small()), folder, "pareto") for folder in (tmp_path, tmp_path / "again"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_drawing_leaves_the_settings_of_the_caller_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    pareto(small())
    assert dict(matplotlib.rcParams) == before


def test_short_names_keep_what_tells_cells_apart():
    table = pd.DataFrame({"label": list(PURIFIERS), "family": [family for family, *_ in PURIFIERS.values()]})
    assert list(short_names(table).values()) == [
        "none",
        "onestep-ddpm",
        "onestep-edm",
        "onestep-edm-ft",
        "consistency",
        "consistency 2",
        "consistency-ft",
        "ddpm 4",
        "sde 6",
        "edm-stochastic 3",
        "pf-ode 3",
        "torchdiffeq midpoint 2",
    ]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["sde(steps=6, churn=2.0)", "sde(steps=6, churn=0.5)"], ["sde 6 churn=2", "sde 6 churn=0.5"]),
        (
            ["pf(solver=dopri5, rtol=0.01)", "pf(solver=dopri5, rtol=0.1)"],
            ["pf dopri5 rtol=0.01", "pf dopri5 rtol=0.1"],
        ),
        (["m(levels=[1.0, 2.0], k=1)", "m(levels=[1.0], k=1)"], ["m levels=[1.0, 2.0]", "m levels=[1.0]"]),
        (["ResNet (N = 100,000)"], ["ResNet (N = 100,000)"]),
        (["a" * 40 + "b", "a" * 40 + "c"], ["a" * 40 + "b", "a" * 40 + "c"]),
        (["m(steps=1)", "m"], ["m(steps=1)", "m"]),
        ([], []),
    ],
)
def test_short_names_of_unusual_labels_stay_different(labels, names):
    assert list(short_names(pd.DataFrame({"label": labels})).values()) == names


def test_examples_survive_a_round_trip(tmp_path):
    examples = synthetic_examples(sigmas=(0.25, 1.0), channels=3)
    assert read_examples(tmp_path) is None
    path = write_examples(tmp_path / "run", examples)
    assert path.name == "examples.npz" and [p.name for p in path.parent.iterdir()] == ["examples.npz"]
    found = read_examples(tmp_path / "run")
    assert found is not None and found.classes == examples.classes
    for field in ("images", "labels", "clean"):
        np.testing.assert_array_equal(getattr(found, field), getattr(examples, field))
    assert [(p.cell, p.sigma) for p in found.panels] == [(p.cell, p.sigma) for p in examples.panels]
    for mine, theirs in zip(found.panels, examples.panels, strict=True):
        for field in ("noisy", "purified", "predicted"):
            np.testing.assert_array_equal(getattr(mine, field), getattr(theirs, field))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.arange(5)}, "labels: expected"),
        ({"labels": np.full(6, 10)}, "outside the 10 classes"),
        ({"images": np.arange(6.0)}, "images: expected"),
        ({"clean": np.zeros((6, 28, 28), np.uint8)}, r"clean: expected \[M,C,H,W\]"),
        ({"clean": np.zeros((6, 1, 28, 28), np.float32)}, "clean: expected"),
        ({"clean": np.zeros((6, 1, 32, 32), np.uint8)}, "noisy of none at sigma = 1: expected"),
    ],
)
def test_examples_that_do_not_belong_together_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(synthetic_examples(), **change)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"text", lambda b: b[:-200], lambda b: flip(b)])
def test_a_damaged_file_of_examples_is_named(damage, tmp_path):
    path = write_examples(tmp_path, synthetic_examples(["none"]))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} cannot be read"):
        read_examples(tmp_path)


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(b ^ 0xFF for b in data[middle : middle + 64]) + data[middle + 64 :]


def test_a_file_that_lacks_a_panel_or_is_of_a_later_format_is_named(tmp_path):
    path = write_examples(tmp_path, synthetic_examples(["none"]))
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{k: v for k, v in arrays.items() if k != "purified_0"})
    with pytest.raises(ValueError, match="purified_0"):
        read_examples(tmp_path)
    np.savez(path, **{**arrays, "format": np.array(2)})
    with pytest.raises(ValueError, match="format is 2"):
        read_examples(tmp_path)
