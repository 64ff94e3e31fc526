"""Import published logs of per-image certificates in the format of locuslab/smoothing.

A log holds radii and no counts, so it is stored beside a run, in `published.csv`.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.certify import largest_radius
from bench.errors import PurifyBenchError
from bench.files import MOST_TEXT, make_folder, open_file, write_file
from bench.names import nearest
from bench.store.checksums import relisted
from bench.store.database import StoreError
from bench.store.run import PUBLISHED, read_published

if TYPE_CHECKING:
    import pandas as pd

_WHOLE = ("idx", "label", "predict")
_COLUMNS = (*_WHOLE, "radius", "correct")
_LARGEST = 2**31 - 1  # image number or class


class PublishedError(PurifyBenchError):
    """A log is refused; the message names the file, the row and the remedy."""


def read_log(path: Path, sigma: float, n: int, alpha: float, prefix: str = "") -> tuple[pd.DataFrame, list[str]]:
    """Read a log; returns rows (image, label, predicted, radius, correct) and a sentence for each repair.

    Parameters:
        n, alpha: the constants with which the log was made.
        prefix: of the command's options for these two, which a refusal names.

    Raises:
        PublishedError: a column is missing, a row contradicts itself, or a radius is larger than `n` draws at level
            `alpha` can certify.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # for rows longer than the header
            with open_file(path, MOST_TEXT) as file:
                table = pd.read_csv(file, sep=r"\s+", engine="python", index_col=False)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:  # pandas' parser errors are ValueErrors
        raise PublishedError(f"{path} cannot be read as a table ({error})") from error
    for column in _COLUMNS:
        if column not in table.columns:
            raise PublishedError(f"{path}: " + nearest("column", column, map(str, table.columns)))
    for column in _COLUMNS:
        table[column] = pd.to_numeric(table[column], errors="coerce")
        whole = column in _WHOLE
        good = np.isfinite(table[column]) & (table[column] % 1 == 0 if whole else True)
        _refuse_rows(path, ~good, f"{column} is not a {'whole ' if whole else ''}number")
        if whole:
            _refuse_rows(path, table[column] > _LARGEST, f"{column} is larger than {_LARGEST:,}")
    if table.empty:
        raise PublishedError(f"{path} has no rows")
    table = table.astype(dict.fromkeys(_WHOLE, int))
    if table["idx"].duplicated().any():
        image = table.loc[table["idx"].duplicated(), "idx"].iloc[0]
        raise PublishedError(f"{path}: image {image} appears twice; join the parts of a log only once")
    _check_radii(path, table, sigma, n, alpha, prefix)
    repaired = _check_correct(path, table)
    rows = table[list(_COLUMNS)].rename(columns={"idx": "image", "predict": "predicted"})
    return rows.assign(correct=rows["predicted"] == rows["label"]), repaired


def _refuse_rows(path: Path, wrong: pd.Series, problem: str) -> None:
    """Raise PublishedError with the number of the first wrong row in the file, if there is one."""
    if wrong.any():
        raise PublishedError(f"{path}, row {int(np.flatnonzero(wrong)[0]) + 2}: {problem}; correct the log")


def _rounding(radius: float) -> float:
    """Half a unit of the last of the three significant digits with which radii are printed."""
    return 0.5 * 10.0 ** (math.floor(math.log10(radius)) - 2) if radius > 0 else 0.0


def _check_radii(path: Path, table: pd.DataFrame, sigma: float, n: int, alpha: float, prefix: str) -> None:
    """Raise PublishedError for labels, classes and radii that contradict each other or the bound of `n` draws."""
    largest = largest_radius(n, alpha, sigma)
    abstained = table["predict"] == -1
    for wrong, problem in (
        (table["idx"] < 0, "the image number is negative"),
        (table["label"] < 0, "the label is negative"),
        (table["predict"] < -1, "the predicted class is negative (-1 is abstained)"),
        (table["radius"] < 0, "the radius is negative"),
        (abstained & (table["radius"] > 0), "an abstained image has a radius"),
    ):
        _refuse_rows(path, wrong, problem)
    top = float(table["radius"].max())
    if top > largest + _rounding(top):
        fitting = [a for a in (0.01, 0.05) if a > alpha and top <= largest_radius(n, a, sigma) + _rounding(top)]
        hint = f"; the largest radius fits --{prefix}alpha {fitting[0]:g}" if fitting else ""
        raise PublishedError(
            f"{path}: radius {top:g} is larger than N = {n:,} draws certify at alpha = {alpha:g} and sigma = {sigma:g} "
            f"({largest:.4f}); give the --sigma, --{prefix}n and --{prefix}alpha that the log was made with{hint}"
        )


def _check_correct(path: Path, table: pd.DataFrame) -> list[str]:
    """Compare the column `correct` with `predict == label`; a running count or share of correct images is accepted.

    Returns a sentence for a repair; raises PublishedError for any other column.
    """
    truth = (table["predict"] == table["label"]).to_numpy(float)
    correct = table["correct"].to_numpy(float)
    if np.array_equal(correct, truth):
        return []
    if np.array_equal(correct, np.cumsum(truth)):
        return ["the column `correct` is a running count; each image's own value was recovered"]
    share = np.cumsum(truth) / np.arange(1, len(truth) + 1)
    digits = max(len(str(v).partition(".")[2]) for v in correct[correct % 1 != 0].tolist() or [0])
    if np.allclose(correct, share, rtol=0, atol=10.0**-digits if digits > 1 else 1e-9):
        return ["the column `correct` is a running share; each image's own value was recovered"]
    row = int(np.flatnonzero(correct != truth)[0])
    raise PublishedError(
        f"{path}, row {row + 2}: correct is {correct[row]:g}, predict {table['predict'].iloc[row]} and label "
        f"{table['label'].iloc[row]}, and the column is no running count or share either; correct the log"
    )


def import_log(
    path: Path, folder: Path, name: str, dataset: str, sigma: float, nfe: float | None, n: int, alpha: float
) -> list[str]:
    """Store a log in a run's folder; returns a sentence for each repair.

    Parameters:
        dataset: its name; figures of different data sets are never compared.

    Raises:
        PublishedError: the log is refused, the folder holds another log of this name and sigma, or cannot be written.
    """
    import pandas as pd

    for option, value in (("name", name), ("dataset", dataset)):
        if not value.strip():
            raise PublishedError(f"the {option} is empty; give the --{option} that tables and plots are to show")
    rows, repaired = read_log(path, sigma, n, alpha)
    rows = rows.assign(
        name=name,
        dataset=dataset.strip(),
        sigma=sigma,
        draws=n,
        nfe=np.nan if nfe is None else nfe,
        largest=largest_radius(n, alpha, sigma),
        rule=f"published log (N = {n}, alpha = {alpha:g}, radii of three digits)",
    )
    target = folder / PUBLISHED
    try:
        others = read_published(make_folder(folder))
        if ((others["name"] == name) & (others["sigma"] == sigma)).any():
            raise PublishedError(f"{target} already holds {name!r} at sigma = {sigma:g}; give another --name or --out")
        rows = rows if others.empty else pd.concat([others, rows], ignore_index=True)
        with relisted(folder, PUBLISHED, begin=True):
            write_file(target, rows.to_csv(index=False))
    except StoreError as error:
        raise PublishedError(f"{error}, or give another --out") from error
    except OSError as error:
        raise PublishedError(f"{target} cannot be written ({error}); give another --out") from error
    return repaired
