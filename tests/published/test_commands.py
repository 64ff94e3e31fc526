"""Plot, tables, report and verify show published figures beside runs, and say so where there are none."""

from __future__ import annotations

import pytest
from command import OK, refused

LOG = "idx\tlabel\tpredict\tradius\tcorrect\n0\t3\t3\t0.378\t1\n20\t7\t-1\t0.0\t0\n40\t4\t4\t0.341\t1\n"


@pytest.fixture
def logged(cli, tmp_path):
    """A results folder with an imported log of a data set, which no network made."""

    def make(dataset: str):
        (tmp_path / "log.tsv").write_text(LOG)
        facts = ("--sigma", 0.25, "--name", "mine", "--dataset", dataset, "--n", 100_000)
        made = cli("import", tmp_path / "log.tsv", *facts, "--out", tmp_path / dataset)
        assert made.exit_code == OK, made.output
        return tmp_path / dataset

    return make


def test_plot_draws_published_figures_if_they_are_asked_for(cli, logged, tmp_path):
    folder = logged("cifar10")
    plain = cli("plot", folder, "--out", tmp_path / "plain", "--formats", "svg")
    assert plain.exit_code == OK and not (tmp_path / "plain" / "published.svg").exists()
    asked = cli("plot", folder, "--out", tmp_path / "asked", "--formats", "svg", "--published")
    assert asked.exit_code == OK and "published.svg" in asked.stdout
    assert "Cohen et al. 2019" in (tmp_path / "asked" / "published.svg").read_text()


def test_plot_says_that_no_published_figure_is_about_the_data_set(cli, logged, tmp_path):
    said = cli("plot", logged("cifar10-jpeg"), "--out", tmp_path / "out", "--formats", "svg", "--published")
    assert said.exit_code == OK and "published: none" in said.stdout
    assert not list((tmp_path / "out").glob("published*"))


def test_published_figures_and_gains_are_two_pictures(cli, logged):
    said = refused(cli("plot", logged("cifar10"), "--published", "--against", "mine"))
    assert "give one of them" in said


def test_tables_and_report_show_them_unless_told_not_to(cli, logged, tmp_path):
    folder = logged("cifar10")
    for option, shown in ((), True), (("--no-published",), False):
        out = tmp_path / str(shown)
        assert cli("tables", folder, "--out", out, *option).exit_code == OK
        assert (out / "table-published.md").is_file() == (out / "table-published.tex").is_file() == shown
        if shown:
            assert (
                "| 100,000 | 0.01 | log |" in (out / "table-published.md").read_text()
            )  # their alpha is not the paper's
        assert cli("report", folder, "--out", out / "report.html", *option).exit_code == OK
        assert ('id="published"' in (out / "report.html").read_text()) == shown


@pytest.mark.parametrize("option", ["--published", "--no-published"])
def test_verify_checks_the_whole_page_of_a_report_with_and_without_them(cli, logged, option):
    folder = logged("cifar10")
    assert cli("report", folder, option).exit_code == OK
    said = cli("verify", folder, "--no-counts")
    assert "report.html (the whole page)" in said.stdout, said.output
