"""The board in a real headless Chromium: it opens from disk without a complaint, and what can be chosen works."""

from __future__ import annotations

from dataclasses import replace

import pytest
from board_runs import PURIFIERS, write_run
from report_pages import CONTRAST

from bench.board import write_board
from bench.verify import Recount, verify, write_verification

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of a board of two runs of one benchmark, one of them verified, and of a third run of another one."""
    folder = tmp_path_factory.mktemp("board")
    first = write_run(folder / "ours", images=60)
    long = {"a-purifier-of-a-very-long-name-indeed": ("sde", 40, 20.0, 0.98), EVIL: ("other", 2, 0.6, 0.9)}
    second = write_run(folder / "a run of strangers with a name of many words", long, images=60, device="GPU X")
    third = write_run(folder / "third", PURIFIERS, images=20)
    checked = verify(first, counts=False)
    again = Recount(3, 0.1, 20, 200, 8, 1000, 0, True, 0, "a reason", 0, 29, "GPU X", 1.0)
    record = write_verification(folder / "r.json", replace(checked, recount=again), by="Ada")
    return write_board([first, second, third], folder / "site", [record])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_loads_without_a_complaint_and_fits(visit, site, tmp_path, scheme, width):
    assert len(site) == 3
    for path in site:
        page = visit(path, color_scheme=scheme, viewport={"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CONTRAST) == []
        page.screenshot(path=tmp_path / f"{path.stem}.png", full_page=True)


def test_every_radius_and_budget_shows_its_ranking_and_stays_in_the_address(visit, site):
    page = visit(site[1])
    seen = set()
    for i in range(page.locator("input[name=radius]").count()):
        page.locator("input[name=radius]").nth(i).check(force=True)
        for j in range(page.locator("#budget option").count()):
            page.locator("#budget").select_option(str(j))
            assert page.url.endswith(f"#r={i}&b={j}")
            assert page.locator("#answer .verdict").count() == 1
            seen.add(page.locator("#answer").inner_text())
    assert len(seen) > 6
    shown = page.locator("#answer").inner_text()
    page.reload()
    assert page.locator("#answer").inner_text() == shown


def test_the_overview_leads_to_the_radius_and_to_the_evidence(visit, site):
    page = visit(site[0])
    row = page.locator("section.bench").first.locator("tbody tr").nth(1)
    radius = row.locator("th").inner_text()
    row.locator("th a").click()
    assert page.locator("input[name=radius]:checked + span").inner_text() == radius
    page.locator("#answer tbody a").first.click()
    assert page.url.partition("#")[2].startswith("run-")
    with page.expect_download() as downloaded:
        page.locator("article a[download]").first.click()
    assert downloaded.value.suggested_filename.endswith(".zip")


def test_without_javascript_one_ranking_and_all_evidence_are_there(visit, site):
    page = visit(site[1], java_script_enabled=False)
    assert page.locator("#answer tbody tr").count() >= 3
    assert page.locator("article.run").count() == 2
