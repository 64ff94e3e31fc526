"""Published logs stand beside measured runs: read as they are, repaired or refused, never taken for counts."""

from __future__ import annotations

import pytest
from command import OK, REFUSED, summary_of
from logs import GOOD, HEADER, import_cli, log_writer

from bench.store.imported import PublishedError, read_log
from bench.store.run import PUBLISHED, read_run
from bench.summary.summary import IMPORTED

COHEN = {  # protocol, section 6: sigma -> accuracy at 0, .25, .5, .75, 1, average certified radius, abstained
    "0.25": ((0.748, 0.600, 0.428, 0.266, 0.0), 0.429, 0.086),
    "0.50": ((0.652, 0.546, 0.414, 0.320, 0.234), 0.538, 0.166),
}
RADII = ("0", "0.25", "0.5", "0.75", "1")


@pytest.fixture
def cohen(shared_data):
    """The published logs of Cohen et al. by sigma."""
    return {s: shared_data / "cohen2019" / f"cifar10-resnet110-noise_{s}-sigma_{s}.tsv" for s in COHEN}


@pytest.fixture
def log(tmp_path):
    return log_writer(tmp_path)


@pytest.mark.parametrize("sigma", COHEN)
def test_the_logs_of_cohen_give_the_published_figures(cli, cohen, tmp_path, sigma):
    accuracies, acr, abstained = COHEN[sigma]
    result = import_cli(cli, cohen[sigma], tmp_path / "out", sigma=sigma, alpha=0.01)
    assert result.exit_code == OK, result.output
    assert "repaired" not in result.stdout

    (row,) = summary_of(cli, tmp_path / "out")["rows"]
    assert tuple(round(row[f"acc@{radius}"] or 0, 3) for radius in RADII) == accuracies  # empty: out of reach
    assert round(row["acr"], 3) == acr
    assert round(row["abstained"], 3) == abstained
    assert (row["images"], row["source"]) == (500, IMPORTED)

    shown = cli("summary", tmp_path / "out").stdout
    for figure in (f"{acr:.3f}", f"{100 * abstained:.1f}", *(f"{100 * a:.1f}" for a in accuracies if a)):
        assert figure in shown
    assert "radii only" in shown


def test_an_alpha_that_cannot_have_made_the_radii_is_refused_and_the_one_that_can_is_named(cli, cohen, tmp_path):
    for sigma, path in cohen.items():
        result = import_cli(cli, path, tmp_path / "out", sigma=sigma, alpha=0.001)
        assert result.exit_code == REFUSED
        assert "--alpha 0.01" in result.stderr and str(path) in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_sigma_or_a_number_of_draws_that_cannot_have_made_the_radii_is_refused(cli, cohen, tmp_path):
    for options in ({"sigma": 0.12}, {"n": 1000}):
        result = import_cli(cli, cohen["0.25"], tmp_path / "out", **{"alpha": 0.01, **options})
        assert result.exit_code == REFUSED
        assert "is larger than" in result.stderr and "--sigma" in result.stderr


@pytest.mark.parametrize(("sigma", "half"), [(0.25, 0.0005), (1.0, 0.005)])
def test_a_radius_that_three_significant_digits_rounded_up_is_taken(log, sigma, half):
    from bench.certify.bounds import largest_radius

    largest = largest_radius(1000, 0.001, sigma)
    read_log(log((0, 1, 1, f"{largest + 0.9 * half:.6f}", 1)), sigma, 1000, 0.001)
    with pytest.raises(PublishedError, match="is larger than"):
        read_log(log((0, 1, 1, f"{largest + 1.1 * half:.6f}", 1)), sigma, 1000, 0.001)


def test_a_good_log_is_read_as_it_is(log):
    rows, repaired = read_log(log(*GOOD), 0.5, 100_000, 0.001)
    assert repaired == []
    assert rows.to_dict("list") == {
        "image": [0, 20, 40, 60],
        "label": [3, 7, 4, 7],
        "predicted": [3, -1, 5, 7],
        "radius": [0.378, 0.0, 0.341, 0.9],
        "correct": [True, False, False, True],
    }


@pytest.mark.parametrize(
    ("correct", "word"),
    [
        ((1, 1, 1, 2), "count"),
        ((1.0, 0.5, 0.3333, 0.5), "share"),
        ((1.0, 0.5, 1 / 3, 0.5), "share"),
        ((1.0, 0.5, 0.33, 0.5), "share"),
    ],
)
def test_a_running_column_is_recognised_and_repaired(cli, log, tmp_path, correct, word):
    rows = [(*row[:4], c) for row, c in zip(GOOD, correct, strict=True)]
    result = import_cli(cli, log(*rows), tmp_path / "out")
    assert result.exit_code == OK, result.output
    assert "repaired" in result.stdout and f"a running {word}" in result.stdout
    assert read_run(tmp_path / "out").published["correct"].tolist() == [True, False, False, True]


def test_a_repaired_log_has_the_figures_of_the_good_one(cli, cohen, tmp_path):
    import pandas as pd

    table = pd.read_csv(cohen["0.50"], sep="\t")
    hits = table["correct"].cumsum()
    figures = []
    for name, column in (("own", table["correct"]), ("count", hits), ("share", (hits / (table.index + 1)).round(4))):
        table.assign(correct=column).to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
        import_cli(cli, tmp_path / f"{name}.tsv", tmp_path / "out", sigma=0.5, alpha=0.01, name=name)
        rows = {row["purifier"]: row for row in summary_of(cli, tmp_path / "out")["rows"]}
        figures.append([rows[name][key] for key in ("acr", "abstained", *(f"acc@{r}" for r in RADII))])
    assert figures[0] == figures[1] == figures[2]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (((0, 3, 3, 0.3, 1), (20, 7, 4, 0.2, 1), (40, 4, 4, 0.1, 1)), "row 3: correct is 1, predict 4 and label 7"),
        (((0, 3, 3, 0.3, 0), (20, 7, 7, 0.2, 1)), "row 2: correct is 0, predict 3 and label 3"),
        (((0, 3, 3, 0.3, "1.0"), (20, 7, 4, 0.2, "1.0"), (40, 4, 4, 0.1, "1.0")), "row 3: correct is 1"),
        (((0, 3, 3, 0.3, 1), (20, 7, 7, 0.2, 5)), "row 3: correct is 5"),
        (((0, 3, -1, 0.3, 0),), "row 2: an abstained image has a radius"),
        (((0, 3, 3, 0.3, 1), (20, 7, 7, -0.2, 1)), "row 3: the radius is negative"),
        (((0, -1, -1, 0, 1),), "row 2: the label is negative"),
        (((0, 3, -2, 0, 0),), "row 2: the predicted class is negative"),
        (((0, 3, 3, 0.3, 1), (20, 7, 7, 0.2, 1), (0, 3, 3, 0.3, 1)), "image 0 appears twice"),
        (((0, 3, 3, "high", 1),), "row 2: radius is not a number"),
        (((0, 3, 3, "nan", 1),), "row 2: radius is not a number"),
        (((0, 3, 3, 0.3, 1), (20, 7, "cat", 0.2, 1)), "row 3: predict is not a whole number"),
        (((0.5, 3, 3, 0.3, 1),), "row 2: idx is not a whole number"),
        ((("inf", 3, 3, 0.3, 1),), "row 2: idx is not a whole number"),
        (((0, 3, 3, "inf", 1),), "row 2: radius is not a number"),
        (((0, 3, 3, 0.3, "yes"),), "row 2: correct is not a number"),
        (("0\t3\t3",), "row 2: radius is not a number"),
        (((0, 3, 3, 0.3, 1), "20\t7\t7\t0.2\t1\t15\t16\t17"), "cannot be read as a table"),
        (("0\t3\t3\t0.3\t1\t15\t16",), "cannot be read as a table"),
        ((), "has no rows"),
    ],
)
def test_a_log_that_contradicts_itself_is_refused_by_file_and_row(cli, log, tmp_path, rows, said):
    path = log(*rows)
    result = import_cli(cli, path, tmp_path / "out")
    assert result.exit_code == REFUSED
    assert str(path) in result.stderr and said in result.stderr
    assert not (tmp_path / "out").exists()


def test_one_wrong_row_in_a_long_log_is_still_found(log):
    rows = [(i, 3, 3, 0.2, 1) for i in range(60)]
    rows[50] = (50, 3, 4, 0.2, 1)
    with pytest.raises(PublishedError, match="row 52: correct is 1, predict 4 and label 3"):
        read_log(log(*rows), 0.5, 1000, 0.001)


@pytest.mark.parametrize("column", ["idx", "label", "predict", "radius", "correct"])
def test_a_missing_column_is_named_with_what_there_is(cli, log, tmp_path, column):
    path = log(*GOOD, header=HEADER.replace(column, column.upper() + "S"))
    result = import_cli(cli, path, tmp_path / "out")
    assert result.exit_code == REFUSED
    assert f"unknown column {column!r}" in result.stderr and f"{column.upper()}S" in result.stderr


@pytest.mark.parametrize("content", [b"", b"\x80\x81\x82\n\x00", b"<html><body>not found</body></html>\n"])
def test_a_file_that_is_no_log_is_refused_by_name(cli, tmp_path, content):
    (tmp_path / "x.tsv").write_bytes(content)
    result = import_cli(cli, tmp_path / "x.tsv", tmp_path / "out")
    assert result.exit_code == REFUSED and str(tmp_path / "x.tsv") in result.stderr


def test_a_file_that_is_absent_is_refused_by_name(cli, tmp_path):
    for path in (tmp_path / "absent.tsv", tmp_path):
        result = import_cli(cli, path, tmp_path / "out")
        assert result.exit_code == REFUSED and str(path) in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"sigma": 0},
        {"sigma": -1},
        {"sigma": "nan"},
        {"n": 0},
        {"alpha": 0},
        {"alpha": 1},
        {"alpha": "nan"},
        {"nfe": -1},
    ],
)
def test_figures_that_make_no_sense_are_refused(cli, log, tmp_path, options):
    assert import_cli(cli, log(*GOOD), tmp_path / "out", **options).exit_code == REFUSED
    assert not (tmp_path / "out").exists()


def test_a_log_of_the_same_name_and_sigma_is_refused_and_another_is_added(cli, log, tmp_path):
    out, path = tmp_path / "out", log(*GOOD)
    assert import_cli(cli, path, out, name="2019").exit_code == OK
    before = (out / PUBLISHED).read_bytes()
    again = import_cli(cli, path, out, name="2019")
    assert again.exit_code == REFUSED
    assert "already holds '2019'" in again.stderr and "--name" in again.stderr
    assert (out / PUBLISHED).read_bytes() == before
    assert import_cli(cli, path, out, name="2019", sigma=0.5).exit_code == OK
    assert import_cli(cli, path, out, name="other").exit_code == OK
    assert len(summary_of(cli, out)["rows"]) == 3


@pytest.mark.parametrize("name", ["2019", "1.50", "NA", "[red]loud[", "[/x]", 'with, comma and "quote"', "é σ"])
def test_any_name_comes_back_as_it_was_given(cli, log, tmp_path, name):
    assert import_cli(cli, log(*GOOD), tmp_path / "out", name=name).exit_code == OK
    (row,) = summary_of(cli, tmp_path / "out")["rows"]
    assert row["purifier"] == name and row["name"] == f"{name} (imported)"
    shown = cli("summary", tmp_path / "out")
    assert shown.exit_code == OK and name in shown.stdout


def test_an_empty_name_is_refused(cli, log, tmp_path):
    assert import_cli(cli, log(*GOOD), tmp_path / "out", name=" ").exit_code == REFUSED


def test_a_folder_or_a_table_that_cannot_be_used_is_refused_by_name(cli, log, tmp_path):
    path = log(*GOOD)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / PUBLISHED).write_text("a,b\n1,2\n")
    for folder in (tmp_path / "file" / "out", tmp_path / "damaged"):
        result = import_cli(cli, path, folder)
        assert result.exit_code == REFUSED
        assert str(folder / PUBLISHED) in result.stderr and "--out" in result.stderr
