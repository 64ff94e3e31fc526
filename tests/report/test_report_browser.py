"""The report in a real headless Chromium: it loads without a complaint, and what can be chosen works.

Needs the extra `browser` and a Chromium: the system's (`chromium` or `google-chrome` on the PATH, or where
PURIFYBENCH_CHROMIUM points), or Playwright's own (`playwright install chromium`). Skips with that reason elsewhere.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from report_pages import CONTRAST
from report_runs import MARK, PURIFIERS, drawn, make_examples, make_metrics, make_run, report_of

from bench.analysis.recommendation import recommend

SELECTS = ("decision-budget", "decision-radius", "front-cost", "front-metric", "front-sigma", "curves-sigma")
SELECTS += ("quality-metric", "quality-against", "quality-sigma")
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A summary and the path of its report."""
    folder = tmp_path_factory.mktemp("page")
    run = make_run(folder / "small")
    summary, _ = report_of(folder / "report.html", run, examples=make_examples(), metrics=[make_metrics(run)])
    return summary, folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_loads_without_a_complaint_and_is_a_picture(visit, small, tmp_path, scheme):
    page = drawn(visit(small[1], color_scheme=scheme))
    page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    pixels = np.asarray(Image.open(tmp_path / f"{scheme}.png").convert("L"))
    assert (np.median(pixels) > 200) == (scheme == "light") and (np.median(pixels) < 60) == (scheme == "dark")
    assert len(np.unique(pixels)) > 60
    assert page.locator("#front-chart svg").count() == page.locator("#curves-chart svg").count() == 1
    assert page.evaluate("document.title") == "Small · PurifyBench report"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_words_stand_out_from_what_is_behind_them(visit, small, scheme):
    assert drawn(visit(small[1], color_scheme=scheme)).evaluate(CONTRAST) == []


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
    shown = make_examples([*options.get("purifiers", PURIFIERS)][:6])
    report_of(tmp_path / "r.html", run, examples=shown, metrics=[make_metrics(run)])
    page = visit(tmp_path / "r.html")
    page.wait_for_timeout(100)
    for name in SELECTS:
        for i in range(page.locator(f"#{name} option").count()):
            page.locator(f"#{name}").select_option(index=i)
    for i in range(page.locator("[data-family]").count()):
        page.locator("[data-family]").nth(i).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.locator("script").count() == page.evaluate("document.scripts.length") == 5
    page.screenshot(path=tmp_path / "page.png", full_page=True)
