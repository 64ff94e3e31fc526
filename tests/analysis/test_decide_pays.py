"""Whether a purifier pays, where plain smoothing has a classifier of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from summaries import Row, hits, summary_of

from bench.analysis.best import best_sigmas
from bench.analysis.recommendation import recommend
from bench.analysis.references import worth_sentences
from bench.analysis.tables import tables

NONE = Row("none", hits(100, range(10)), nfe=0.0, ms=0.001, family="none")


GOOD = Row("good", hits(100, range(80)), nfe=1.0, ms=1.0)


NOISY = Row("none(classifier=noisy)", hits(100, range(76)), nfe=0.0, ms=0.001, family="own-classifier")


def test_whether_a_purifier_pays_is_said_where_plain_smoothing_has_a_classifier_of_its_own():
    """Purifiers beat a classifier that never saw noise; that is no answer to the question."""
    assert not any("pay" in note for note in recommend(summary_of(NONE, GOOD), 0.25).notes)
    assert not any("pay" in note for note in recommend(summary_of(NONE, NOISY), 0.25).notes)
    close = recommend(summary_of(NONE, NOISY, GOOD), 0.25)
    assert close.notes[0].startswith("At radius 0.25 no purifier is shown to pay: plain smoothing, none")
    assert "(76.0 %), is not significantly worse than the best of them, good (80.0 %); p = 0.12" in close.notes[0]
    far = recommend(summary_of(NONE, replace(NOISY, radii=hits(100, range(50))), GOOD), 0.25)
    assert far.notes[0].startswith("At radius 0.25 a purifier pays: good (80.0 %) certifies more than plain smoothing")
    assert far.notes[0].endswith("(50.0 %); p <0.001")
    best = recommend(summary_of(NONE, replace(NOISY, radii=hits(100, range(99))), GOOD), 0.25)
    assert "At radius 0.25 no purifier pays: plain smoothing" in best.notes[0] and best.chosen.nfe == 0
    equal = recommend(summary_of(NONE, replace(NOISY, radii=hits(100, range(81))), GOOD), 0.25)
    assert "no purifier is shown to pay: the best purifier, good (80.0 %), certifies no more than" in equal.notes[0]


def test_operations_are_told_where_milliseconds_do_not_compare():
    made = summary_of(NONE, NOISY, GOOD)
    costs = {"gflops": 0.1 + made.table["nfe"], "ms_joint": 2 + made.table["nfe"]}
    timed = replace(made, table=made.table.assign(**costs))
    untimed = replace(timed, untimed="mine waited")
    assert "ms per vote instead of" in recommend(timed, 0.25).verdict
    found = recommend(untimed, 0.25)
    assert found.beside == "gflops" and "0.1 GFLOPs per vote instead of 1.1" in found.verdict
    assert not any("milliseconds" in note for note in found.notes)
    assert "milliseconds do not compare: mine waited" in recommend(untimed, 0.25, max_joint_ms=2).notes


def test_tables_say_at_each_radius_whether_a_purifier_pays():
    radii = np.where(np.arange(100) < 90, 0.3, -1.0)  # plain smoothing certifies more images, and none of them far
    found = summary_of(NONE, replace(NOISY, radii=radii), replace(GOOD, radii=hits(100, range(60))))
    said = worth_sentences(found, best_sigmas(found))
    assert [text.split(": ")[0] for text in said] == [
        "At radius 0 no purifier pays",
        "At radius 0.25 no purifier pays",
        "At radius 0.5 a purifier pays",
    ]
    notes = [table.notes for table in tables(found) if table.name == "radius-0.5"]
    assert said[2] in notes[0] and said[0] not in notes[0]
    assert worth_sentences(summary_of(NONE, GOOD), best_sigmas(summary_of(NONE, GOOD))) == []
