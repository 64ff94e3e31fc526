"""The charts and tables of the report in a real headless Chromium: what can be chosen, pointed at and reached by keys.

See test_report_browser.py for what they need.
"""

from __future__ import annotations

import re

import pytest
from report_runs import MARK, drawn, make_examples, make_metrics, make_run, report_of

from bench.analysis.recommendation import recommend
from bench.summary.fronts import front


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A summary and the path of its report."""
    folder = tmp_path_factory.mktemp("page")
    summary, _ = report_of(folder / "report.html", make_run(folder / "small"), examples=make_examples())
    return summary, folder / "report.html"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The path of a report with metrics."""
    folder = tmp_path_factory.mktemp("measured")
    run = make_run(folder / "small")
    report_of(folder / "report.html", run, metrics=[make_metrics(run)])
    return folder / "report.html"


def test_a_choice_of_radius_and_budget_gives_the_answer_of_recommend(visit, small):
    summary, path = small
    page = drawn(visit(path))
    assert page.locator("#answer").get_attribute("aria-live") == "polite"
    for radius, budget, limit in (("0.25", "at most 1 NFE", {"max_nfe": 1}), ("0", "at most 0 NFE", {"max_nfe": 0})):
        page.get_by_label("L2 radius").first.select_option(
            label=radius if float(radius) else "0 (correct, not abstained)"
        )
        page.get_by_label("Budget").select_option(label=budget)
        found = recommend(summary, float(radius), **limit)
        assert found.verdict in page.locator("#answer").inner_text()
        assert found.chosen.name in page.locator("#answer .winner").inner_text()
        assert page.locator("#front-radius").input_value() == radius
        shown = page.locator("#best [data-radius]:visible")
        assert {shown.nth(i).get_attribute("data-radius") for i in range(shown.count())} == {radius}
        assert page.locator("#front-sigma").input_value() == f"{found.chosen.sigma:g}"
    assert "Ring: the decision above" in page.locator("#front-words").inner_text()


def test_hovering_over_a_mark_says_what_is_known_of_it(visit, small):
    summary, path = small
    page = drawn(visit(path))
    page.locator("#front-sigma").select_option("0.5")
    page.locator("#front-radius").select_option("0.25")
    page.locator("#front-cost").select_option("ms")
    own = summary.table.query("purifier == 'pf-ode' and sigma == 0.5").iloc[0]
    mark = page.locator('#front-chart [aria-label^="pf-ode, σ = 0.5"]')
    mark.hover(force=True)
    said = page.locator("#front-chart .tip").inner_text()
    for words in (
        "pf-ode, σ = 0.5",
        f"{100 * own['acc@0.25']:.1f} % [{100 * own['acc_low@0.25']:.1f}, {100 * own['acc_high@0.25']:.1f}]",
        "certified at radius 0.25",
        "NFE 5",
        "1.5 ms per purification",
        "30 images",
    ):
        assert words in said
    page.mouse.move(5, 5)
    assert page.locator("#front-chart .tip").is_hidden()


def test_marks_are_reached_by_the_keyboard(visit, small):
    page = drawn(visit(small[1]))
    page.locator('[data-family="sde"], [data-family]').last.focus()
    page.keyboard.press("Tab")
    seen = []
    for _ in range(3):
        seen.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
        assert page.locator("#front-chart .tip strong").inner_text() == ", ".join(seen[-1].split(", ")[:2])
        page.keyboard.press("ArrowRight")
    assert len(set(seen)) == 3 and all("certified at radius" in words and "NFE" in words for words in seen)
    page.keyboard.press("Escape")
    assert page.locator("#front-chart .tip").is_hidden()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#front-chart')") is None


@pytest.mark.parametrize("metric", ["0", "0.25", "acr"])
@pytest.mark.parametrize("cost", ["nfe", "ms", "seconds"])
def test_the_front_of_the_page_is_the_front_of_the_statistics(visit, small, metric, cost):
    page = drawn(visit(small[1]))
    rows = page.evaluate("record.rows")
    for sigma in ("0.25", "0.5", "best"):
        choice = f"{{metric: '{metric}', cost: '{cost}', sigma: '{sigma}', hidden: new Set()}}"
        found = page.evaluate(f"front(chosenRows({choice}), {choice}).map((row) => row.id)")
        shown = [row for row in rows if sigma in (row["sigma"]["words"], "best")]
        if sigma == "best":
            kin = {row["series"]: [r for r in shown if r["series"] == row["series"]] for row in shown}
            shown = [max(rows, key=lambda row: row["metrics"][metric]["value"]) for rows in kin.values()]
        costs = [
            row["metrics"][metric]["seconds"]["value"] if cost == "seconds" else row[cost]["value"] for row in shown
        ]
        if cost != "seconds":
            costs = [0.0 if row["family"] == "none" else c for row, c in zip(shown, costs, strict=True)]
        costs = [float("nan") if c is None else c for c in costs]
        kept = front(costs, [row["metrics"][metric]["value"] for row in shown])
        assert [rows[i]["name"] for i in found] == [shown[i]["name"] for i in kept]


def test_the_legend_takes_families_away_and_gives_them_back(visit, small):
    page = drawn(visit(small[1]))
    before = page.locator(MARK).count()
    button = page.get_by_role("button", name="pf-ode").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.locator(MARK).count() == before - 1
    assert page.locator('#front-chart [aria-label^="pf-ode"]').count() == 0
    button.click()
    assert page.locator(MARK).count() == before


def test_the_envelope_says_what_it_is_and_the_acr_says_by_which_certifier(visit, small):
    page = drawn(visit(small[1]))
    page.locator("#front-sigma").select_option("best")
    page.locator("#front-metric").select_option("acr")
    words = page.locator("#front-words").inner_text()
    assert "best on these test images" in words
    assert "ACR by cohen (N0 = 10, N = 40, alpha = 0.001)." in words
    assert page.locator("#front-radius").is_disabled()


def test_acrs_of_several_certifiers_have_no_front(visit, tmp_path):
    other = make_run(tmp_path / "b", preset={"certifier": "two-sided"})
    report_of(tmp_path / "r.html", make_run(tmp_path / "a"), other)
    page = drawn(visit(tmp_path / "r.html"))
    page.locator("#front-metric").select_option("acr")
    words = page.locator("#front-words").inner_text()
    assert "do not compare: there is no front" in words and "two-sided" in words
    assert "On the front" not in words


def test_the_points_are_there_as_a_table_too(visit, small):
    page = drawn(visit(small[1]))
    page.get_by_text("These points as a table").click()
    lines = page.locator("#front-table tbody tr")
    assert lines.count() == 4
    assert re.search(r"pf-ode\s+0\.\d+\s+[\d.]+ % \[", lines.last.inner_text())


def test_the_table_sorts_by_any_column_and_says_so(visit, small):
    summary, path = small
    page = drawn(visit(path))
    page.locator("[data-filters=figures]").select_option("")
    column = page.locator("#figures th").filter(has_text="ACR")
    for expected in ("descending", "ascending"):
        column.get_by_role("button").click()
        assert column.get_attribute("aria-sort") == expected
        names = page.locator("#figures tbody th").all_inner_texts()
        sigmas = page.locator("#figures tbody td:nth-child(2)").all_inner_texts()
        acr = summary.table.set_index(["purifier", "sigma"])["acr"]
        values = [acr[name.strip(), float(sigma)] for name, sigma in zip(names, sigmas, strict=True)]
        assert values == sorted(values, reverse=expected == "descending")
    assert page.locator("#figures [aria-sort=descending], #figures [aria-sort=ascending]").count() == 1


def test_a_filter_shows_one_sigma(visit, small):
    page = drawn(visit(small[1]))
    for name in ("figures", "images", "time"):
        page.locator(f"[data-filters={name}]").select_option("0.25")
        shown = page.locator(f"#{name} [data-sigma]:visible")
        assert {shown.nth(i).get_attribute("data-sigma") for i in range(shown.count())} == {"0.25"}


def test_curves_show_the_interval_of_who_is_pressed_and_the_accuracy_under_the_pointer(visit, small):
    page = drawn(visit(small[1]))
    key = page.locator("#curves-key").get_by_role("button", name="consistency")
    pressed = key.get_attribute("aria-pressed")
    bands = page.locator("#curves-chart [fill-opacity='0.17'] path, #curves-chart path[fill-opacity='0.17']").count()
    key.click()
    assert key.get_attribute("aria-pressed") != pressed
    now = page.locator("#curves-chart [fill-opacity='0.17'] path, #curves-chart path[fill-opacity='0.17']").count()
    assert abs(now - bands) == 1
    page.locator("#curves-chart").scroll_into_view_if_needed()
    box = page.locator("#curves-chart svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    said = page.locator("#curves-chart .tip").inner_text()
    assert re.search(r"[\d.]+ % \[[\d.]+, [\d.]+\] certified at radius 0\.\d\d", said)
    assert page.locator("#curves-chart .dimmed").count() == 3


def test_the_envelope_gives_every_mark_its_split_half_figure(visit, small):
    page = drawn(visit(small[1]))
    page.locator("#front-sigma").select_option("best")
    page.locator("#front-radius").select_option("0.25")
    fair = page.evaluate("record.rows.find((row) => row.series === 'pf-ode').metrics['0.25'].fair")
    page.locator('#front-chart [aria-label^="pf-ode"]').hover(force=True)
    words = page.locator("#front-chart .tip").inner_text()
    assert f"{fair} if σ is chosen on one half of the images and read on the other" in words
    page.get_by_text("These points as a table").click()
    assert "split-half" in page.locator("#front-table thead").inner_text()
    assert fair in page.locator("#front-table tbody tr").filter(has_text="pf-ode").inner_text()
    page.locator("#front-sigma").select_option("0.25")
    assert "split-half" not in page.locator("#front-table thead").inner_text()


def test_the_quality_of_purification_is_drawn_against_what_is_certified(visit, measured):
    page = drawn(visit(measured))
    assert page.locator("#front-chart .tip").count() == 0
    page.locator("#quality-sigma").select_option("0.5")
    page.locator("#quality-against").select_option("0.25")
    marks = page.locator("#quality-chart .points path, #quality-chart .points circle")
    assert marks.count() == 3  # plain smoothing is left out
    mark = page.locator('#quality-chart [aria-label^="consistency, σ = 0.5"]')
    row = page.evaluate("record.rows.find((row) => row.purifier === 'consistency' && row.sigma.words === '0.5')")
    mark.hover(force=True)
    said = page.locator("#quality-chart .tip").inner_text()
    points = page.evaluate("record.quality.points")[row["id"]]
    assert f"{points['perceptual']['words']} perceptual distance, which its network was trained to lower" in said
    assert f"{row['metrics']['0.25']['words']} certified at radius 0.25" in said
    words = page.locator("#quality-words").inner_text()
    assert "Model: a network of ours." in words and "Hollow: its network was trained" in words
    page.locator("#quality-metric").select_option("frechet")
    assert "Model: cnn, the classifier that votes" in page.locator("#quality-words").inner_text()
    assert "Hollow" not in page.locator("#quality-words").inner_text()
    box = [marks.nth(i).bounding_box() for i in range(3)]
    names = [marks.nth(i).get_attribute("aria-label") for i in range(3)]
    far = [float(re.search(r"([\d.]+) Fréchet", name)[1]) for name in names]
    assert sorted(range(3), key=lambda i: box[i]["x"]) == sorted(range(3), key=lambda i: far[i])


def test_the_table_of_distances_shows_the_sigma_that_is_chosen(visit, measured):
    page = drawn(visit(measured))
    page.get_by_text("All distances as a table").click()
    page.locator("#quality-sigma").select_option("0.25")
    lines = page.locator("#quality tbody tr:visible")
    assert {lines.nth(i).get_attribute("data-sigma") for i in range(lines.count())} == {"0.25"} and lines.count() == 4
    page.locator("#quality th").filter(has_text="Fréchet").get_by_role("button").click()
    values = [float(v) for v in page.locator("#quality tbody tr:visible td:last-child").all_inner_texts()]
    assert values == sorted(values, reverse=True)
