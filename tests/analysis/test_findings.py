"""Every table of counts in docs/findings.md and README.md is read again from the committed counts."""

import re
from functools import cache

import numpy as np
import pytest
from conftest import ROOT

from bench.analysis.gains import paired_gains
from bench.store.run import read_run
from bench.summary.format import p_text
from bench.summary.statistics import accuracy_difference
from bench.summary.summary import summarise

PAGE = (ROOT / "docs" / "findings.md").read_text()
README = (ROOT / "README.md").read_text()
MAIN = ("embedded", "embedded-fair", "embedded-far", "embedded-fair-many", "cifar10-fair", "cifar10-fair-many")
DENOISERS = ("seeds/digits-denoiser-1", "seeds/digits-denoiser-2")  # trained from other random weights
LEVELS = ("σ", "purifier", "NFE")
MAIN_OF = {
    "digits-far": "embedded-far",
    "digits-fair": "embedded-fair",
    "digits": "embedded",
    "cifar10": "cifar10-fair",
}  # of results/seeds
RULE = ("certifier", "alpha", "n0", "n", "n_max", "label_aware", "seed")


def rows_of(heading, page=PAGE):
    """The rows of all tables of the page whose first columns are called so, as cells of text."""
    found, columns = [], None
    for line in page.splitlines():
        cells = [re.sub(r"[`*†]", "", cell).strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            columns = None
        elif columns is None:
            columns = cells
        elif columns[: len(heading)] == list(heading) and not set("".join(cells)) <= set("-: "):
            found.append(dict(zip(columns, cells, strict=True)))
    return found


@cache
def summary_of(run):
    return summarise([read_run(ROOT / "results" / run)])


@cache
def gains_of(run, over, radius=None):
    """The gains at a radius, or of ACR."""
    summary = summary_of(run)
    return paired_gains(summary, over, radius)


GAINS = rows_of(("run", "σ", "r", "purifier", "over"))
ACCURACIES = rows_of(("run", *LEVELS))
RADII = rows_of(("run", "σ", "purifier", "over", "ACR gained"))
TRAININGS = rows_of(("run", "training", "σ", "r", "purifier"))  # of another seed or distance, in results/seeds
MEANS = rows_of(("data", "σ", "r"))  # of three seeds
DISTILLED = rows_of(("run", "σ", "purifier", "over, in the main run"))
ALONE = rows_of(("run", "σ", "r", "certified"))  # a classifier of plain smoothing for one sigma, in results/seeds
FIRST = rows_of(("purifier", "NFE"), README)  # of results/embedded


def test_the_page_has_its_tables():
    assert len(GAINS) >= 10 and {row["run"] for row in GAINS} == {"embedded", "embedded-far", *MAIN[-2:], *DENOISERS}
    assert {row["run"] for row in ACCURACIES} == set(MAIN)
    assert {row["run"] for row in RADII} == {*MAIN, *DENOISERS}
    assert len(TRAININGS) >= 20 and {"cifar10-1", "digits-1"} <= {row["run"] for row in TRAININGS}
    assert len(ALONE) >= 10 and any("mean" in row["run"] for row in ALONE)
    assert {"cifar10-cm-1"} <= {row["run"] for row in DISTILLED}
    assert {row["data"] for row in MEANS} == {"CIFAR-10", "digits"}
    assert len(FIRST) >= 8 and {row["purifier"] for row in FIRST} <= set(summary_of("embedded").table["name"])


@pytest.mark.parametrize("row", GAINS, ids=lambda row: " ".join(list(row.values())[:5]))
def test_a_gain_is_what_the_counts_say(row):
    gains = gains_of(row["run"], row["over"], float(row["r"]))
    gain = gains[(gains["name"] == row["purifier"]) & (gains["sigma"] == float(row["σ"]))].iloc[0]
    words = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * gain[c] for c in ("gain", "gain_low", "gain_high")))
    assert row["gain (points)"] == words
    assert row["p"] == p_text(gain["p_holm"])


@pytest.mark.parametrize("row", ACCURACIES, ids=lambda row: " ".join(list(row.values())[:3]))
def test_an_accuracy_is_what_the_counts_say(row):
    summary = summary_of(row["run"])
    table = summary.table
    at = (table["name"] == row["purifier"]) & (table["sigma"] == float(row["σ"]))
    (known,) = table[at].to_dict("records")
    assert float(row["NFE"]) == pytest.approx(known["nfe"], abs=0.05)
    assert row.get("ms") in (None, f"{known['ms_purify']:.2f}")
    assert row.get("GFLOPs") in (None, f"{known['gflops']:.3g}") and {"ms", "GFLOPs"} & row.keys()
    assert "ms" not in row or not summary.untimed
    for column, words in row.items():
        if column.startswith("r = ") and words:
            radius = column.removeprefix("r = ")
            share = [100 * known[f"{part}@{radius}"] for part in ("acc", "acc_low", "acc_high")]
            assert words == "{:.1f} [{:.1f}, {:.1f}]".format(*share)


def radius_gain_of(run, purifier, over, sigma):
    """The row of gained ACR, and its words."""
    gains = gains_of(run, over)
    at = (gains["name"] == purifier) & (gains["sigma"] == sigma)
    gain = gains[at].iloc[0]
    return gain, "{:+.3f} [{:+.3f}, {:+.3f}]".format(*(gain[c] for c in ("gain", "gain_low", "gain_high")))


@pytest.mark.parametrize("row", RADII, ids=lambda row: " ".join(list(row.values())[:4]))
def test_a_gained_radius_is_what_the_counts_say(row):
    gain, words = radius_gain_of(row["run"], row["purifier"], row["over"], float(row["σ"]))
    assert row["ACR gained"] == words
    assert row["p"] == p_text(gain["p_holm"])


def certified_at(run, purifier, sigma, radius):
    """Image -> whether it is certified; without a radius, its certified radius."""
    summary = summary_of(run)
    (cell,) = set(summary.table.query("name == @purifier and sigma == @sigma")["cell"])
    images, radii = summary.certified[run.split("/")[-1], cell]
    values = radii.clip(min=0) if radius is None else radii >= radius
    return dict(zip(images.tolist(), values.tolist(), strict=True))


def main_of(run):
    """The run with whose rows a run in `results/seeds` is compared."""
    return next(main for kind, main in MAIN_OF.items() if run.startswith(kind))


def runs_of_one_rule(run, main):
    """Both runs, which have the same images and the same rule."""
    one, two = (read_run(ROOT / "results" / name) for name in (run, main))
    assert one.manifest["pixels"] == two.manifest["pixels"] and one.manifest["labels"] == two.manifest["labels"]
    assert {k: one.manifest["preset"][k] for k in RULE} == {k: two.manifest["preset"][k] for k in RULE}
    return one, two


def difference_in_words(first, second):
    images = sorted(first)
    assert images == sorted(second)
    found = accuracy_difference([first[i] for i in images], [second[i] for i in images])
    return f"{100 * found.effect:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


@pytest.mark.parametrize("row", TRAININGS, ids=lambda row: " ".join(list(row.values())[:5]))
def test_another_training_is_compared_on_the_same_images_and_noise(row):
    sigma, radius = float(row["σ"]), float(row["r"])
    main, run = main_of(row["run"]), f"seeds/{row['run']}"
    one, two = (read_run(ROOT / "results" / name).manifest for name in (run, main))
    assert all(two["pixels"][image] == pixels for image, pixels in one["pixels"].items())
    assert {k: one["preset"][k] for k in RULE} == {k: two["preset"][k] for k in RULE}
    own = certified_at(run, row["purifier"], sigma, radius)
    assert row["certified (%)"] == f"{100 * sum(own.values()) / len(own):.1f}"
    assert row["minus onestep-edm"] == difference_in_words(own, certified_at(main, "onestep-edm", sigma, radius))
    assert row["minus seed 0"] == difference_in_words(own, certified_at(main, row["purifier"], sigma, radius))
    assert bool(row["minus its onestep-edm-ft"]) == (row["purifier"] != "onestep-edm-ft")
    if row["minus its onestep-edm-ft"]:
        same_seed = re.sub("-(cal|cls|cm)", "", run) if run[-1].isdigit() else main
        control = certified_at(same_seed, "onestep-edm-ft", sigma, radius)
        assert row["minus its onestep-edm-ft"] == difference_in_words(own, control)


@pytest.mark.parametrize("row", MEANS, ids=lambda row: " ".join(list(row.values())[:3]))
def test_a_mean_of_three_seeds_counts_each_image_once(row):
    kind, main = {"digits": ("digits", "embedded"), "CIFAR-10": ("cifar10", "cifar10-fair")}[row["data"]]
    for heading, words in list(row.items())[3:]:
        names, level = heading.split(" minus "), (float(row["σ"]), None if row["r"] == "ACR" else float(row["r"]))
        found = [
            paired_differences(main, trained, names, *level) for trained in ({}, *(seeds(kind, k) for k in (1, 2)))
        ]
        scale, digits = (1, 3) if row["r"] == "ACR" else (100, 1)
        assert words == mean_in_words(np.mean(found, axis=0), scale, digits), heading


def mean_in_words(differences, scale, digits):
    """The mean over images and its interval."""
    effect, half = np.mean(differences), 1.96 * np.std(differences, ddof=1) / len(differences) ** 0.5
    low, high = (scale * (effect + sign * half) for sign in (-1, 1))
    return f"{scale * effect:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


@pytest.mark.parametrize("row", DISTILLED, ids=lambda row: " ".join(list(row.values())[:4]))
def test_another_distillation_is_compared_on_the_same_images_and_noise(row):
    trained = {row["purifier"]: f"seeds/{row['run']}"}
    names = row["purifier"], row["over, in the main run"]
    words = mean_in_words(paired_differences(main_of(row["run"]), trained, names, float(row["σ"]), None), 1, 3)
    assert row["ACR gained"] == words


EACH_SIGMA = "none [noisy-classifier-σ]"  # the bundled networks, in the main runs


def runs_of_classifier(named):
    """The runs of a row, one or those of three seeds, and the main run, which has seed 0 of the three."""
    if named in MAIN:
        return [named], named
    kind, mean, _ = named.partition(", mean of three")
    main = main_of(kind)
    return [main, f"seeds/{kind}-1", f"seeds/{kind}-2"] if mean else [f"seeds/{kind}"], main


def own_row(run, main):
    """The row of a run in `results/seeds`, which has one, or of the bundled networks in the main run."""
    if run == main:
        return EACH_SIGMA
    (name,) = set(summary_of(run).table["name"])
    return name


@pytest.mark.parametrize("row", ALONE, ids=lambda row: " ".join(list(row.values())[:3]))
def test_a_classifier_of_one_sigma_is_compared_on_the_same_images_and_noise(row):
    runs, main = runs_of_classifier(row["run"])
    radius = None if row["r"] == "ACR" else float(row["r"])
    scale, digits = (1, 3) if radius is None else (100, 1)
    for run in runs:
        runs_of_one_rule(run, main)
    certified = [certified_at(run, own_row(run, main), float(row["σ"]), radius) for run in runs]
    own = {image: np.mean([values[image] for values in certified]) for image in certified[0]}
    assert row["certified"] == f"{scale * np.mean([*own.values()]):.{digits}f}"
    compared = [heading for heading in row if " minus it" in heading or heading.startswith("minus ")]
    assert len(compared) >= 3
    for heading in compared:
        name, sign = heading.replace("minus it", "").replace("minus ", "").strip(), 1 - 2 * heading.startswith("minus ")
        other = certified_at(main, name, float(row["σ"]), radius)
        assert sorted(other) == sorted(own)
        differences = [sign * (other[image] - own[image]) for image in sorted(own)]
        assert row[heading] == mean_in_words(differences, scale, digits), heading


def seeds(kind, k):
    """The runs of the rows that were trained with seed k."""
    own = {
        "onestep-edm-ft": "",
        "consistency-ft": "",
        "onestep-edm-cal": "-cal",
        "onestep-edm [classifier-ft]": "-cls",
        "consistency": "-cm",
        EACH_SIGMA: "-noisy",
    }
    return {name: f"seeds/{kind}{part}-{k}" for name, part in own.items()}


def paired_differences(main, trained, names, sigma, radius):
    """Image by image: the first row minus the second, each of the run of its training or of the main run."""
    runs = [trained.get(name, main) for name in names]
    rows = [own_row(run, main) if name == EACH_SIGMA else name for run, name in zip(runs, names, strict=True)]
    one, two = (certified_at(run, name, sigma, radius) for run, name in zip(runs, rows, strict=True))
    return [float(one[image]) - two[image] for image in sorted(one)]


@pytest.mark.parametrize("row", FIRST, ids=lambda row: row["purifier"])
def test_a_row_of_the_readme_is_what_the_counts_say(row):
    summary = summary_of("embedded")
    table = summary.table[summary.table["name"] == row["purifier"]]
    for radius, sigma in (("0.5", 0.5), ("1", 1.0)):
        (known,) = table[table["sigma"] == sigma].to_dict("records")
        assert float(row["NFE"]) == pytest.approx(known["nfe"], abs=0.05)
        share = [100 * known[f"{part}@{radius}"] for part in ("acc", "acc_low", "acc_high")]
        assert row[f"r = {radius}, σ = {sigma:g} (%)"] == "{:.1f} [{:.1f}, {:.1f}]".format(*share)
        words = row[f"ACR minus onestep-edm, σ = {sigma:g}"]
        assert (words == "") == (row["purifier"] == "onestep-edm")
        if words:
            assert words == radius_gain_of("embedded", row["purifier"], "onestep-edm", sigma)[1]


@pytest.mark.parametrize("run", DENOISERS)
def test_another_denoiser_is_judged_on_the_images_and_by_the_rule_of_the_bundled_one(run):
    one, two = runs_of_one_rule(run, "embedded")
    networks = {
        cell.hashes[name] for r in (one, two) for cell in r.cells.values() for name in cell.hashes if "edm" in name
    }
    assert len(networks) == 6  # none of the three is that of the other run
