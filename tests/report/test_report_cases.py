"""The report of runs that are not as one hopes: it stays right and readable, and says what is missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
from report_runs import N0, PURIFIERS, N, Page, make_examples, make_run, record_of, report_of

from bench.report.decisions import _MOST_BUDGETS
from bench.store.run import Run

MOST = 5_000_000


def test_one_image_is_enough_for_a_page_that_says_how_little_that_is(tmp_path):
    summary, text = report_of(tmp_path / "r.html", make_run(tmp_path / "run", images=1, hits=N))
    words = Page(text).text
    assert "1 image" in words and "No share of resamples: too few images" in words
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
    assert {row["purifier"] for row in record["rows"]} == {"none", "onestep-edm", "consistency"}
    partial = [row for row in record["rows"] if row["purifier"] == "consistency"]
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
        assert row["certifier"].startswith(("cohen (", "two-sided ("))


def test_fifty_purifiers_fit_on_the_page(tmp_path):
    families = ("one-step", "consistency", "pf-ode", "sde", "other")
    purifiers = {f"purifier-{i}": (families[i % 5], 1 + i % 17, 0.2 * (1 + i % 23), 0.8 + i / 300) for i in range(50)}
    summary, text = report_of(tmp_path / "r.html", make_run(tmp_path / "run", purifiers, (0.25, 0.5, 1.0), 12))
    record = record_of(text)
    assert len(record["rows"]) == 150 == len(summary.table)
    assert len({row["series"] for row in record["rows"]}) == 50
    assert len(record["choices"][0]) <= 1 + 4 * _MOST_BUDGETS  # NFE, and three other costs
    assert len(text.encode()) < MOST


def test_a_run_without_any_count_says_that_there_is_nothing(tmp_path):
    nothing = make_run(tmp_path / "run", errors=dict.fromkeys(PURIFIERS, "out of memory"))
    _, text = report_of(tmp_path / "r.html", nothing)
    words = Page(text).text
    assert "0 of 8 cells are complete" in words and "Nothing is certified yet" in words
    assert record_of(text)["rows"] == []


def test_imported_logs_stand_on_the_page_without_a_recommendation(tmp_path):
    log = pd.DataFrame({"image": range(5), "label": 0, "predicted": [0, 0, 0, -1, 1], "radius": [0.3, 0.6, 1, 0, 0.2]})
    log = log.assign(
        correct=[True, True, True, False, False], name="paper", dataset="cifar10", sigma=0.5, draws=100, nfe=np.nan
    )
    run = Run(tmp_path / "logs", {}, {}, {}, make_run(tmp_path, images=0).blocks, log.assign(largest=1.9, rule="cohen"))
    _, text = report_of(tmp_path / "r.html", run)
    record = record_of(text)
    assert [row["imported"] for row in record["rows"]] == [True]
    assert "imported logs only" in Page(text).text and "(imported logs)" in Page(text).text
    assert record["rows"][0]["metrics"]["0.5"]["value"] == 2 / 5
    assert record["rows"][0]["nfe"] == {"value": None, "words": "–"}


def test_images_that_would_make_the_page_large_are_left_out_and_that_is_said(tmp_path):
    names = ["none", *(f"purifier-{i}" for i in range(49))]
    purifiers = dict.fromkeys(names, ("other", 1, 0.3, 0.9))
    run = make_run(tmp_path / "run", purifiers, images=12)
    _, text = report_of(tmp_path / "r.html", run, examples=make_examples(names, side=224, channels=3))
    assert len(text.encode()) < MOST
    words, shown = Page(text).text, len(Page(text).all("img"))
    assert "1 more example images are left out" in words and shown == 2 * 51 * 3
