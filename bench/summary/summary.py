"""Counts -> certificates -> accuracy with intervals and fronts. Pure: a run in, tables out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from bench.certify.base import Certifier, Tally
from bench.certify.rules import of_sweep
from bench.records import COUNTED, IMPORTED, Cell
from bench.store.run import Run
from bench.summary.notes import notes
from bench.summary.statistics import mean_interval, wilson_interval

FOREIGN_RULE = "another stopping rule asked for these counts; read them with the preset and the version that made them"
CERTIFICATE = ["cell", "image", "label", "predicted", "draws", "p_lower", "p_upper", "radius", "correct", "rule"]


@dataclass(frozen=True)
class Summary:
    """What a run (or several) found.

    Attributes:
        title: of the run.
        table: a row for each purifier and sigma; see `summarise` for its columns.
        certificates: a row for each image of each row of the table.
        radii: at which the table reads certified accuracy, L2 in [0,1] pixel units.
        notes: what a reader must know: cells that failed, are incomplete, or came from different devices.
        cells, certifiers: of the rows with counts, by (run, cell).
    """

    title: str
    table: pd.DataFrame
    certificates: pd.DataFrame
    radii: tuple[float, ...]
    notes: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell] = field(default_factory=dict)
    certifiers: Mapping[tuple[str, str], Certifier] = field(default_factory=dict)

    @cached_property
    def certified(self) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
        """By (run, cell): images, ascending, and the radius that is certified of each, -1 where wrong or abstained."""
        table = self.certificates
        if table.empty:
            return {}
        radii = np.where(table["correct"].to_numpy(bool), table["radius"].to_numpy(float), -1.0)
        images, found = table["image"].to_numpy(), {}
        for key, at in table.groupby(["run", "cell"], sort=False).indices.items():
            at = at[np.argsort(images[at], kind="stable")]
            found[key] = images[at], radii[at]
        return found


def certificates(run: Run, cell_certifier: dict[str, Certifier]) -> pd.DataFrame:
    """A row for each image of each cell that its certifier has decided.

    Columns: cell, image, label, predicted (-1: abstained), draws, p_lower, p_upper, radius, correct,
    rule.
    """
    labels = {int(i): label for i, label in run.manifest.get("labels", {}).items()}
    b = run.blocks
    if b.empty:
        return pd.DataFrame(columns=CERTIFICATE)
    cell, words = pd.factorize(b["cell"])  # a million words of their own would take much room
    keys = words.tolist()
    image = b["image"].to_numpy(np.int64)
    group = pd.factorize(cell * (image.max() + 1) + image)[0]
    order = np.argsort(group, kind="stable")  # the blocks of an image stand together, images as they first appear
    selecting = (b["stage"] == "select").to_numpy()[order].tolist()
    first, votes = (b[name].to_numpy()[order].tolist() for name in ("first", "votes"))
    bounds = np.flatnonzero(np.diff(group[order], prepend=-1, append=-1))
    cells, images = (column[order[bounds[:-1]]].tolist() for column in (cell, image))
    rows: list[tuple[Any, ...]] = []
    for which, number, (start, end) in zip(cells, images, pairwise(bounds.tolist()), strict=True):
        key = keys[which]
        if key not in cell_certifier or number not in labels:
            continue
        select: dict[int, Any] = {}
        estimate: dict[int, Any] = {}
        for i in range(start, end):
            (select if selecting[i] else estimate)[first[i]] = votes[i]
        tally = Tally(select, estimate, number, labels[number])
        c = cell_certifier[key].certify(tally)
        if c is None:
            continue
        predicted, label = -1 if c.predicted is None else c.predicted, labels[number]
        proved = (c.p_lower, c.p_upper, c.radius)
        rows.append((key, number, label, predicted, c.draws, *proved, predicted == label, c.rule))
    return pd.DataFrame(rows, columns=CERTIFICATE)


def costs(run: Run) -> pd.DataFrame:
    """By cell: draws, nfe and classifier rows per draw, milliseconds per draw of each stage, devices, peak memory."""
    b = run.blocks
    if b.empty:
        return pd.DataFrame()
    sums = b.groupby("cell")[["draws", "nfe", "classifier_rows", "noise_s", "purify_s", "classify_s"]].sum()
    per_draw = sums.div(sums["draws"], axis=0)
    return pd.DataFrame(
        {
            "counted_draws": sums["draws"],
            "nfe": per_draw["nfe"],
            "classifier_rows": per_draw["classifier_rows"],
            "ms_noise": per_draw["noise_s"] * 1e3,
            "ms_purify": per_draw["purify_s"] * 1e3,
            "ms_classify": per_draw["classify_s"] * 1e3,
            "device": b.groupby("cell")["device"].agg(lambda d: " + ".join(sorted(d.unique()))),
            "peak_bytes": b.groupby("cell")["peak_bytes"].max(),
        }
    )


def describe_row(rows: pd.DataFrame, radii: Sequence[float]) -> dict[str, Any]:
    """Accuracy at the radii with intervals, average certified radius with its interval, abstention."""
    total = len(rows)
    certified = np.where(rows["correct"], rows["radius"], -1.0)
    out: dict[str, Any] = {"images": total}
    for radius in radii:
        hits = int((certified >= radius).sum())
        low, high = wilson_interval(hits, total)
        out |= {f"acc@{radius:g}": hits / total, f"acc_low@{radius:g}": low, f"acc_high@{radius:g}": high}
    gained = np.maximum(certified, 0.0)
    out["acr"] = float(gained.mean())
    out["acr_low"], out["acr_high"] = mean_interval(gained)
    out["abstained"] = float((rows["predicted"] == -1).mean())
    return out


def summarise(runs: Sequence[Run], radii: Sequence[float] | None = None) -> Summary:
    """The summary of one run or several.

    The table has a row for each purifier and sigma, with columns: run, cell, label, purifier, family, sigma, source
    (`counts`, or `imported, radii only`), rule, images, wanted (images asked for), error, `acc@R`, `acc_low@R`,
    `acc_high@R` for every radius R (Wilson, 95 %), acr, acr_low, acr_high (bootstrap, 95 %), abstained, largest
    (radius that the draws could certify), nfe, classifier_rows, ms_noise, ms_purify, ms_classify (per draw),
    counted_draws, device, peak_bytes.
    """
    chosen = tuple(radii or sorted({r for run in runs for r in run.manifest.get("preset", {}).get("radii", ())}))
    chosen = chosen or (0.0, 0.25, 0.5, 0.75, 1.0)
    tables, images = [], []
    cells: dict[tuple[str, str], Cell] = {}
    rules: dict[tuple[str, str], Certifier] = {}
    for run, name in zip(runs, run_names(runs), strict=True):
        certifiers = {key: of_sweep(run.manifest.get("preset", {}), cell.sigma) for key, cell in run.cells.items()}
        table, certified = summarise_run(run, name, certifiers, chosen)
        tables.append(table)
        images.append(certified)
        cells |= {(name, key): cell for key, cell in run.cells.items()}
        rules |= {(name, key): rule for key, rule in certifiers.items()}
    table = (
        pd.concat([t for t in tables if len(t)], ignore_index=True) if any(len(t) for t in tables) else pd.DataFrame()
    )
    kept = [c for c in images if len(c)]
    titles = [run.manifest.get("preset", {}).get("title") or run.folder.name for run in runs]
    everything = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()
    return Summary(" + ".join(titles), table, everything, chosen, tuple(notes(runs, table)), cells, rules)


def run_names(runs: Sequence[Run]) -> list[str]:
    """The folder of each run, numbered where several are called the same."""
    names = [run.folder.name for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def summarise_run(
    run: Run, name: str, rules: Mapping[str, Certifier], radii: Sequence[float]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table and the certificates of one run, by the rule of each cell, imported rows at the end."""
    foreign = {key for key, cell in run.cells.items() if cell.hashes.get("rule", "") != rules[key].identity}
    decided = certificates(run, {key: rule for key, rule in rules.items() if key not in foreign})
    cost = costs(run)
    rows = []
    for key, cell in run.cells.items():
        mine = decided[decided["cell"] == key]
        row: dict[str, Any] = {
            "run": name,
            "cell": key,
            "label": cell.label,
            "purifier": cell.purifier,
            "family": run.manifest.get("families", {}).get(cell.purifier, "other"),
            "sigma": cell.sigma,
            "source": COUNTED,
            "rule": rules[key].rule,
            "wanted": len(run.manifest["labels"]),
            "error": run.errors.get(key) or (FOREIGN_RULE if key in foreign else None),
            "largest": rules[key].largest,
            "images": 0,
        }
        if len(mine):
            row |= describe_row(mine, radii)
        if key in cost.index:
            row |= cost.loc[key].to_dict()
        rows.append(row)
    for (log, sigma), mine in run.published.groupby(["name", "sigma"]) if len(run.published) else ():
        first = mine.iloc[0]
        rows.append(
            {
                "run": name,
                "cell": f"{log}@{sigma:g}",
                "label": log,
                "purifier": log,
                "family": "imported",
                "sigma": sigma,
                "source": IMPORTED,
                "rule": first["rule"],
                "wanted": len(mine),
                "error": None,
                "largest": first["largest"],
                "nfe": first["nfe"],
                **describe_row(mine, radii),
            }
        )
        imported = mine.assign(cell=f"{log}@{sigma:g}", p_lower=np.nan, p_upper=np.nan)
        decided = (
            pd.concat([decided, imported[list(decided.columns)]]) if len(decided) else imported[list(decided.columns)]
        )
    return pd.DataFrame(rows), decided.assign(run=name)
