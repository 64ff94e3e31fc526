"""Each purifier at its best sigma, and the gains and losses beside each row, as the page shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.analysis import best_sigmas, gain_sentences, paired_gains
from bench.analysis.best import ACR_READING, BEST_READING, acr_behind, behind_sentences
from bench.analysis.references import worth_sentences
from bench.report.figures import UNKNOWN, figure, known
from bench.summary import Summary
from bench.summary.format import change_text, p_text, percent_interval
from bench.summary.names import series_of
from bench.summary.palette import family_of
from bench.summary.statistics import LEVEL

_Figure = dict[str, Any]
_NONE: _Figure = figure(None)


def reading(summary: Summary, table: pd.DataFrame) -> dict[str, Any]:
    """The values of the template: figures, how to read them, and the significant gains and losses in sentences.

    `best`: a row for each radius and purifier. `gains`: by position in `table`, the gain of average certified radius
    over the one step of the same network with its p, and whether the row is significantly lower than the best.

    Parameters:
        table: of `bench.summary.rows.drawable`.
    """
    best, gains, behind = best_sigmas(summary), paired_gains(summary), acr_behind(summary)
    return {
        "best": list(_best_rows(summary, best)),
        "best_words": BEST_READING,
        "best_found": [
            *gain_sentences(best, per="radius"),
            *behind_sentences(best, "radius"),
            *worth_sentences(summary, best),
        ],
        "gains": list(_gains(table, gains, behind)),
        "gains_words": ACR_READING if len(gains) or len(behind) else (),
        "gains_found": [*gain_sentences(gains), *behind_sentences(behind)],
    }


def _best_rows(summary: Summary, best: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of `best_sigmas`, every figure as a number and as text."""
    families = dict(zip(summary.table["cell"], summary.table["family"], strict=True))
    for name, row in zip(series_of(best), best.to_dict("records"), strict=True):
        interval = percent_interval(row["low"], row["high"])
        half = None if known(row["split_half"]) is None else f"{100 * row['split_half']:.1f}"
        behind = _change(row["behind"], row["behind_low"], row["behind_high"])
        yield {
            **{"name": name, "family": family_of(families[row["cell"]]), "over": row["baseline"]},
            **{column: figure(row[column], f"{row[column]:g}") for column in ("radius", "sigma")},
            "accuracy": figure(row["accuracy"], f"{100 * row['accuracy']:.1f}") | {"small": interval},
            "half": figure(known(row["split_half"]), half),
            "gain": _change(row["gain"], row["gain_low"], row["gain_high"]) if row["baseline"] else _NONE,
            "p": _p_figure(row["p_holm"]),
            "verdict": row["verdict"],
            "behind": _NONE if known(row["behind_low"]) is None else behind,
            "p_behind": _p_figure(row["p_behind"]),
            "lower": row["p_behind"] <= LEVEL,
            "nfe": figure(known(row["nfe"])),
            "ms": figure(known(row["ms_purify"])),
        }


def _gains(table: pd.DataFrame, gains: pd.DataFrame, behind: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The gain of each row of `table` with its p and verdict, and whether its ACR is below the best."""
    of_row = {(row["run"], row["cell"]): row for row in gains.to_dict("records")}
    lower = set(behind.loc[behind["p_behind"] <= LEVEL, ["run", "cell"]].itertuples(index=False, name=None))
    for key in zip(table["run"], table["cell"], strict=True) if len(table) else ():
        entry: dict[str, Any] = {"gain": _NONE, "p": _NONE, "verdict": "", "over": "", "lower": key in lower}
        if (row := of_row.get(key)) is not None:
            gain = _change(row["gain"], row["gain_low"], row["gain_high"], "+.3f")
            entry |= {"gain": gain, "p": _p_figure(row["p_holm"]), "verdict": row["verdict"], "over": row["baseline"]}
        yield entry


def _change(change: float, low: float, high: float, form: str = "") -> _Figure:
    """A difference as a figure with its interval as small text."""
    if known(change) is None:
        return _NONE
    words, _, interval = change_text(change, low, high, form).partition(" ")
    return figure(change, words) | {"small": interval}


def _p_figure(p: float) -> _Figure:
    return figure(known(p), UNKNOWN if known(p) is None else p_text(p))
