"""What a user decides by: each purifier at its best sigma, against the one step of its own network and the best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from summaries import CELL, Row, hits, summary_of

import purifybench as pb
from bench.analysis import best_sigmas, gain_sentences, paired_gains, recommend
from bench.analysis.best import _gain, acr_behind, behind_sentences
from bench.analysis.gains import HIGHER, LOWER
from bench.analysis.references import own_steps
from bench.records import IMPORTED
from bench.summary.rows import drawable
from bench.summary.statistics import accuracy_difference, holm, split_half


def networks(**weights: str) -> dict:
    """The hashes of a cell with these networks."""
    return {
        "hashes": {**CELL["hashes"], **{f"network {role.replace('_', '-')}": hash_ for role, hash_ in weights.items()}}
    }


def row(label: str, network: str, nfe: float = 1.0, certain: int = 100, sigma: float = 0.5, **fields) -> Row:
    """A purifier of one network that certifies the first images of 200."""
    cell = networks(**{network: network * 8})
    return Row(label, hits(200, range(certain)), sigma=sigma, nfe=nfe, cell=cell, **fields)


FIELD = (
    row("one-ddpm", "ddpm"),
    row("one-edm", "edm"),
    row("tuned", "edm_ft"),
    row("calibrated", "edm_cal"),
    row("cm(steps=1)", "cm"),
    row("cm(steps=2)", "cm", nfe=2),
    row("cm-tuned(steps=1)", "cm_ft"),
    row("cm-tuned(steps=3)", "cm_ft", nfe=3),
    row("chain(steps=3)", "ddpm", nfe=3),
    row("votes(votes=3, steps=2)", "ddpm", nfe=6),
    row("ode(steps=5)", "edm", nfe=9),
    row("euler(steps=1)", "edm"),
    Row("none", hits(200, range(20)), nfe=0.0, family="none"),
)


def test_the_reference_is_the_one_step_of_the_same_network_or_of_its_start():
    assert own_steps(summary_of(*FIELD)) == {
        "tuned": "one-edm",
        "calibrated": "one-edm",
        "cm 2": "cm",
        "cm-tuned": "cm",
        "cm-tuned 3": "cm-tuned",
        "chain 3": "one-ddpm",
        "votes 2": "one-ddpm",
        "ode 5": "one-edm",
        "euler": "one-edm",  # the one with the fewest parameters is the reference, in whatever order
    }
    assert own_steps(summary_of(*reversed(FIELD))) == own_steps(summary_of(*FIELD))


def test_a_reference_has_the_same_weights_and_run_and_all_of_its_images():
    ode = row("ode(steps=5)", "edm", nfe=9)
    other = Row("one-edm", hits(200, range(9)), cell=networks(edm="other"))
    assert own_steps(summary_of(other, ode)) == {}
    assert own_steps(summary_of(replace(FIELD[1], run="elsewhere"), ode)) == {}
    assert own_steps(summary_of(replace(FIELD[1], wanted=500), ode)) == {}
    assert own_steps(summary_of(FIELD[1], replace(ode, source=IMPORTED))) == {}
    both = [replace(r, run=run) for run in ("a", "b") for r in (FIELD[1], ode)]
    assert own_steps(summary_of(*both)) == {"ode 5 · a": "one-edm · a", "ode 5 · b": "one-edm · b"}


def test_one_step_of_two_networks_evaluates_each_once():
    pair = networks(edm="e", judge="j")
    one, more = (Row(name, hits(50, 1), nfe=nfe, cell=pair) for name, nfe in (("one", 2.0), ("more", 4.0)))
    assert own_steps(summary_of(one, more)) == {"more": "one"}


def test_without_a_start_in_the_run_a_tuned_network_has_no_reference():
    assert own_steps(summary_of(row("tuned", "edm_ft"), row("one-ddpm", "ddpm"))) == {}


def test_gains_over_the_own_one_step_are_those_over_it_by_name():
    summary = summary_of(row("one-edm", "edm"), row("ode(steps=5)", "edm", nfe=9, certain=80), *FIELD[:1])
    for radius in (None, 0.25):
        own, named = paired_gains(summary, None, radius), paired_gains(summary, "one-edm", radius)
        assert own["name"].tolist() == ["ode 5"] and own["baseline"].tolist() == ["one-edm"]
        same = named[named["name"] == "ode 5"]
        assert (
            own[["gain", "gain_low", "gain_high", "p"]].to_numpy().tolist()
            == same[["gain", "gain_low", "gain_high", "p"]].to_numpy().tolist()
        )
        assert own["verdict"].tolist() == [LOWER]


def test_gains_and_losses_are_both_said_even_if_there_are_none():
    better, worse = row("ode(steps=9)", "edm", nfe=9, certain=150), row("ode(steps=5)", "edm", nfe=5, certain=50)
    found = paired_gains(summary_of(FIELD[1], better, worse))
    assert dict(zip(found["name"], found["verdict"], strict=True)) == {"ode 9": HIGHER, "ode 5": LOWER}
    assert gain_sentences(found) == [
        "Significantly higher than the one step of the same network: ode 9 (σ = 0.5).",
        "Significantly lower than the one step of the same network: ode 5 (σ = 0.5).",
    ]
    one = paired_gains(summary_of(FIELD[1], worse), "one-edm")
    assert gain_sentences(one, "one-edm") == [
        "Significantly higher than one-edm: no purifier.",
        "Significantly lower than one-edm: ode 5 (σ = 0.5).",
    ]
    assert gain_sentences(found.iloc[:0]) == []


def sweep(seed: int = 0, images: int = 300) -> list[Row]:
    """Three purifiers at three sigmas, of which the smallest cannot certify the last radius."""
    rng = np.random.default_rng(seed)
    easy = rng.random(images)

    def radii(ability: float) -> np.ndarray:
        return np.where(easy + 0.1 * rng.standard_normal(images) < ability, 1.0, -1.0)

    return [
        replace(row(label, network, nfe), radii=radii(ability + shift), sigma=sigma, largest=2 * sigma)
        for sigma, shift in ((0.2, 0.1), (0.5, 0.0), (1.0, -0.02))
        for label, network, nfe, ability in (("one", "edm", 1, 0.6), ("ode", "edm", 5, 0.5), ("other", "cm", 1, 0.6))
    ]


def test_every_figure_of_the_best_sigmas_is_the_one_of_the_statistics():
    summary = summary_of(*sweep(), radii=(0.25, 0.5))
    found = best_sigmas(summary)
    assert found["radius"].tolist() == [0.25] * 3 + [0.5] * 3
    by_name = dict(tuple(summary.table.groupby("name")))
    chosen, values = {}, {}
    for _, best in found.iterrows():
        rows, radius = by_name[best["name"]], best["radius"]
        reaching = rows[rows["largest"] >= radius]
        top = reaching.loc[reaching[f"acc@{radius:g}"].idxmax()]
        assert (best["sigma"], best["cell"]) == (top["sigma"], top["cell"]) and best["sigmas"] == len(reaching)
        assert [best["accuracy"], best["low"], best["high"]] == [
            top[f"{column}@{radius:g}"] for column in ("acc", "acc_low", "acc_high")
        ]
        columns = [summary.certified["run", cell][1] >= radius for cell in reaching["cell"]]
        assert best["split_half"] == pytest.approx(split_half(np.stack(columns, axis=1).astype(float))[0])
        chosen[best["name"], radius] = list(reaching["cell"]).index(top["cell"])
        values[best["name"], radius] = columns
    (ps, holms) = [], []
    for _, best in found[found["name"] == "ode"].iterrows():
        radius = best["radius"]
        ours, theirs = values["ode", radius], values["one", radius]
        difference = accuracy_difference(ours[chosen["ode", radius]], theirs[chosen["one", radius]])
        assert (best["gain"], best["gain_low"], best["gain_high"]) == (
            difference.effect,
            difference.low,
            difference.high,
        )
        higher = theirs[chosen["one", radius]]
        p = max(accuracy_difference(higher, other).p for other in ours) * len(theirs)
        assert best["p"] == pytest.approx(min(1, p)) and best["baseline"] == "one"
        ps.append(best["p"])
        holms.append(best["p_holm"])
    assert holms == pytest.approx(holm(ps))
    assert set(found[found["name"] != "ode"]["baseline"]) == {""} and found["p"].notna().sum() == 2


def test_the_best_row_of_a_radius_is_the_one_that_is_recommended():
    summary = summary_of(*sweep(1), radii=(0.25, 0.5))
    found = best_sigmas(summary)
    for radius in summary.radii:
        advice, part = recommend(summary, radius), found[found["radius"] == radius]
        assert (part["name"].iloc[0], part["sigma"].iloc[0]) == (advice.chosen.name, advice.chosen.sigma)
        first = {s.name: s for s in reversed(advice.standings)}
        for _, best in part.iloc[1:].iterrows():
            standing = first[best["name"]]
            assert (best["behind"], best["p_behind"]) == (standing.behind.effect, standing.p)


def test_unfinished_rows_failed_rows_and_logs_are_not_among_the_best():
    odd = [replace(FIELD[2], wanted=900), replace(FIELD[3], error="raised"), replace(FIELD[4], source=IMPORTED)]
    assert set(best_sigmas(summary_of(FIELD[1], *odd))["name"]) == {"one-edm"}


def test_runs_of_different_data_sets_are_ranked_apart():
    other = replace(FIELD[1], run="b", cell={**FIELD[1].cell, "dataset": "letters"})
    found = best_sigmas(summary_of(FIELD[1], other))
    assert found["run"].tolist() == ["run"] * 3 + ["b"] * 3 and set(found["behind"]) == {0.0}


def test_without_rows_there_is_an_empty_table():
    failed = summary_of(replace(FIELD[1], error="raised", radii=[]))
    for frame in (best_sigmas(failed), paired_gains(failed), acr_behind(failed)):
        assert frame.empty


def test_the_choice_of_sigma_makes_no_gain_significant():
    """A purifier that is equally good at ten sigmas has ten chances to be lucky against one that has a single sigma."""
    rng = np.random.default_rng(3)
    called, plain, runs = 0, 0, 200
    for _ in range(runs):
        lucky, one = np.split(rng.random((200, 11)) < 0.5, [10], axis=1)
        best = int(lucky.sum(axis=0).argmax())
        called += _gain(lucky, one, (best, 0))[-1] <= 0.05
        plain += accuracy_difference(lucky[:, best], one[:, 0]).p <= 0.05
    assert called / runs <= 0.05 and plain / runs >= 0.1


def test_acrs_behind_the_best_have_the_marks_of_the_tables():
    from bench.analysis.tables import tables

    summary = summary_of(*sweep(2))
    behind = acr_behind(summary).set_index(["name", "sigma"])
    assert len(behind) == len(summary.table)
    for sigma in (0.2, 0.5, 1.0):
        table = next(t for t in tables(summary) if t.name == f"sigma-{sigma:g}")
        for entries in table.rows:
            acr, found = entries[table.head.index("ACR")], behind.loc[(entries[0].text, sigma)]
            assert acr.lower == (found["p_behind"] <= 0.05) and acr.best == (found["behind"] == 0)
    assert any(behind["p_behind"] <= 0.05)
    assert behind_sentences(acr_behind(summary))[0].startswith(
        "Significantly lower than the best at this σ: ode (σ = 0.2"
    )


def test_acrs_of_different_certifiers_are_ranked_apart():
    other = replace(FIELD[2], rule="two-sided (N = 40)", run="b", radii=hits(200, range(9)))
    found = acr_behind(summary_of(FIELD[1], replace(FIELD[0], run="b", rule=other.rule), other))
    assert set(found["run"]) == {"b"}  # the other run has one row


def test_the_reference_run_is_read_the_same_way_by_the_public_api():
    run = pb.load("results/embedded")
    best, gains = run.best, run.gains()
    assert best.query("radius == 0.5")["name"].iloc[0] == pb.recommend(run, 0.5).chosen.name
    assert dict(zip(best["name"], best["baseline"], strict=True))["ddpm 3"] == "onestep-ddpm"
    assert set(gains["name"]) < set(drawable(run.summary)["name"])
    assert run.gains("onestep-edm", 0.5).equals(paired_gains(run.summary, "onestep-edm", 0.5))
