"""The report in a real headless Chromium: it loads without a complaint, and what can be chosen works.

Needs the extra `browser` and a Chromium: the system's (`chromium` or `google-chrome` on the PATH, or where
PURIFYBENCH_CHROMIUM points), or Playwright's own (`playwright install chromium`). Skips with that reason elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_runs import PURIFIERS, make_examples, make_run, report_of

from bench.analysis.decide import recommend
from bench.analysis.fronts import front

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser` (Playwright)")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EVIL = "<script>alert(1)</script>"
MARK = "#front-chart .points path, #front-chart .points circle"


def own_chromium(engine) -> str | None:
    """Of Playwright, where it has been installed."""
    path = engine.chromium.executable_path
    return path if Path(path).is_file() else None


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        found = os.environ.get("PURIFYBENCH_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
        found = found or own_chromium(engine)
        if found is None:
            pytest.skip("there is no Chromium: install the system's, or `playwright install chromium`")
        browser = engine.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A summary and the path of its report."""
    folder = tmp_path_factory.mktemp("page")
    summary, _ = report_of(folder / "report.html", make_run(folder / "small"), examples=make_examples())
    return summary, folder / "report.html"


@pytest.fixture
def visit(browser):
    """A factory of pages: `visit(path)` opens a report; complaints and requests are checked when the test ends."""
    opened, complaints = [], []

    def visit(path: Path, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto(path.as_uri())
        opened.append(context)
        return page

    yield visit
    for context in opened:
        context.close()
    assert complaints == []


def drawn(page):
    """The page once its charts are there."""
    page.wait_for_selector(MARK.split(",")[0] + ", #curves-chart path")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_loads_without_a_complaint_and_is_a_picture(visit, small, tmp_path, scheme):
    page = drawn(visit(small[1], color_scheme=scheme))
    page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    pixels = np.asarray(Image.open(tmp_path / f"{scheme}.png").convert("L"))
    assert (np.median(pixels) > 200) == (scheme == "light") and (np.median(pixels) < 60) == (scheme == "dark")
    assert len(np.unique(pixels)) > 60
    assert page.locator("#front-chart svg").count() == page.locator("#curves-chart svg").count() == 1
    assert page.evaluate("document.title") == "Small · PurifyBench report"


CONTRAST = """() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return colour.startsWith("rgba(0, 0, 0, 0") && node.parentElement ? behind(node.parentElement) : colour;
  };
  const worst = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.matches("script, :disabled, svg *")) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) worst.push([node.outerHTML.slice(0, 80), (a + 0.05) / (b + 0.05)]);
  }
  return worst;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_words_stand_out_from_what_is_behind_them(visit, small, scheme):
    assert drawn(visit(small[1], color_scheme=scheme)).evaluate(CONTRAST) == []


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
        assert found.chosen.label in page.locator("#answer .winner").inner_text()
        assert page.locator("#front-radius").input_value() == radius
        assert page.locator("#front-sigma").input_value() == f"{found.chosen.sigma:g}"
    assert "Ringed: the decision above" in page.locator("#front-words").inner_text()


def test_hovering_over_a_mark_says_what_is_known_of_it(visit, small):
    summary, path = small
    page = drawn(visit(path))
    page.locator("#front-sigma").select_option("0.5")
    page.locator("#front-radius").select_option("0.25")
    page.locator("#front-cost").select_option("ms")
    own = summary.table.query("label == 'pf-ode' and sigma == 0.5").iloc[0]
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
    assert "best on these very test images" in words
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
        acr = summary.table.set_index(["label", "sigma"])["acr"]
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


def test_it_fits_a_phone(visit, small, tmp_path):
    page = drawn(visit(small[1], viewport={"width": 375, "height": 800}, device_scale_factor=2, has_touch=True))
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.locator("#front-chart svg").bounding_box()["width"] <= 375
    page.locator("#front-chart").scroll_into_view_if_needed()
    mark = page.locator(MARK).first.bounding_box()
    page.touchscreen.tap(mark["x"] + 3, mark["y"] + 3)
    tip = page.locator("#front-chart .tip")
    assert tip.is_visible()
    box = tip.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 375
    page.screenshot(path=tmp_path / "phone.png")


def test_it_prints_with_its_charts(visit, small, tmp_path):
    page = drawn(visit(small[1], color_scheme="dark"))
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 12
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_without_javascript_the_answer_and_all_figures_are_there(visit, small):
    summary, path = small
    page = visit(path, java_script_enabled=False)
    assert any(recommend(summary, radius).verdict in page.locator("#answer").inner_text() for radius in summary.radii)
    assert page.locator("#figures tbody tr").count() == len(summary.table)
    assert "need JavaScript" in page.locator("#front").inner_text()


@pytest.mark.parametrize(
    "options",
    [
        {"images": 1, "hits": 40},
        {"hits": 20},
        {"errors": {"pf-ode": EVIL, "none": "out of memory"}, "missing": {"consistency": 3}},
        {"errors": dict.fromkeys(PURIFIERS, "out of memory")},
        {"purifiers": {"none": PURIFIERS["none"]}},
        {"purifiers": {"filter": ("other", 0, 0.0, 0.9), "onestep-edm": PURIFIERS["onestep-edm"]}, "sigmas": (0.5,)},
        {"purifiers": {EVIL: ("one-step", 1, 0.3, 0.9), "</script><img src=x onerror=alert(2)>": ("x", 2, 0.5, 0.8)}},
        {
            "purifiers": {f"p-{i}": ("sde" if i % 2 else "pf-ode", 1 + i % 9, 0.1 + i, 0.9) for i in range(50)},
            "images": 6,
        },
    ],
    ids=["one image", "all abstain", "failures", "nothing", "plain only", "free", "evil names", "fifty purifiers"],
)
def test_every_choice_works_whatever_the_run(visit, tmp_path, options):
    run = make_run(tmp_path / "run", **options)
    report_of(tmp_path / "r.html", run, examples=make_examples([*options.get("purifiers", PURIFIERS)][:6]))
    page = visit(tmp_path / "r.html")
    page.wait_for_timeout(100)
    for name in ("decision-budget", "decision-radius", "front-cost", "front-metric", "front-sigma", "curves-sigma"):
        for i in range(page.locator(f"#{name} option").count()):
            page.locator(f"#{name}").select_option(index=i)
    for i in range(page.locator("[data-family]").count()):
        page.locator("[data-family]").nth(i).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.locator("script").count() == page.evaluate("document.scripts.length") == 5
    page.screenshot(path=tmp_path / "page.png", full_page=True)
