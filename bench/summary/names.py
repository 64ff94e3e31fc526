"""Display names of purifiers, made from their parameters, and the lookup of a purifier by any of its names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from bench.errors import InputError
from bench.records import EACH_SIGMA, IMPORTED, Cell, label_of

_LONGEST, _LONGEST_CLASSIFIER = 34, 20  # characters
_BY_VALUE = ("solver", "steps")  # parameters that identify a sampler: shown by their value, without their key


def display_names(cells: Iterable[Cell], families: Mapping[str, str]) -> dict[str, str]:
    """A unique display name for each purifier with its parameters, by `Cell.label`.

    `solver` and `steps` (if more than one) are always shown, other parameters only if purifiers of one plugin differ in
    them. A plugin's name loses its family as a prefix, because colours show the family: `pf-ode-torchdiffeq` with
    `solver=midpoint, steps=2, rtol=0.01` becomes `torchdiffeq midpoint 2`. The classifier of a row that names its own
    follows in brackets: `none [noisy-classifier]`, and `none [noisy-classifier-σ]` if it names one for each sigma.
    Names that would be equal become labels.

    Parameters:
        families: by the plugin's name; a plugin without one keeps its full name.
    """
    purifiers = {cell.label: cell for cell in cells}
    siblings: dict[str, list[Mapping[str, object]]] = {}
    for cell in purifiers.values():
        siblings.setdefault(cell.purifier, []).append(cell.parameters)
    names = {
        label: _display_name(cell, siblings[cell.purifier], families.get(cell.purifier, ""))
        for label, cell in purifiers.items()
    }
    taken = list(names.values())
    return {label: label if taken.count(name) > 1 else name for label, name in names.items()}


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """The table of a summary with the columns of `bench.summary.rows.named`."""
    series = series_of(table)
    images = table["raced"].map({True: " (raced: ", False: " ("}) + table["images"].astype(str) + " images)"
    remark = images.where(~table["complete"], "")
    remark = remark.where(table["error"].isna(), " (failed)")
    return table.assign(imported=table["source"] == IMPORTED, series=series, name=series + remark)


def series_of(table: pd.DataFrame) -> pd.Series:
    """The column `name` of a table, with its run if several runs have that name."""
    if table["run"].nunique() <= 1:
        return table["name"]
    runs = table.groupby("name")["run"].transform("nunique")
    return table["name"].where(runs <= 1, table["name"] + " · " + table["run"])


def _display_name(cell: Cell, siblings: Iterable[Mapping[str, object]], family: str) -> str:
    """The name of one purifier among the `siblings` that the same plugin has; at most `_LONGEST` characters."""
    purifier, parameters = cell.purifier, cell.parameters
    prefix = f"{family}-"
    short = purifier.startswith(prefix) and len(purifier) > 2 * len(prefix)
    words = [purifier.removeprefix(prefix) if short else purifier]
    words += [_value_text(parameters[key]) for key in _BY_VALUE if parameters.get(key, 1) != 1]
    words += [
        f"{key}={_value_text(value)}"
        for key, value in parameters.items()
        if key not in _BY_VALUE and any(other.get(key) != value for other in siblings)
    ]
    own = f" [{_cut(_classifier_name(cell), _LONGEST_CLASSIFIER)}]" if cell.own_classifier else ""
    return _cut(" ".join(words), _LONGEST - len(own)) + own


def _classifier_name(cell: Cell) -> str:
    """The last part of the path of a classifier, `noisy-classifier`; the plugin's name if it has none."""
    path = str({**cell.classifier_parameters, **cell.by_sigma}.get("path", "")).replace(EACH_SIGMA, "σ")
    return path.rstrip("/").rpartition("/")[2].removesuffix(".safetensors") or cell.classifier


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _value_text(value: object) -> str:
    """`2.0` -> `2`; other types as Python writes them."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def labels(table: pd.DataFrame) -> pd.Series:
    """The label of each row of a summary's table."""
    pairs = zip(table["purifier"], table["parameters"], strict=True)
    return pd.Series([label_of(*pair) for pair in pairs], table.index, dtype=object)


def rows_called(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of the one purifier that a user names by its display name, its label, or its plugin's name.

    Raises:
        ValueError: no purifier, or several, have this name; the message lists them.
    """
    if table.empty:
        raise InputError("nothing is certified yet in these runs; make them with `bench run`")
    called = (table[names == name] for names in (table["name"], labels(table), table["purifier"]))
    rows = next((rows for rows in called if len(rows)), None)
    if rows is None:
        raise InputError(f"no purifier {name!r} in these runs; there are: {', '.join(dict.fromkeys(table['name']))}")
    names = list(dict.fromkeys(rows["name"]))
    if len(names) > 1:
        raise InputError(f"{name!r} could be any of: {', '.join(names)}; give one of them")
    return rows
