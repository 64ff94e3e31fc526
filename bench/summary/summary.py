"""Counts -> certificates -> accuracy with intervals and fronts. Pure: a run in, tables out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bench.certify import SEQUENTIAL, Certifier, of_sweep
from bench.errors import InputError
from bench.records import COUNTED, IMPORTED, Cell
from bench.store import Run
from bench.store.races import race_of
from bench.summary.cells import CERTIFICATE, accuracy_columns, counted_rows, imported_rows
from bench.summary.names import display_names, labels, with_names
from bench.summary.notes import audit_of, different_data, file_notes, notes, untimed

_FACTS = (
    *("run", "cell", "name", "purifier", "parameters", "networks", "classifier", "family", "dataset", "sigma"),
    *("source", "certifier", "sequential", "label_aware", "rule", "images", "wanted", "complete", "raced"),
    "error",
)
_COSTS = (
    *("nfe", "classifier_rows", "ms_noise", "ms_purify", "ms_classify", "ms_joint", "ms_rows", "gflops_purify"),
    *("gflops", "network_parameters", "classifier_parameters", "counted_draws", "device", "peak_bytes"),
)
_RADII = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a run whose preset has none


@dataclass(frozen=True)
class Summary:
    """All figures of a run, or of several.

    Attributes:
        title: of the run.
        table: a row for each purifier and sigma; see `summarise` for its columns.
        certificates: a row for each image of each row of the table, with its run; columns `CERTIFICATE`.
        radii: at which the table reads certified accuracy, L2 in [0,1] pixel units.
        notes: warnings for a reader: failed or incomplete cells, different devices, certifiers that do not compare.
        cells, certifiers: of the rows with counts, by (run, cell).
        evidence: by run, a sentence on the checks of its plugins and on its audit; if one is missing, a note, too.
        remarks: the notes on the files of the runs, which every answer shows.
        untimed: why the milliseconds of the rows do not compare; empty if they do.
    """

    title: str
    table: pd.DataFrame
    certificates: pd.DataFrame
    radii: tuple[float, ...]
    notes: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell] = field(default_factory=dict)
    certifiers: Mapping[tuple[str, str], Certifier] = field(default_factory=dict)
    evidence: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    untimed: str = ""

    @cached_property
    def certified(self) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
        """By (run, cell): images, ascending, and the certified radius of each, -1 if it is wrong or abstained."""
        table = self.certificates
        if table.empty:
            return {}
        radii = np.where(table["correct"].to_numpy(bool), table["radius"].to_numpy(float), -1.0)
        images, by_row = table["image"].to_numpy(), {}
        for key, at in table.groupby(["run", "cell"], sort=False).indices.items():
            at = at[np.argsort(images[at], kind="stable")]
            by_row[key] = images[at], radii[at]
        return by_row

    @cached_property
    def named(self) -> pd.DataFrame:
        """The table with the names that are displayed; `bench.summary.rows.named` gives copies of it."""
        return with_names(self.table)


def summarise(runs: Sequence[Run], radii: Sequence[float] | None = None, alpha: float | None = None) -> Summary:
    """The summary of one run or several.

    The table has a row for each purifier and sigma of each run. Its columns are facts and figures. Facts: run, cell,
    name (display name, unique for the purifier and its parameters), purifier (the plugin's name), parameters (text),
    networks (their roles), classifier, family, dataset, sigma, source (`counts`, or `imported, radii only`), certifier
    (short name), sequential, label_aware, rule (the certifier with its constants), images, wanted (images of the
    sweep), complete (all of them, without an error), raced (it has the draws of a race only, and no figures but the
    accuracy at its radius), error. Figures: `acc@R`, `acc_low@R`, `acc_high@R` for every
    radius R (Wilson, 95 %; NaN if R is beyond `largest`), acr, acr_low, acr_high (bootstrap, 95 %), abstained, largest
    (radius that the draws can certify), nfe, classifier_rows, ms_noise, ms_purify, ms_classify (per draw), ms_joint
    (purifier and classifier), ms_rows (number of rows of the run that do the same work, whose milliseconds are the mean
    over the draws of all of them; 1: its own), gflops_purify (10^9 floating-point operations per purified image: nfe
    times those of one evaluation), gflops (per vote: with those of the classifier), network_parameters (of the
    purifier's networks), classifier_parameters, counted_draws, device, peak_bytes. A failed row has no figures but
    `largest`; FLOPs and parameters are NaN in runs of versions that did not count them.

    Parameters:
        radii: L2, in [0,1] pixel units; without any, those of the presets.
        alpha: probability of error at which counts are read, instead of the preset's.

    Raises:
        ValueError: `alpha` is not between 0 and 1, or a run has a sequential rule, which fixes alpha beforehand.
    """
    presets = [preset_at(run, alpha) for run in runs]
    raced = {race.radius for run in runs if (race := race_of(run.manifest)) is not None}
    chosen = tuple(radii or sorted({r for preset in presets for r in preset.get("radii", ())} | raced)) or _RADII
    rows: list[dict[str, Any]] = []
    images: list[pd.DataFrame] = []
    cells: dict[tuple[str, str], Cell] = {}
    rules: dict[tuple[str, str], Certifier] = {}
    prints = _image_prints([run.manifest.get("pixels", {}) for run in runs])
    for run, name, preset, images_print in zip(runs, run_names(runs), presets, prints, strict=True):
        certifiers = {key: of_sweep(preset, cell.sigma) for key, cell in run.cells.items()}
        for part, certified in (counted_rows(run, name, certifiers, chosen), imported_rows(run, name, chosen)):
            rows += part
            images += [certified.assign(run=name)] if len(certified) else []
        cells |= {(name, k): replace(c, data_hash=images_print or c.data_hash) for k, c in run.cells.items()}
        rules |= {(name, key): rule for key, rule in certifiers.items()}
    titles = dict.fromkeys(
        preset.get("title") or run.folder.name
        for run, preset in zip(runs, presets, strict=True)
        if len(runs) == 1 or run.cells or len(run.published)
    )
    table = _table_of(rows, chosen, list(cells.values()))
    everything = pd.concat(images, ignore_index=True) if images else pd.DataFrame(columns=[*CERTIFICATE, "run"])
    evidence = {name: text for name, run in zip(run_names(runs), runs, strict=True) if (text := audit_of(run)[0])}
    apart = different_data(table, list(cells.values()), any(prints))
    times = untimed(dict(zip(run_names(runs), runs, strict=True)), table)
    title = " + ".join(titles) + (" [of different images: never compare them]" if apart else "")
    return Summary(
        title,
        table,
        everything,
        chosen,
        (*([apart] if apart else []), *notes(runs, table, times)),
        cells,
        rules,
        evidence,
        tuple(file_notes(runs)),
        times,
    )


def _image_prints(pixels: Sequence[Mapping[str, str]]) -> list[str]:
    """For each run a fingerprint of its images if another run has other pixels for one of them; otherwise empty.

    Parameters:
        pixels: image -> hash of its pixels, of each run; empty in runs of earlier versions.
    """
    prints = []
    for own in pixels:
        differs = any(own[image] != other[image] for other in pixels for image in own.keys() & other.keys())
        prints.append(hashlib.sha256(repr(sorted(own.items())).encode()).hexdigest()[:16] if differs else "")
    return prints


def preset_at(run: Run, alpha: float | None) -> Mapping[str, Any]:
    """The preset of a run, with another `alpha` if one is given.

    Raises:
        ValueError: as `summarise`.
    """
    preset = run.manifest.get("preset", {})
    if alpha is None or not run.cells:
        return preset
    if not 0 < alpha < 1:
        raise InputError(f"alpha must be between 0 and 1, got {alpha:g}")
    if preset.get("certifier") in SEQUENTIAL and alpha != preset.get("alpha"):
        raise InputError(
            f"{run.folder.name} was counted by the sequential rule {preset['certifier']!r}, which fixes alpha before "
            f"the first draw ({preset.get('alpha')}), so its counts cannot be read at alpha = {alpha:g}; certify with "
            "`bench run --certifier anytime`, or another rule of fixed N, to choose alpha afterwards"
        )
    return {**preset, "alpha": alpha}


def run_names(runs: Sequence[Run]) -> list[str]:
    """The folder's name of each run, numbered if several are equal."""
    names = [run.folder.name for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _table_of(rows: Sequence[Mapping[str, Any]], radii: Sequence[float], cells: Sequence[Cell]) -> pd.DataFrame:
    """The table of a summary from the facts and figures of its rows: all columns, with `name` and `complete` added.

    Parameters:
        rows: without these two columns, and without the figures that are not known.
        cells: of the rows with counts.
    """
    families = {row["purifier"]: row["family"] for row in rows if row["source"] == COUNTED}
    names = display_names(cells, families)
    figures = [*(c for radius in radii for c in accuracy_columns(radius)), "acr", "acr_low", "acr_high", "abstained"]
    table = pd.DataFrame(rows, columns=[*_FACTS, *figures, "largest", *_COSTS])
    imported = table["source"] == IMPORTED
    table["name"] = (table["purifier"] + " (imported)").where(imported, labels(table).map(names))
    table["raced"] = table["raced"].eq(True)
    table["complete"] = table["error"].isna() & (table["images"] > 0) & (table["images"] >= table["wanted"])
    table["complete"] &= ~table["raced"]
    return table
