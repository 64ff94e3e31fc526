"""Rows of several runs that repeat a purifier: a candidate is one purifier, not the row of one run. Pure."""

from __future__ import annotations

import pandas as pd

from bench.records import Cell, parameters_text
from bench.summary import Summary
from bench.summary.format import listed, number_of
from bench.summary.names import series_of


def one_of_each(summary: Summary, rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows with each purifier once at each sigma, and a note on the others; empty if there are none.

    Rows repeat a purifier if parameters, code, networks, classifier and data set are equal, and only the seed of the
    noise, the number of draws or the way to compute differs. The one with the most images stays, then the one whose
    draws reach furthest. The better of several would be the luckier.

    Parameters:
        rows: of `bench.summary.rows.named`, with counts.

    Returns:
        the rows; in the column series, a purifier has the name of its run only if another one has its name.
    """
    if rows["run"].nunique() <= 1:
        return rows, ""
    kinds = [kind_of(summary.cells[key]) for key in zip(rows["run"], rows["cell"], strict=True)]
    rows = rows.assign(kind=kinds)
    order = rows.sort_values(["images", "largest"], ascending=False, kind="stable")
    kept = rows.loc[sorted(order.drop_duplicates(["kind", "sigma"]).index)]
    repeated = rows[~rows.index.isin(kept.index)]
    kept = kept.assign(name=summary.table.loc[kept.index, "name"])  # without remarks on incomplete rows
    alone = kept.groupby("name")["kind"].transform("nunique") == 1
    kept = kept.assign(series=kept["name"].where(alone, series_of(kept)))
    if repeated.empty:
        return kept.drop(columns="kind"), ""
    names = listed(dict.fromkeys(repeated["series"]))
    note = (
        f"{number_of(len(repeated), 'row')} ({names}) of a purifier that another run has with more images, or as many: "
        "a candidate is one purifier"
    )
    return kept.drop(columns="kind"), note


def kind_of(cell: Cell, images: bool = True) -> str:
    """A text that is equal for cells of one purifier, before one classifier, on one data set, at any sigma.

    Parameters:
        images: also on the same part and the same images of the data set.
    """
    hashes = {name: value for name, value in cell.hashes.items() if name != "rule"}
    facts = (cell.purifier, parameters_text(cell.parameters), cell.classifier_text, cell.dataset, cell.noise)
    return repr((*facts, sorted(hashes.items()), *((cell.split, cell.data_hash) if images else ())))
