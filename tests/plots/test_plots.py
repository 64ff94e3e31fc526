"""Pictures are made from a summary alone, whatever it lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import (
    NOTES,
    PURIFIERS,
    RADII,
    small,
    svg_words,
    synthetic,
    synthetic_examples,
    with_failed,
    without_networks,
    words_of,
)
from PIL import Image

from bench.analysis.gains import gain_sentences, paired_gains
from bench.plots import accuracy_vs_radius, draw_all, draw_gains, gains, image_grid, pareto
from bench.plots.gains import _span
from bench.plots.style import save
from bench.records import IMPORTED
from bench.summary.rows import steps
from bench.summary.summary import Summary, summarise


def is_picture(path: Path) -> bool:
    """Larger than a thumbnail and neither blank nor one colour."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    colours = np.unique(pixels[::5, ::5].astype(int) @ (65536, 256, 1))
    return pixels.shape[1] >= 1500 and len(colours) > 50


@pytest.fixture(scope="module")
def full() -> Summary:
    return synthetic(notes=NOTES)


@pytest.fixture(scope="module")
def drawn(full, tmp_path_factory) -> list[Path]:
    """Every picture of the full sweep."""
    folder = tmp_path_factory.mktemp("pictures") / "new"
    return draw_all(full, synthetic_examples(), folder)


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


def test_the_first_picture_shows_each_purifier_at_the_sigma_that_certifies_most_at_the_radius(full):
    words = words_of(pareto(full))
    assert "Certified robustness against cost, each purifier at its best σ" in words
    for radius in (0.5, 1):
        column = full.table[full.table["name"] == "onestep-edm"].set_index("sigma")[f"acc@{radius:g}"]
        best = column.idxmax()
        heading = next(word for word in words if word.startswith(f"Certified accuracy at radius {radius:g} ("))
        assert f"σ = {best:g}" in heading or f"onestep-edm (σ {best:g})" in words


def test_published_logs_are_hollow_labelled_and_absent_from_the_milliseconds():
    summary = with_published(small())
    figure = pareto(summary)
    (beside_nfe,) = [axes for axes in figure.axes if axes.get_xlabel().startswith("Network evaluations")]
    beside_ms = figure.axes[figure.axes.index(beside_nfe) + 1]
    name = "Cohen ResNet-110 (imported)"
    assert name in {text.get_text() for text in beside_nfe.texts}
    assert name not in {text.get_text() for text in beside_ms.texts}
    assert any(line.get_markerfacecolor() == "white" for line in beside_nfe.lines)
    assert not any(line.get_markerfacecolor() == "white" for line in beside_ms.lines)
    assert name in words_of(accuracy_vs_radius(summary))


def with_published(summary: Summary) -> Summary:
    log = synthetic({"log": ("imported", 1, 1.0, 0.3)}, sigmas=(0.5,), images=80, n=10_000)
    costs = [c for c in log.table if c.startswith("ms_") or c in ("device", "peak_bytes", "counted_draws")]
    name = {"source": IMPORTED, "name": "Cohen ResNet-110 (imported)", "purifier": "Cohen ResNet-110"}
    table = pd.concat([summary.table, log.table.assign(**name).drop(columns=costs)], ignore_index=True)
    return replace(summary, table=table, certificates=pd.concat([summary.certificates, log.certificates]))


def test_the_curves_read_what_the_table_reads(full):
    figure = accuracy_vs_radius(full)
    assert [words for words in words_of(figure) if words.startswith("σ = ")] == ["σ = 0.25", "σ = 0.5", "σ = 1"]
    assert {"onestep-edm", "torchdiffeq midpoint 2"} <= set(words_of(figure))
    row = full.table[(full.table["name"] == "onestep-edm") & (full.table["sigma"] == 0.5)].iloc[0]
    mine = full.certificates[full.certificates["cell"] == row["cell"]]
    x, hits = steps(np.sort(mine.loc[mine["correct"], "radius"].to_numpy()), row["largest"])
    for radius in (r for r in (0.0, 0.1, 0.25, 0.5) if r <= row["largest"]):
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
    wanted = {round(scale * gain, 6) for gain in found[found["name"] != "none"]["gain"]}
    drawn, solid = set(), 0
    for axes in gains(full, "onestep-edm", radius).axes:
        low, high = axes.get_xlim()
        marks = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
        solid += sum(line.get_markerfacecolor() != "white" for line in marks)
        drawn |= {round(float(line.get_xdata()[0]), 6) for line in marks}
        assert low < 0 < high
    assert drawn <= wanted and len(drawn) > 0.8 * len(wanted)
    sure = found[(found["p_holm"] < 0.05) & (found["name"] != "none")]
    assert 0 < solid <= len(sure)


def test_the_picture_of_gains_says_every_significant_gain_and_loss(full):
    words = " ".join(words_of(gains(full, "onestep-edm")))
    for sentence in gain_sentences(paired_gains(full, "onestep-edm"), "onestep-edm"):
        assert sentence in words
    assert "lower than onestep-edm: none (σ = " in words  # plain smoothing loses, although it is not drawn


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


@pytest.mark.parametrize("prepare", [lambda summary: summary, with_failed], ids=["empty", "failed"])
def test_a_summary_without_figures_says_so(prepare, tmp_path):
    summary = prepare(replace(summarise([], RADII), notes=("nothing is certified yet",)))
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
    return replace(summary, table=summary.table.assign(**dict.fromkeys(columns, np.nan)))


def with_radii(*radii: float) -> Summary:
    summary = small()
    beyond = {f"{part}@{r:g}": np.nan for r in radii for part in ("acc", "acc_low", "acc_high")}
    return replace(summary, radii=radii, table=summary.table.assign(**{**beyond, **summary.table}))


ODD = {
    "one image": lambda: small(images=1),
    "all abstained": abstained,
    "nfe unknown": lambda: replace(small(), table=small().table.assign(nfe=np.nan)),
    "no costs at all": lambda: without("nfe", "ms_purify", "ms_joint", "device"),
    "a failed cell": lambda: with_failed(small()),
    "no plain smoothing": lambda: small(purifiers={"onestep-edm": PURIFIERS["onestep-edm"]}),
    "only plain smoothing": lambda: small(purifiers={"none": PURIFIERS["none"]}),
    "only radius 0": lambda: with_radii(0.0),
    "no reachable radius": lambda: with_radii(5.0),
    "a filter without network": without_networks,
    "dollars and underscores": lambda: small(purifiers={"a_$x$_b": PURIFIERS["onestep-edm"]}),
}


@pytest.mark.parametrize("build", ODD.values(), ids=ODD)
def test_odd_summaries_are_drawn(build, tmp_path):
    summary = build()
    for i, figure in enumerate((pareto(summary), accuracy_vs_radius(summary))):
        figure.savefig(tmp_path / f"{i}.png", dpi=40)
        assert "60 images" in " ".join(words_of(figure)) or "1 image" in " ".join(words_of(figure))


def test_the_same_summary_gives_the_same_files(tmp_path):
    (tmp_path / "again").mkdir()
    first, second = (save(pareto(small()), folder, "pareto") for folder in (tmp_path, tmp_path / "again"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_drawing_leaves_the_settings_of_the_caller_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    pareto(small())
    assert dict(matplotlib.rcParams) == before


def test_an_axis_of_gains_reaches_around_all_intervals_but_those_far_off_the_others():
    lows, highs = [-32.0, -22.0, -15.0, -10.0, -1.0, 0.4, 0.1], [-24.0, -13.0, -7.0, -4.0, 2.5, 6.0, 4.3]
    low, high = _span(pd.DataFrame({"gain_low": lows, "gain_high": highs}), least=2.0)
    assert low < min(lows) and high > max(highs)  # most rows lose: that must not cut off those that gain
    low, high = _span(pd.DataFrame({"gain_low": [-80.0, *[-2.0] * 9], "gain_high": [-70.0, *[2.0] * 9]}), least=2.0)
    assert -10 < low < -2 and 2 < high < 4  # one row of ten lies far off, and is told in brackets
