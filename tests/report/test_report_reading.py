"""The page shows each purifier at its best sigma first, and says every significant gain and loss."""

from __future__ import annotations

import math
import re

import pytest
from report_runs import Page, make_run, report_of

from bench.analysis.best import acr_behind, behind_sentences, best_sigmas
from bench.analysis.gains import gain_sentences, paired_gains


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The summary and the page of four purifiers at two sigmas."""
    folder = tmp_path_factory.mktemp("reading")
    return report_of(folder / "report.html", make_run(folder / "small"))


def test_the_table_of_the_best_sigmas_comes_before_all_others_and_holds_their_figures(small):
    summary, text = small
    table = text[text.index('id="best"') : text.index('id="front"')]
    lines = re.findall(r"<tr data-radius=.*?</tr>", table, re.DOTALL)
    best = best_sigmas(summary)
    assert len(lines) == len(best) > 4
    for line, row in zip(lines, best.to_dict("records"), strict=True):
        name, *values = re.findall(r'data-value="([^"]*)"', line)
        first = math.isnan(row["behind_low"])
        columns = (
            "radius",
            "sigma",
            "accuracy",
            "split_half",
            "gain",
            "p_holm",
            "behind",
            "p_behind",
            "nfe",
            "ms_purify",
        )
        wanted = [None if math.isnan(row[c]) or (c == "behind" and first) else row[c] for c in columns]
        assert name == row["name"] and [float(v) if v else None for v in values] == wanted
        lower = [row["verdict"] == "significantly lower", row["p_behind"] <= 0.05]
        assert line.count("significantly lower") == sum(lower)
        assert line.count("significantly higher") == (row["verdict"] == "significantly higher")


def test_the_page_says_every_significant_gain_and_loss(small):
    summary, text = small
    words = Page(text).text
    for sentence in (*gain_sentences(best_sigmas(summary), per="radius"), *gain_sentences(paired_gains(summary))):
        assert sentence in words
    behind = acr_behind(summary)
    assert behind_sentences(behind)[0] in words and any(behind["p_behind"] <= 0.05)
