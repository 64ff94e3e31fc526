"""Published figures are what their sources state: read strictly, with intervals, and only beside the same data set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from drawn import svg_words
from scipy.stats import binomtest
from summaries import Row, hits, summary_of

from bench.analysis.markup import text_of
from bench.published import Figure, beside, chart_marks, published_table, read_figures
from bench.published.figures import FOLDER, FiguresError
from bench.published.picture import draw_published
from bench.report.page import render
from bench.sweep.preset import load_preset

FILES = ROOT / FOLDER
FILE = """
source = "Author et al. 2020"
url = "https://example.org"
[[series]]
method = "a method"
dataset = "cifar10"
sigma = 0.5
images = 500
read = "table"
decimals = 3
figures = [{ radius = 0.0, value = 0.652 }, { radius = 0.25 }]
"""


@pytest.fixture
def published(tmp_path):
    """Read a file of figures, `FILE` with some of its text replaced."""

    def read(*changes: tuple[str, str]) -> list[Figure]:
        text = FILE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "author.toml").write_text(text)
        return read_figures(tmp_path / "author.toml")

    return read


def about(dataset: str, split: str = "test"):
    """Two purifiers at two noise levels on 60 images of a data set."""
    cell = {"dataset": dataset, "split": split}
    return summary_of(
        *(
            Row(name, hits(60, range(count)), sigma=sigma, family="one-step", cell=cell)
            for name, count in (("onestep-edm", 40), ("onestep-ddpm", 30))
            for sigma in (0.25, 0.5)
        )
    )


def test_a_file_gives_a_figure_for_each_radius(published):
    first, second = published()
    assert (first.radius, first.value, first.images, first.file) == (0.0, 0.652, 500, "author.toml")
    assert second.value is None and second.interval is None
    assert first.label == second.label == "Author et al. 2020, a method (σ 0.5, 500 images, table)"


def test_the_interval_is_wilsons_for_the_number_of_images(published):
    exact = binomtest(326, 500).proportion_ci(0.95, method="wilson")
    assert published()[0].interval == pytest.approx((exact.low, exact.high))


def test_the_interval_of_a_rounded_value_covers_every_count_behind_it(published):
    rounded = published(("0.652", "0.65"), ("decimals = 3", "decimals = 2"))[0].interval
    ends = [binomtest(k, 500).proportion_ci(0.95, method="wilson") for k in (323, 327)]  # 0.646 and 0.654
    # 322.5 and 327.5 are the ends of what 0.65 may stand for.
    assert rounded == pytest.approx((ends[0].low, ends[1].high))


def test_without_a_number_of_images_there_is_no_interval_and_the_label_says_so(published):
    figure = published(("images = 500\n", ""))[0]
    assert figure.interval is None and "images not stated" in figure.label


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("0.652", "0.6527", "no share of 500 images"),
        ("0.652", "65.2", "value"),
        ("0.652", "nan", "value"),
        ('read = "table"', 'read = "a friend told me"', "read"),
        ("sigma = 0.5", "sigma = 0.5\nbest_of = [0.25, 0.5]", "give one of them"),
        ('"cifar10"', '"folder"', "names no images"),
        ("radius = 0.25", "radius = 0.0", "twice"),
        ("sigma = 0.5", 'sigma = 0.5\npreset = "cifar10-paper"', "preset needs purifier"),
        ("sigma = 0.5", "sigmas = [0.5]", "sigmas"),
        ("https:", "javascript:", "url"),
        ("decimals = 3\n", "", "decimals"),
    ],
)
def test_a_wrong_field_is_refused_with_the_file_and_the_page_that_helps(published, old, new, word):
    with pytest.raises(FiguresError) as refused:
        published((old, new))
    assert word in str(refused.value) and "author.toml" in str(refused.value)
    assert "docs/protocols.md" in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"source = ", b"a = [" + b"[" * 100_000, b"", FILE.replace("500", "1" * 30).encode()]
)
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "author.toml").write_bytes(content)
    with pytest.raises(FiguresError, match=r"author\.toml"):
        read_figures(tmp_path)


def test_a_file_that_is_missing_is_refused_and_a_folder_without_files_has_no_figures(tmp_path):
    assert read_figures(tmp_path) == []
    with pytest.raises(FiguresError, match=r"none\.toml"):
        read_figures(tmp_path / "none.toml")


def test_the_committed_files_name_rows_of_presets_and_say_where_their_values_are_read():
    figures = read_figures(FILES)
    assert {f.file.removesuffix(".toml") for f in figures} == {
        *("cohen2019", "salman2020", "carlini2023", "zhang2023", "li2024")
    }
    for figure in figures:
        assert figure.value is None or figure.where, figure.label
        if figure.preset:
            preset = load_preset(figure.preset, {})
            assert figure.purifier in {plugin.name for plugin in preset.purifiers}
            assert figure.dataset == preset.dataset and set(figure.best_of) <= set(preset.sigmas)
    assert {f.preset for f in figures} - {None} == {
        *("cifar10-paper", "imagenet64-paper", "cifar10-dds", "cifar10-diffsmooth")
    }


def test_the_figures_of_consistency_purification_are_not_entered():
    assert {f.value for f in read_figures(FILES / "li2024.toml")} == {None}


def test_the_figures_of_cohen_are_those_of_the_logs(shared_data):
    figures = [f for f in read_figures(FILES / "cohen2019.toml") if f.read == "log"]
    assert len(figures) == 12
    for figure in figures:
        name = f"cifar10-resnet110-noise_{figure.sigma:.2f}-sigma_{figure.sigma:.2f}.tsv"
        log = pd.read_csv(shared_data / "cohen2019" / name, sep="\t")
        certified = (log["predict"] == log["label"]) & (log["radius"] >= figure.radius)
        assert (len(log), round(float(certified.mean()), 3)) == (figure.images, figure.value)


def test_the_figures_of_denoised_smoothing_are_those_of_its_tables():
    """Protocol, section 8, which was read in the same files at another time."""
    values = {
        ("cifar10", "no denoiser"): (0.07, 0.03, 0.00, 0.00),
        ("cifar10", "query access"): (0.45, 0.20, 0.15, 0.13),
        ("cifar10", "full access"): (0.56, 0.41, 0.28, 0.19),
        ("cifar10", "white-box"): (0.59, 0.45, 0.31, 0.21),
        ("imagenet", "no denoiser"): (0.32, 0.04, 0.02, 0.00, 0.00, 0.00),
        ("imagenet", "query access"): (0.48, 0.31, 0.19, 0.12, 0.07, 0.04),
        ("imagenet", "full access"): (0.50, 0.33, 0.20, 0.14, 0.11, 0.06),
        ("imagenet", "white-box"): (0.62, 0.52, 0.45, 0.39, 0.34, 0.29),
    }
    figures = read_figures(FILES / "salman2020.toml")
    for (dataset, method), expected in values.items():
        own = {f.radius: f.value for f in figures if f.dataset == dataset and f.method.startswith(method)}
        assert tuple(own[0.25 * (i + 1)] for i in range(len(expected))) == expected


def test_figures_stand_only_beside_test_images_of_their_data_set(published):
    figures = published()
    assert [f.value for f in beside(about("cifar10"), figures)["cifar10"]] == [0.652]
    for dataset, split in (("cifar10-jpeg", "test"), ("mnist5k", "test"), ("cifar10", "val"), ("imagenet64", "test")):
        assert beside(about(dataset, split), [*figures, *read_figures(FILES)]) == {}


def test_nothing_is_drawn_or_written_beside_another_data_set(tmp_path):
    summary, figures = about("cifar10-jpeg"), read_figures(FILES)
    assert draw_published(summary, figures, tmp_path / "out") == []
    assert published_table(summary, figures) == []
    manifests = {"run": {}}
    assert render(summary, manifests, {}, {}, {}, figures) == render(summary, manifests, {}, {}, {})


def test_the_picture_labels_every_source_with_its_number_of_images(tmp_path):
    written = draw_published(about("cifar10"), read_figures(FILES), tmp_path, ["svg"])
    assert [path.name for path in written] == ["published.svg"]
    words = svg_words(tmp_path / "published.svg")
    assert "Cohen et al. 2019, ResNet-110 trained on noise 0.25 (σ 0.25, 500 images, log)" in words
    assert "Salman et al. 2020, full access, ResNet-110 (best σ of 0.12, 0.25, 0.5, 1, 500 images, table)" in words
    assert "nothing here ranks them" in " ".join(words.split())
    assert "Carlini" not in words and "ImageNet" not in words  # figures of other images, and empty ones


def test_marks_stand_at_the_published_values(published):
    from bench.published.picture import published as picture

    summary = about("cifar10")
    (axes,) = picture(summary, "cifar10", beside(summary, published())["cifar10"]).axes
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert marks == [(0.0, 0.652)]
    bars = [tuple(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 2 and line.get_xdata()[1] == 0.0]
    assert published()[0].interval in bars


def test_the_curve_at_the_best_noise_level_is_the_highest_at_every_radius():
    from bench.published.beside import rows_on_test_images
    from bench.published.picture import _at_best_sigma

    rng = np.random.default_rng(0)
    radii = {sigma: np.where(rng.random(60) < 0.8, 4 * sigma * rng.random(60), -1.0) for sigma in (0.25, 0.5)}
    rows = [Row("onestep-edm", r, sigma=s, cell={"dataset": "cifar10"}) for s, r in radii.items()]
    summary = summary_of(*rows)
    _, certified = _at_best_sigma(summary, rows_on_test_images(summary))
    ((_, best),) = certified.values()
    for radius in np.linspace(0, 2, 50):
        assert (best >= radius).mean() == max((r >= radius).mean() for r in radii.values())


def test_the_table_quotes_each_value_with_the_decimals_of_its_source():
    (table,) = published_table(about("cifar10"), read_figures(FILES))
    text = text_of(table, "md")
    assert "60.0 \\[55.6, 64.2\\]" in text and "| 45 \\[40.3, 49.8\\] |" in text
    assert "**60" not in text and "†" not in text  # no marks of a rank
    assert "https://arxiv.org/abs/2003.01908" in text


def test_the_report_shows_the_table_and_the_marks_of_single_noise_levels():
    summary, figures = about("cifar10"), read_figures(FILES)
    page = render(summary, {"run": {}}, {}, {}, {}, figures)
    assert 'id="published"' in page and "Salman et al. 2020, query access" in page
    marks = chart_marks(beside(summary, figures)["cifar10"], [0.25, 0.5])
    assert len(marks) == 12 and {m["sigma"] for m in marks} == {"0.25", "0.5"}
    assert marks[0] | {"low": None, "high": None} == {
        **{"sigma": "0.25", "radius": 0.0, "y": 74.8, "low": None, "high": None},
        "label": "Cohen et al. 2019, ResNet-110 trained on noise 0.25 (σ 0.25, 500 images, log)",
    }
    assert (marks[0]["low"], marks[0]["high"]) == (70.8, 78.4)


def test_a_source_cannot_put_markup_into_the_report(published):
    figure = replace(published()[0], method="<script>alert(1)</script>")
    page = render(about("cifar10"), {"run": {}}, {}, {}, {}, [figure])
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page
