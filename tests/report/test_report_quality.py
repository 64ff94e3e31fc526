"""The quality of purification in the report and in its picture: what was measured, and who judged."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from report_runs import Page, make_metrics, make_run, record_of, report_of
from scipy.stats import spearmanr

from bench import plots
from bench.plots.quality import _MOST_TICKS, _ticks
from bench.store.quality import Metrics, read_metrics, write_metrics
from bench.summary.summary import summarise


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The summary, the page and the metrics of a small run."""
    folder = tmp_path_factory.mktemp("quality")
    run = make_run(folder / "small")
    metrics = make_metrics(run)
    return *report_of(folder / "report.html", run, metrics=[metrics]), metrics


def test_every_distance_on_the_page_is_the_one_that_was_measured(measured):
    summary, text, metrics = measured
    record = record_of(text)
    known = {(cell.label, cell.sigma): cell for cell in metrics.cells}
    for row, points in zip(record["rows"], record["quality"]["points"], strict=True):
        own = known[row["purifier"], row["sigma"]["value"]]
        assert {name: (p["value"], p["low"], p["high"]) for name, p in points.items()} == {
            name: (v.value, v.low, v.high) for name, v in own.values.items()
        }
        assert points["perceptual"]["trained"] == (row["purifier"] == "consistency")
    section = text[text.index('id="quality"') : text.index('id="time"')]
    lines = re.findall(r"<tr data-sigma=.*?</tr>", section, re.DOTALL)
    assert len(lines) == len(summary.table)
    for line in lines:
        name, sigma, *values = re.findall(r'data-value="([^"]*)"', line)
        own = known[name, float(sigma)]
        assert [float(v) for v in values] == [own.values[m].value for m in ("perceptual", "frechet")]


def test_every_metric_names_who_judged_and_what_is_missing_says_why(measured):
    _, text, metrics = measured
    words = Page(text).text
    for network in metrics.networks.values():
        assert f"Model: {network.name}." in words
    assert "Not measured: no weights." in words
    assert "20 images, one draw of noise each, of those that were certified" in words
    assert "was trained to lower this distance" in words


def test_ranks_are_spearmans_without_plain_smoothing(measured):
    record = record_of(measured[1])
    rows = [row for row in record["rows"] if row["sigma"]["words"] == "0.5" and row["family"] != "none"]
    assert len(rows) == 3 and record["quality"]["ranks"]["perceptual"] == {}  # too few of them to rank
    assert all("none" not in words for words in record["quality"]["ranks"])


def test_ranks_are_given_from_four_purifiers_on(tmp_path):
    purifiers = {f"p-{i}": ("sde", i, 0.1 * i, 0.7 + 0.03 * i) for i in range(1, 8)}
    run = make_run(tmp_path / "run", purifiers, (0.5,))
    _, text = report_of(tmp_path / "r.html", run, metrics=[make_metrics(run)])
    record = record_of(text)
    value = [row["metrics"]["acr"]["value"] for row in record["rows"]]
    far = [points["frechet"]["value"] for points in record["quality"]["points"]]
    rho = spearmanr(value, far).statistic
    assert rho < -0.3
    assert record["quality"]["ranks"]["frechet"]["0.5"]["acr"] == f"−{-rho:.2f} over 7 purifiers"


def test_runs_that_were_measured_differently_are_said_not_to_compare(tmp_path):
    runs = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    metrics = [make_metrics(runs[0]), make_metrics(runs[1], judge="LPIPS (VGG, at 224)")]
    _, text = report_of(tmp_path / "r.html", *runs, metrics=metrics)
    quality = record_of(text)["quality"]
    assert [m["comparable"] for m in quality["metrics"]] == [False, True]
    assert quality["ranks"]["perceptual"] == {}
    assert "their figures do not compare" in Page(text).text


def test_a_run_without_metrics_says_in_a_line_how_to_get_them(tmp_path):
    _, text = report_of(tmp_path / "r.html", make_run(tmp_path / "run"))
    words = Page(text).text
    assert "were not measured: python -m bench metrics RUN adds them" in words
    assert 'id="quality"' not in text and record_of(text)["quality"]["metrics"] == []


def test_metrics_of_cells_that_are_gone_are_not_shown(tmp_path):
    run = make_run(tmp_path / "run", errors={"pf-ode": "out of memory"})
    whole = make_metrics(make_run(tmp_path / "run"))
    _, text = report_of(tmp_path / "r.html", run, metrics=[whole])
    record = record_of(text)
    assert len(record["quality"]["points"]) == len(record["rows"]) == 6


def test_what_metrics_say_is_never_markup(tmp_path):
    evil = "</script><img src=x onerror=alert(2)>"
    run = make_run(tmp_path / "run")
    metrics = replace(make_metrics(run, judge=evil), missing={"fid": evil})
    page = Page(report_of(tmp_path / "r.html", run, metrics=[metrics])[1])
    assert all("onerror" not in attributes for _, attributes in page.elements) and evil in page.text


def test_metrics_are_read_as_they_were_written(tmp_path):
    metrics = make_metrics(make_run(tmp_path / "run"))
    assert read_metrics(tmp_path) is None
    write_metrics(tmp_path, metrics)
    assert read_metrics(tmp_path) == metrics
    assert [path.name for path in tmp_path.glob("*metrics*")] == ["metrics.json"]


@pytest.mark.parametrize("text", ["{", '{"format": 2}', "[]", '{"format": 1, "images": 3}'])
def test_damaged_metrics_are_refused_by_name(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.json cannot be read.*makes it again"):
        read_metrics(tmp_path)


def test_the_picture_has_a_panel_for_every_distance(tmp_path):
    run = make_run(tmp_path / "run")
    summary, metrics = summarise([run]), make_metrics(run)
    figure = plots.quality(summary, metrics, "run")
    assert isinstance(figure, Figure) and len(figure.axes) == 2
    words = " ".join(text.get_text() for text in figure.texts)
    assert "a network of ours" in words and "Hollow" in words and "Perceptual distance" in words
    for axes in figure.axes:
        names = {text.get_text() for text in axes.texts}
        assert names == {"onestep-edm", "consistency", "pf-ode"}


def test_pictures_of_metrics_are_drawn_where_there_are_some(tmp_path):
    run = make_run(tmp_path / "run")
    written = plots.draw_all(summarise([run]), None, tmp_path, ["svg"], {"run": make_metrics(run)})
    assert [path.name for path in written][-1] == "quality.svg"
    empty = Metrics(1, 1, {}, {}, {})
    assert plots.quality(summarise([run]), empty, "run").axes == []


@pytest.mark.parametrize(("low", "high"), [(0.35, 1.6), (3.3, 7.2), (0.5, 14), (1e-4, 3e5), (0.99, 1.02)])
def test_ticks_are_round_and_few(low, high):
    found = _ticks(low, high)
    assert len(found) <= _MOST_TICKS and all(low <= tick <= high for tick in found)
    assert found == sorted(found) and (found or high / low < 1.05)
    assert all(len(f"{tick:.0e}") <= 6 and np.isclose(float(f"{tick:.1e}"), tick) for tick in found)
