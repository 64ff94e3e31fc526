"""The report loads nothing, and nothing in it can do harm."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from report_runs import Page, make_examples, make_run, record_of, report_of

EVIL = "<script>alert(1)</script>"
MOST = 5_000_000


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The summary, the page and the run of four purifiers at two sigmas, with images."""
    folder = tmp_path_factory.mktemp("report")
    run = make_run(folder / "small")
    summary, text = report_of(folder / "report.html", run, examples=make_examples())
    return summary, text, run


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
    assert {row["purifier"] for row in record_of(text)["rows"]} == {EVIL, image}
    assert page.text.count(EVIL) > 10 and "<i>frog</i>" not in text
    assert summary.title == EVIL
