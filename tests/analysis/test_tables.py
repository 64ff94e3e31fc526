"""Tables for papers: the summary's figures, marked as the tests say, in markup that shows every name as it is."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from summaries import CELL, Row, hits, summary_of

from bench.analysis.markup import _escape_latex, escape_markdown, text_of, write
from bench.analysis.tables import Entry, PaperTable, tables
from bench.summary.summary import IMPORTED

BEST = Row("best", hits(200, range(180)))
NEAR = Row("near", hits(200, range(178)), nfe=2.0)
FAR = Row("far", hits(200, range(90)), nfe=3.0)


def table_of(*rows: Row, name: str = "sigma-0.5", sigmas=None) -> PaperTable:
    return next(table for table in tables(summary_of(*rows), sigmas) if table.name == name)


def column(table: PaperTable, head: str) -> dict[str, Entry]:
    return {row[0].text: row[table.head.index(head)] for row in table.rows}


def test_the_best_is_bold_and_what_may_be_as_good_is_marked():
    table = table_of(FAR, BEST, NEAR)
    assert column(table, "ε = 0.25") == {
        "far": Entry("45.0", lower=True),
        "best": Entry("90.0", best=True),
        "near": Entry("89.0", close=True),
    }
    assert column(table, "ACR")["best"] == Entry("0.900", best=True)
    assert column(table, "ACR")["near"].close and column(table, "ACR")["far"].lower
    assert {name: entry.text for name, entry in column(table, "NFE").items()} == {"far": "3", "best": "1", "near": "2"}


def test_those_that_tie_are_all_the_best_and_nothing_is_where_nothing_is_certified():
    tied = column(table_of(BEST, replace(BEST, label="same"), FAR), "ε = 0.25")
    assert tied["best"].best and tied["same"].best
    nothing = column(table_of(Row("a", hits(50)), Row("b", hits(50))), "ε = 0.25")
    assert set(nothing.values()) == {Entry("0.0")}
    alone = column(table_of(BEST), "ε = 0.25")
    assert alone == {"best": Entry("90.0")}  # of one there is no best


def test_every_figure_of_a_table_is_the_summarys():
    rng = np.random.default_rng(0)
    summary = summary_of(*(Row(f"p{i}", np.where(rng.random(60) < 0.6, rng.random(60), -1)) for i in range(50)))
    table = next(table for table in tables(summary) if table.name == "sigma-0.5")
    assert len(table.rows) == 50
    for row, (_, figures) in zip(table.rows, summary.table.iterrows(), strict=True):
        shown = [entry.text for entry in row[2:]]
        assert shown == [*(f"{100 * figures[f'acc@{r:g}']:.1f}" for r in summary.radii), f"{figures['acr']:.3f}"]


def test_one_image_marks_everything_and_proves_nothing():
    found = column(table_of(Row("a", hits(1, 0)), Row("b", hits(1))), "ε = 0.25")
    assert found == {"a": Entry("100.0", best=True), "b": Entry("0.0", close=True)}


def test_what_the_draws_cannot_certify_is_no_figure():
    table = table_of(replace(BEST, largest=0.3), FAR)
    assert column(table, "ε = 0.5")["best"] == Entry("–")
    assert column(table, "ε = 0.5")["far"] == Entry("45.0")


def test_rows_that_are_not_whole_are_shown_as_such_and_never_the_best():
    half = replace(BEST, label="half", radii=hits(20, range(20)), wanted=200)
    broken = replace(BEST, label="broken", radii=hits(0), wanted=200, error="it raised")
    log = replace(BEST, label="log", source=IMPORTED, rule="published log (N = 100000)")
    table = table_of(NEAR, FAR, half, broken, log)
    found = column(table, "ε = 0.25")
    assert found["half (20 images)"] == Entry("100.0")
    assert found["broken (failed)"] == Entry("–")
    assert found["log (imported)"] == Entry("90.0")
    assert found["near"].best
    assert any("1 of 5 cells failed" in note for note in table.notes)
    assert any("incomplete" in note for note in table.notes)


def test_acrs_of_different_certifiers_are_not_marked():
    table = table_of(BEST, replace(FAR, rule="sequential tight (N0 = 10)"))
    assert not any(entry.best or entry.close for entry in column(table, "ACR").values())
    assert column(table, "ε = 0.25")["best"].best
    assert "ACRs of different certifiers do not compare." in table.notes


def test_two_devices_are_said():
    assert any("different devices: CPU; GPU" in note for note in table_of(BEST, replace(FAR, device="GPU")).notes)


EDM = {"hashes": {**CELL["hashes"], "network edm": "e" * 16}}
OF_ONE_NETWORK = (
    Row("onestep", hits(200, range(150)), cell=EDM),
    Row("better", hits(200, range(1, 150)), nfe=3.0, cell=EDM),
    Row("worse", hits(200, range(105)), nfe=5.0, cell=EDM),
)
SIGMAS = (
    *(replace(BEST, sigma=0.25, largest=0.3), replace(BEST, sigma=1.0, radii=hits(200, range(100)))),
    *(replace(FAR, sigma=0.25, largest=0.3), replace(FAR, sigma=1.0, radii=hits(200, range(85)), nfe=4.0)),
)


def test_the_envelope_takes_the_best_sigma_that_reaches_the_radius_and_says_so():
    table = table_of(*SIGMAS, name="envelope")
    assert column(table, "ε = 0.25") == {
        "best": Entry("90.0 / 90.0 (0.25)", best=True),
        "far": Entry("45.0 / 45.0 (0.25)", lower=True),
    }
    assert column(table, "ε = 0.5") == {
        "best": Entry("50.0 / 50.0 (1)", best=True),
        "far": Entry("42.5 / 42.5 (1)", lower=True),
    }
    assert column(table, "NFE")["far"].text == "3–4"
    assert "chosen on the test set" in table.notes[0]


def test_the_tables_of_the_best_sigma_come_first():
    names = [table.name for table in tables(summary_of(*SIGMAS))]
    assert names == ["envelope", "radius-0", "radius-0.25", "radius-0.5", "sigma-0.25", "sigma-1"]


def test_the_split_half_figures_do_not_profit_from_the_choice():
    """Ten sigmas of coin flips: the envelope is too high by what the choice brings, the split halves are not."""
    rng = np.random.default_rng(0)
    rows = [Row("coin", np.where(rng.random(100) < 0.5, 1.0, -1.0), sigma=1 + i / 10) for i in range(10)]
    chosen, _, fair, _ = column(table_of(*rows, name="envelope"), "ε = 0.5")["coin"].text.split()
    assert float(chosen) >= 55 and 44 <= float(fair) <= 54 and float(chosen) - float(fair) > 3
    assert column(table_of(*rows, name="radius-0.5"), "split-half")["coin"].text == fair


def test_the_table_of_a_radius_has_interval_split_half_and_gains_the_best_first():
    table = table_of(*OF_ONE_NETWORK, name="radius-0.25")
    assert [row[0].text for row in table.rows] == ["onestep", "better", "worse"]
    assert column(table, "accuracy [95 %]")["onestep"] == Entry("75.0 [68.6, 80.5]", best=True)
    assert {name: entry.text for name, entry in column(table, "p").items()} == {
        "onestep": "–",
        "better": "1.00",
        "worse": "<0.001 lower",
    }
    assert {entry.text for entry in column(table, "over").values()} == {"–", "onestep"}
    assert "Significantly lower than the one step of the same network: worse (r = 0.25)." in table.notes
    assert "Significantly higher than the one step of the same network: no purifier." in table.notes
    assert r"\multicolumn" not in text_of(table, "tex") and r"\toprule" in text_of(table, "tex")


def test_the_table_of_a_sigma_has_the_gain_of_each_row_with_losses():
    table = table_of(*OF_ONE_NETWORK)
    assert column(table, "gain")["worse"].text.startswith("-0.225 [-0.")
    assert column(table, "p")["worse"].text.endswith(" lower") and column(table, "p")["onestep"].text == "–"
    assert "Significantly lower than the one step of the same network: worse (σ = 0.5)." in table.notes
    assert "gain" not in table_of(BEST, FAR).head  # no network is known


def test_the_sigmas_that_are_asked_for_are_taken_and_others_refused():
    names = [table.name for table in tables(summary_of(*SIGMAS), [1.0])]
    assert names == ["radius-0", "radius-0.25", "radius-0.5", "sigma-1"]
    with pytest.raises(ValueError, match=r"no sigma 0.3 in these runs; there are: 0.25 and 1"):
        tables(summary_of(*SIGMAS), [1.0, 0.3])


NASTY = r"a_b&c%$#{}~^\|*<b>[x]`--"


def test_latex_shows_what_names_contain():
    text = text_of(table_of(replace(BEST, label=NASTY), FAR), "tex")
    assert text.count(r"\\") == 4  # the head, of two lines, and two rows
    assert r"a\_b\&c\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}\textbar{}{*}" in text
    assert r"\textbf{90.0}" in text and "Purifier & NFE & 0 & 0.25 & 0.5 & ACR" in text
    assert r"& & \multicolumn{3}{c}{Certified accuracy (\%) at radius $\varepsilon$} & \\" in text
    assert r"\cmidrule(lr){3-5}" in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrrrrr}", r"\caption{", r"\label{tab:"):
        assert text.count(rule) == 1


words = st.text(alphabet="ab \\&%$#_{}~^|*<>[]`-†σ\n", max_size=12)


@given(words)
def test_escaped_latex_has_balanced_braces_and_no_bare_special_sign(text):
    shown = _escape_latex(text)
    bare = re.sub(r"\\[&%$#_{}]|\\[a-z]+|\$\\[a-z]+\$|\$\^\\dagger\$", "", shown)
    assert not set(bare) & set("&%#_~^\\|<>\n$")
    assert bare.count("{") == bare.count("}")
    assert "--" not in shown


@given(words)
def test_escaped_markdown_is_read_back_as_it_was(text):
    shown = escape_markdown(text)
    assert re.sub(r"\\(.)", r"\1", shown) == " ".join(text.split())
    assert not re.search(r"(?<!\\)(\\\\)*[|*_`<\[]", shown)


def test_markdown_has_as_many_places_in_every_row():
    text = text_of(table_of(replace(BEST, label=NASTY), FAR, NEAR), "md")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 5
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "**90.0**" in text and "89.0 †" in text


def test_tables_are_written_as_both(tmp_path):
    written = write(tables(summary_of(BEST, FAR, radii=[0.25])), tmp_path / "new")
    stems = ("table-radius-0.25", "table-sigma-0.5")
    assert [path.name for path in written] == [f"{stem}.{ending}" for stem in stems for ending in ("md", "tex")]
    assert "σ" in written[0].read_text(encoding="utf-8")


def test_the_command_line_writes_tables_beside_the_run(cli, tiny_preset, tmp_path):
    out = tmp_path / "run"
    assert cli("run", tiny_preset(sigmas=[0.25, 0.5]), "--out", out, "--no-plots").exit_code == 0
    assert cli("tables", out).exit_code == 0
    names = {path.name for path in (out / "tables").iterdir()}
    assert names == {
        f"table-{name}.{ending}"
        for name in ("sigma-0.25", "sigma-0.5", "envelope", "radius-0", "radius-0.25")
        for ending in ("md", "tex")
    }
    assert cli("tables", out, "--out", tmp_path / "one", "--sigma", "0.5").exit_code == 0
    assert {path.stem for path in (tmp_path / "one").iterdir()} == {
        *("table-sigma-0.5", "table-radius-0", "table-radius-0.25"),
    }
    for wrong in ((out, "--sigma", "7"), (out, "--sigma", "x"), (tmp_path / "absent",)):
        refused = cli("tables", *wrong)
        assert refused.exit_code == 2 and "Traceback" not in refused.output


def test_pictures_are_written_in_the_formats_that_are_asked_for(cli, tiny_preset, tmp_path):
    out = tmp_path / "run"
    assert cli("run", tiny_preset(), "--out", out, "--no-plots").exit_code == 0
    assert cli("plot", out, "--out", tmp_path / "pdf", "--formats", "pdf").exit_code == 0
    made = list((tmp_path / "pdf").iterdir())
    assert made and all(path.read_bytes().startswith(b"%PDF") for path in made)
    again = {path.name: path.read_bytes() for path in made}
    assert cli("plot", out, "--out", tmp_path / "pdf", "--formats", "PDF, svg").exit_code == 0
    assert {path.name: path.read_bytes() for path in made} == again  # the same picture is the same file
    assert {path.suffix for path in (tmp_path / "pdf").iterdir()} == {".pdf", ".svg"}
    refused = cli("plot", out, "--formats", "png,gif")
    assert refused.exit_code == 2 and "png, svg, pdf" in refused.stderr and "'gif'" in refused.stderr
