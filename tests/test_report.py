"""The report: every figure is the summary's, what is missing is said, and nothing in it can do harm."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_runs import N0, PURIFIERS, N, make_examples, make_run, report_of

from bench.analysis.decide import recommend
from bench.analysis.fronts import front_probability
from bench.report import data
from bench.report.decisions import MOST_BUDGETS, budgets, round_between, thinned
from bench.report.words import short
from bench.store import Run, Store, export, read_run
from bench.summary import summarise, wilson_interval

EVIL = "<script>alert(1)</script>"
MOST = 5_000_000


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its words by element."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements:
            self.words.append((self.elements[-1][0], data))

    @property
    def text(self) -> str:
        return " ".join(" ".join(words for tag, words in self.words if tag not in ("script", "style")).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def record_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="record">(.*?)</script>', text, re.DOTALL)[1])


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
    known = {(row["label"], row["sigma"]): row for row in summary.table.to_dict("records")}
    for row in rows:
        own = known[row["label"], row["sigma"]["value"]]
        costs = row["nfe"]["value"], row["ms"]["value"], row["images"], row["abstained"]["value"], row["largest"]
        assert costs == tuple(own[c] for c in ("nfe", "ms_purify", "images", "abstained", "largest"))
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
    known = {(row["label"], row["sigma"]): row for row in summary.table.to_dict("records")}
    for line in lines:
        name, *values = re.findall(r'data-value="([^"]*)"', line)
        own = known[name, float(values[0])]
        wanted = [own["sigma"], *(own[f"acc@{r:g}"] if r <= own["largest"] else None for r in summary.radii)]
        wanted += [own[c] for c in ("acr", "abstained", "nfe", "ms_purify", "images")]
        assert [float(v) if v else None for v in values] == wanted


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
    found = data.curve(np.sort(np.array(radii)), images, largest)
    assert len(found["x"]) <= data.MOST_STEPS + 2
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
            (summary.table["label"] == row["label"]) & (summary.table["sigma"] == row["sigma"]["value"])
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
        {}, {"max_nfe": 0}, {"max_nfe": 1}, {"max_ms": 0.5}, {"max_ms": 1.0}
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
            assert (use["label"], use["sigma"]["value"]) == (found.chosen.label, found.chosen.sigma)
            assert f"{100 * found.chosen.accuracy:.1f} %" in said
            if found.probability is not None:
                assert f"Probability that the choice is right {100 * found.probability:.0f} %" in said
            if found.runner_up is not None:
                assert f"Runner-up: {found.runner_up.label}, σ = {found.runner_up.sigma:g}" in said


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
    cells = [summary.table.query("label == @row['label'] and sigma == 0.5")["cell"].item() for row in rows]
    radii = np.stack([summary.certified["small", cell][1] for cell in cells], axis=1)
    costs = [0.0 if row["family"] == "none" else row["nfe"]["value"] for row in rows]
    for name, values in (("0.25", (radii >= 0.25).astype(float)), ("acr", np.maximum(radii, 0))):
        expected = front_probability(costs, values)
        assert [row["metrics"][name]["front"]["0.5"]["nfe"] for row in rows] == [f"{100 * p:.0f} %" for p in expected]


def test_times_by_stage_are_the_summarys(small):
    summary, text, _ = small
    section = text[text.index('id="time"') : text.index('id="run"')]
    lines = re.findall(r"<tr data-sigma=.*?</tr>", section, re.DOTALL)
    known = {(row["label"], row["sigma"]): row for row in summary.table.to_dict("records")}
    assert len(lines) == 8
    for line in lines:
        name, sigma, *stages = re.findall(r'data-value="([^"]*)"', line)
        own = known[name, float(sigma)]
        wanted = [own[f"ms_{stage}"] for stage in ("noise", "purify", "classify")]
        assert [float(v) for v in stages] == pytest.approx([*wanted, sum(wanted)])


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


def test_images_that_would_make_the_page_large_are_left_out_and_that_is_said(tmp_path):
    names = ["none", *(f"purifier-{i}" for i in range(49))]
    purifiers = dict.fromkeys(names, ("other", 1, 0.3, 0.9))
    run = make_run(tmp_path / "run", purifiers, images=12)
    _, text = report_of(tmp_path / "r.html", run, examples=make_examples(names, side=224, channels=3))
    assert len(text.encode()) < MOST
    words, shown = Page(text).text, len(Page(text).all("img"))
    assert "1 more example images are left out" in words and shown == 2 * 51 * 3


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


def test_one_image_is_enough_for_a_page_that_says_how_little_that_is(tmp_path):
    summary, text = report_of(tmp_path / "r.html", make_run(tmp_path / "run", images=1, hits=N))
    words = Page(text).text
    assert "1 image" in words and "No probability: too few images" in words
    for row in record_of(text)["rows"]:
        assert row["metrics"]["acr"]["low"] is None and "[" not in row["metrics"]["acr"]["words"]
        assert row["metrics"]["0"]["front"] == {}
    assert len(summary.table) == 8


def test_a_run_of_which_every_image_abstains_recommends_nothing(tmp_path):
    _, text = report_of(tmp_path / "r.html", make_run(tmp_path / "run", hits=N // 2))
    record, words = record_of(text), Page(text).text
    assert "100.0 %" in words and set(record["uses"]) == {None}
    assert "Not a single image is certified at radius 0" in words
    for row in record["rows"]:
        assert row["metrics"]["0"]["value"] == 0 and row["metrics"]["0"]["seconds"] == {"value": None, "words": "–"}


def test_failed_and_unfinished_cells_are_named_with_why(tmp_path):
    run = make_run(tmp_path / "run", errors={"pf-ode": "purifier 'pf-ode' returned NaN"}, missing={"consistency": 4})
    summary, text = report_of(tmp_path / "r.html", run)
    page, record = Page(text), record_of(text)
    assert "4 of 8 cells are complete" in page.text
    assert page.text.count("purifier 'pf-ode' returned NaN") == 2 and "26 of 30" in page.text
    for note in summary.notes:
        assert note in page.text
    assert {row["label"] for row in record["rows"]} == {"none", "onestep-edm", "consistency"}
    partial = [row for row in record["rows"] if row["label"] == "consistency"]
    assert all(row["name"] == "consistency (26 images)" for row in partial)
    assert all(metric["front"] == {} for row in partial for metric in row["metrics"].values())


def test_two_devices_are_both_named(tmp_path):
    runs = make_run(tmp_path / "a" / "run", device="GPU one"), make_run(tmp_path / "b" / "run", device="CPU two")
    _, text = report_of(tmp_path / "r.html", *runs)
    words = Page(text).text
    assert "measured on different devices: CPU two; GPU one" in words
    assert words.count("8 of 8 cells are complete") == 2
    assert {row["series"] for row in record_of(text)["rows"]} >= {"pf-ode · run (1)", "pf-ode · run (2)"}


def test_average_radii_of_different_certifiers_have_no_front(tmp_path):
    other = make_run(tmp_path / "b", preset={"certifier": "two-sided"})
    _, text = report_of(tmp_path / "r.html", make_run(tmp_path / "a"), other)
    words = Page(text).text
    assert "ACRs of different certifiers do not compare." in words
    assert f"two-sided (N0 = {N0}, N = {N}, alpha = 0.001)" in words
    for row in record_of(text)["rows"]:
        assert row["metrics"]["acr"]["front"] == {}
        assert row["certifier"] == row["rule"]


def test_fifty_purifiers_fit_on_the_page(tmp_path):
    families = ("one-step", "consistency", "pf-ode", "sde", "other")
    purifiers = {f"purifier-{i}": (families[i % 5], 1 + i % 17, 0.2 * (1 + i % 23), 0.8 + i / 300) for i in range(50)}
    summary, text = report_of(tmp_path / "r.html", make_run(tmp_path / "run", purifiers, (0.25, 0.5, 1.0), 12))
    record = record_of(text)
    assert len(record["rows"]) == 150 == len(summary.table)
    assert len({row["series"] for row in record["rows"]}) == 50
    assert len(record["choices"][0]) <= 1 + 2 * MOST_BUDGETS
    assert len(text.encode()) < MOST


def test_a_run_without_any_count_says_that_there_is_nothing(tmp_path):
    nothing = make_run(tmp_path / "run", errors=dict.fromkeys(PURIFIERS, "out of memory"))
    _, text = report_of(tmp_path / "r.html", nothing)
    words = Page(text).text
    assert "0 of 8 cells are complete" in words and "Nothing is certified yet" in words
    assert record_of(text)["rows"] == []


def test_imported_logs_stand_on_the_page_without_a_recommendation(tmp_path):
    log = pd.DataFrame({"image": range(5), "label": 0, "predicted": [0, 0, 0, -1, 1], "radius": [0.3, 0.6, 1, 0, 0.2]})
    log = log.assign(correct=[True, True, True, False, False], name="paper", sigma=0.5, draws=100, nfe=np.nan)
    run = Run(tmp_path / "logs", {}, {}, {}, make_run(tmp_path, images=0).blocks, log.assign(largest=1.9, rule="cohen"))
    _, text = report_of(tmp_path / "r.html", run)
    record = record_of(text)
    assert [row["imported"] for row in record["rows"]] == [True]
    assert "imported logs only" in Page(text).text and "(imported logs)" in Page(text).text
    assert record["rows"][0]["metrics"]["0.5"]["value"] == 2 / 5
    assert record["rows"][0]["nfe"] == {"value": None, "words": "–"}


def test_nothing_is_loaded_from_elsewhere(small):
    _, text, _ = small
    page = Page(text)
    assert len(text.encode()) < MOST
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            if attributes.get(name):
                assert attributes[name].startswith(("#", "data:image/png;base64,")), (tag, attributes[name][:80])
        assert tag not in ("link", "iframe", "object", "embed", "base")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style


def test_the_pages_policy_admits_its_own_scripts_and_no_others(small):
    _, text, _ = small
    policy = next(m["content"] for m in Page(text).all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'" and directives["img-src"] == "data:"
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert directives["script-src"].split() == [f"'sha256-{h}'" for h in hashes]


def test_the_libraries_carry_their_licences(small):
    _, text, _ = small
    for words in (
        "Copyright 2010-2026 Mike Bostock",
        "Copyright 2020-2025 Observable, Inc.",
        "Mikola Lysenko",
        "Mapbox",
    ):
        assert words in text


def test_what_results_say_is_never_markup(tmp_path):
    image = "</script><img src=x onerror=alert(2)>"
    purifiers = {EVIL: ("one-step", 1, 0.3, 0.9), image: ("evil</style>", 2, 0.5, 0.8), "fine": ("sde", 3, 0.9, 0.9)}
    run = make_run(
        tmp_path / EVIL.replace("/", "-"), purifiers, errors={"fine": f"{EVIL} \u2028 {image}"}, preset={"title": EVIL}
    )
    examples = make_examples([EVIL, image])
    run.manifest["git"] = image
    summary, text = report_of(tmp_path / "r.html", run, examples=examples)
    page, plain = Page(text), Page(report_of(tmp_path / "p.html", make_run(tmp_path / "p"))[1])
    assert [tag for tag, _ in page.elements].count("script") == [tag for tag, _ in plain.elements].count("script")
    assert len(page.all("style")) == 1
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert len(page.all("img")) == 2 * 4 * 4
    assert {row["label"] for row in record_of(text)["rows"]} == {EVIL, image}
    assert page.text.count(EVIL) > 10 and "<i>frog</i>" not in text
    assert summary.title == EVIL


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
    known = summarise([read_run(run.folder)]).table.set_index(["label", "sigma"])
    assert len(rows) == len(known) == 8
    for row in rows:
        own = known.loc[(row["label"], row["sigma"]["value"])]
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


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=30))
def test_budgets_of_milliseconds_are_round_and_let_something_in_and_leave_something_out(values):
    for limit in round_between(pd.Series(values)):
        assert min(values) <= limit < max(values)
        assert f"{limit:e}"[0] in "125" and float(f"{limit:.0e}") == limit


@given(st.lists(st.integers(0, 1000), max_size=60, unique=True).map(sorted))
def test_thinned_budgets_keep_the_first_and_the_last(values):
    kept = thinned(values)
    assert len(kept) == min(len(values), MOST_BUDGETS) and sorted(set(kept)) == kept
    assert not values or (kept[0], kept[-1]) == (values[0], values[-1])


def test_a_certifier_is_named_without_the_radii_that_change_with_sigma():
    rule = "sequential acr (N0 = 100, alpha = 0.001, radii 0 to 2 (201 of them))"
    assert data.certifier(rule) == "sequential acr (N0 = 100, alpha = 0.001)"
    assert data.certifier("cohen (N0 = 10, N = 40)") == "cohen (N0 = 10, N = 40)"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.30049, "0.3"),
        (1.0, "1"),
        (123.4, "123"),
        (1634.2, "1,634"),
        (5e-7, "5e-07"),
    ],
)
def test_numbers_have_three_digits(value, words):
    assert short(value) == words
