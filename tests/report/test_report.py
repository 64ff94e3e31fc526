"""The report: every figure is the summary's, and what is missing is said."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_runs import Page, make_examples, make_run, record_of, report_of

from bench.analysis.gains import paired_gains
from bench.analysis.recommendation import recommend
from bench.report import data
from bench.report.decisions import budgets
from bench.store.run import export, read_run
from bench.store.store import Store
from bench.summary.fronts import front_shares
from bench.summary.statistics import resampled_means, split_half, wilson_interval
from bench.summary.summary import summarise


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The summary, the page and the run of four purifiers at two sigmas, with images."""
    folder = tmp_path_factory.mktemp("report")
    run = make_run(folder / "small")
    summary, text = report_of(folder / "report.html", run, examples=make_examples())
    return summary, text, run


def test_every_figure_of_the_charts_is_the_summarys(small):
    summary, text, _ = small
    rows = record_of(text)["rows"]
    assert len(rows) == len(summary.table) == 8
    known = {(row["purifier"], row["sigma"]): row for row in summary.table.to_dict("records")}
    for row in rows:
        own = known[row["purifier"], row["sigma"]["value"]]
        costs = row["nfe"]["value"], row["ms"]["value"], row["images"], row["abstained"]["value"], row["largest"]
        assert costs == tuple(own[c] for c in ("nfe", "ms_purify", "images", "abstained", "largest"))
        assert (row["gflops"]["value"], row["joint"]["value"]) == (own["gflops"], own["ms_joint"])
        reached = [r for r in summary.radii if r <= own["largest"]]
        assert set(row["metrics"]) == {*(f"{r:g}" for r in reached), "acr"}
        for r in reached:
            found = row["metrics"][f"{r:g}"]
            assert (found["value"], found["low"], found["high"]) == tuple(
                own[f"{c}@{r:g}"] for c in ("acc", "acc_low", "acc_high")
            )
            shown = [float(number) for number in re.findall(r"[\d.]+", found["words"])]
            assert shown == pytest.approx([100 * found[c] for c in ("value", "low", "high")], abs=0.0501)
        acr = row["metrics"]["acr"]
        assert (acr["value"], acr["low"], acr["high"]) == (own["acr"], own["acr_low"], own["acr_high"])
        assert row["certifier"] == own["rule"] and "alpha = 0.001" in own["rule"]


def test_the_table_on_the_page_holds_the_summarys_figures(small):
    summary, text, _ = small
    table = text[text.index('id="figures"') : text.index('id="images"')]
    lines = re.findall(r"<tr data-sigma=.*?</tr>", table, re.DOTALL)
    assert len(lines) == 8
    known = {(row["purifier"], row["sigma"]): row for row in summary.table.to_dict("records")}
    gains = paired_gains(summary).set_index(["name", "sigma"])
    assert set(gains.index) == {("pf-ode", 0.25), ("pf-ode", 0.5)}
    for line in lines:
        name, *values = re.findall(r'data-value="([^"]*)"', line)
        own = known[name, float(values[0])]
        wanted = [own["sigma"], *(own[f"acc@{r:g}"] if r <= own["largest"] else None for r in summary.radii)]
        wanted += [
            own["acr"],
            *(gains.loc[(name, own["sigma"]), ["gain", "p_holm"]] if name == "pf-ode" else [None] * 2),
        ]
        wanted += [own[c] for c in ("abstained", "nfe", "ms_purify", "gflops", "ms_joint", "images")]
        assert [float(v) if v else None for v in values] == wanted
        assert ("over onestep-edm" in line) == (name == "pf-ode")


def test_the_curves_pass_through_the_accuracies_of_the_summary(small):
    summary, text, _ = small
    record = record_of(text)
    for row, curve in zip(record["rows"], record["curves"], strict=True):
        for r in summary.radii:
            if f"{r:g}" in row["metrics"]:
                at = next((i for i, x in enumerate(curve["x"]) if x >= r), None)
                if at is None:  # the line has fallen to zero before
                    assert curve["y"][-1] == row["metrics"][f"{r:g}"]["value"] == 0
                    continue
                for part, name in (("y", "value"), ("low", "low"), ("high", "high")):
                    assert curve[part][at] == pytest.approx(100 * row["metrics"][f"{r:g}"][name], abs=0.0501)


@given(st.lists(st.floats(0.001, 1.0), max_size=400), st.integers(0, 50), st.floats(1.0, 2.0))
def test_a_curve_says_how_many_images_reach_a_radius(radii, wrong, largest):
    images = len(radii) + wrong
    if not images:
        return
    found = data._curve(np.sort(np.array(radii)), images, largest)
    assert len(found["x"]) <= data._MOST_STEPS + 2
    for x, y, low, high in zip(*(found[name] for name in ("x", "y", "low", "high")), strict=True):
        near = [sum(r >= x + shift for r in radii) for shift in (1e-4, -1e-4)]  # the radii of the record are rounded
        if x < max(radii, default=0):
            assert 100 * near[0] / images - 0.06 <= y <= 100 * near[1] / images + 0.06
        hits = round(y * images / 100)
        if images < 400:
            assert (low, high) == tuple(round(100 * end, 1) for end in wilson_interval(hits, images))
    assert found["y"] == sorted(found["y"], reverse=True)


def test_device_seconds_per_certified_image_are_all_seconds_over_those_images(small):
    summary, text, run = small
    seconds = run.blocks.groupby("cell")[["noise_s", "purify_s", "classify_s"]].sum().sum(axis=1)
    for row in record_of(text)["rows"]:
        own = summary.table[
            (summary.table["purifier"] == row["purifier"]) & (summary.table["sigma"] == row["sigma"]["value"])
        ]
        _, radii = summary.certified["small", own["cell"].item()]
        for name, found in row["metrics"].items():
            certified = int((radii >= (0 if name == "acr" else float(name))).sum())
            expected = seconds[own["cell"].item()] / certified if certified else None
            assert found["seconds"]["value"] == (pytest.approx(expected) if certified else None)


def test_every_answer_is_what_recommend_says(small):
    summary, text, _ = small
    record, page = record_of(text), Page(text)
    given = budgets(summary.table)
    assert [b.limit for b in given] == [
        {}, {"max_nfe": 0}, {"max_nfe": 1}, {"max_ms": 0.5}, {"max_ms": 1.0},
        {"max_gflops": 5.0}, {"max_gflops": 10.0}, {"max_joint_ms": 0.5}, {"max_joint_ms": 1.0},
    ]  # fmt: skip
    words = page.text
    assert len(record["choices"]) == len(summary.radii)
    answers = re.findall(r'<template id="answer-\d+">(.*?)</template>', text, re.DOTALL)
    assert len(answers) == len(record["uses"])
    for radius, chosen in zip(summary.radii, record["choices"], strict=True):
        for budget, number in zip(given, chosen, strict=True):
            found = recommend(summary, radius, **budget.limit)
            said = Page(f"<p>{answers[number]}").text
            assert found.verdict in said and found.verdict in words
            assert all(note in said for note in found.notes)
            if found.chosen is None:
                assert record["uses"][number] is None
                continue
            use = record["rows"][record["uses"][number]]
            assert (use["name"], use["sigma"]["value"]) == (found.chosen.name, found.chosen.sigma)
            assert f"{100 * found.chosen.accuracy:.1f} %" in said
            if found.share_best is not None:
                assert f"Best in this share of resamples {100 * found.share_best:.0f} %" in said
            if found.runner_up is not None:
                assert f"Runner-up: {found.runner_up.name}, σ = {found.runner_up.sigma:g}" in said


def test_the_answer_that_the_page_opens_with_is_the_one_of_its_selects(small):
    _, text, _ = small
    record = record_of(text)
    radius = [r["value"] for r in record["radii"]].index(record["opening"]["radius"])
    shown = re.search(r'<div id="answer".*?>(.*?)</div>\n  <template', text, re.DOTALL)[1]
    template = re.search(rf'<template id="answer-{record["choices"][radius][0]}">(.*?)</template>', text, re.DOTALL)[1]
    assert shown == template
    use = record["rows"][record["uses"][record["choices"][radius][0]]]
    assert record["opening"]["sigma"] == use["sigma"]["value"]


def test_the_share_of_resamples_on_the_front_is_that_of_the_statistics(small):
    summary, text, _ = small
    rows = [row for row in record_of(text)["rows"] if row["sigma"]["words"] == "0.5"]
    cells = [summary.table.query("purifier == @row['purifier'] and sigma == 0.5")["cell"].item() for row in rows]
    radii = np.stack([summary.certified["small", cell][1] for cell in cells], axis=1)
    costs = [0.0 if row["family"] == "none" else row["nfe"]["value"] for row in rows]
    for name, values in (("0.25", (radii >= 0.25).astype(float)), ("acr", np.maximum(radii, 0))):
        expected = front_shares(costs, resampled_means(values))
        assert [row["metrics"][name]["front"]["0.5"]["nfe"] for row in rows] == [f"{100 * p:.0f} %" for p in expected]


def test_the_envelope_has_the_split_half_figure_of_every_mark(small):
    summary, text, _ = small
    rows = record_of(text)["rows"]
    for name in ("none", "pf-ode"):
        kin = [row for row in rows if row["series"] == name]
        cells = summary.table[summary.table["purifier"] == name]["cell"]
        radii = np.stack([summary.certified["small", cell][1] for cell in cells], axis=1)
        for metric, values in (("0.25", (radii >= 0.25).astype(float)), ("acr", np.maximum(radii, 0))):
            mean, _ = split_half(values)
            assert mean <= values.mean(axis=0).max() + 1e-12
            words = f"{mean:.3f}" if metric == "acr" else f"{100 * mean:.1f} %"
            assert {row["metrics"][metric]["fair"] for row in kin} == {words}
    reach = [row["metrics"]["0.5"]["fair"] for row in rows if "0.5" in row["metrics"]]
    assert reach and set(reach) == {None}  # one sigma alone reaches it, so that nothing was chosen


def test_times_by_stage_are_the_summarys(small):
    summary, text, _ = small
    section = text[text.index('id="time"') : text.index('id="run"')]
    lines = re.findall(r"<tr data-sigma=.*?</tr>", section, re.DOTALL)
    known = {(row["purifier"], row["sigma"]): row for row in summary.table.to_dict("records")}
    assert len(lines) == 8
    for line in lines:
        name, sigma, *stages = re.findall(r'data-value="([^"]*)"', line)
        own = known[name, float(sigma)]
        wanted = [own[f"ms_{stage}"] for stage in ("noise", "purify", "classify")]
        others = own["gflops_purify"], own["network_parameters"] / 1e6, own["peak_bytes"] / 2**30
        assert [float(v) for v in stages] == pytest.approx([*wanted, sum(wanted), *others])
    assert "the classifier adds 0.5 GFLOPs a row" in section


def test_the_images_are_there_with_words_for_who_cannot_see_them(small):
    _, text, _ = small
    examples = make_examples()
    images = Page(text).all("img")
    assert len(images) == 2 * 4 * 5  # sigmas, images; clean, noisy (none) and three purifiers
    assert all(image["alt"] for image in images)
    assert images[0]["alt"] == "image 0, clean: class cat"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(images[0]["src"].partition(",")[2]))))
    assert np.array_equal(pixels, examples.clean[0, 0])
    assert "image 0, pf-ode: the classifier sees dog, wrong, it is cat" in [image["alt"] for image in images]


def test_the_manifest_and_completeness_are_shown(small):
    _, text, run = small
    words = Page(text).text
    assert "8 of 8 cells are complete, 30 images each" in words
    for fact in (
        "code revision 0123abc",
        "PurifyBench 0.1.0",
        "torch 2.14",
        "seed 7",
        "precision fp32",
        "data set mnist5k",
    ):
        assert fact in words
    for key, cell in run.cells.items():
        assert key in words and f"purifier code of {cell.purifier}" in words
    assert "version = {0.1.0}" in words and "author = {{The PurifyBench developers}}" in words


def test_the_page_is_written_in_one_go(tmp_path):
    path = tmp_path / "deep" / "report.html"
    report_of(path, make_run(tmp_path / "run"))
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_command_writes_the_page_beside_the_run(tmp_path, cli):
    run = make_run(tmp_path / "run", images=3)
    run.folder.mkdir()
    export(run)
    done = cli("report", run.folder)
    assert done.exit_code == 0 and f"report in {run.folder / 'report.html'}" in done.stdout
    rows = record_of((run.folder / "report.html").read_text(encoding="utf-8"))["rows"]
    known = summarise([read_run(run.folder)]).table.set_index(["purifier", "sigma"])
    assert len(rows) == len(known) == 8
    for row in rows:
        own = known.loc[(row["purifier"], row["sigma"]["value"])]
        assert (row["metrics"]["acr"]["value"], row["ms"]["value"]) == (own["acr"], own["ms_purify"])


def test_the_command_refuses_what_is_no_run_and_where_it_cannot_write(tmp_path, cli):
    refused = cli("report", tmp_path / "nothing")
    assert refused.exit_code == 2 and "there is no run in" in refused.stderr
    run = make_run(tmp_path / "run", images=1)
    with Store(run.folder) as store:
        store.begin(run.cells.values(), run.manifest)
    (tmp_path / "file").write_text("in the way")
    refused = cli("report", run.folder, "--out", tmp_path / "file" / "report.html")
    assert refused.exit_code == 2 and "give another --out" in refused.stderr
