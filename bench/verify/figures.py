"""Check that the files of a results folder follow from its counts. Loads no torch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis import markup
from bench.analysis import tables as paper
from bench.certify import of_sweep
from bench.errors import InputError
from bench.files import MOST_TEXT, open_file, parse_json, read_text
from bench.published import read_figures
from bench.report import render
from bench.store import Run, attacks, checksums, quality, read_examples
from bench.store.database import StoreError
from bench.summary import Summary, summarise
from bench.summary.cells import accuracy_columns
from bench.verify.facts import blocks_without_sense, contradictions

SUMMARY, REPORT, TABLES = "summary.csv", "report.html", "tables"
_ROW = ["cell", "purifier", "sigma"]
_EXACT, _TIMES = 1e-6, 1e-4  # relative; exports store seconds as float32, and cells add up thousands of them
_MOST_NAMED = 3  # differences of a file that are named one by one
_DATA = ('<script type="application/json" id="record">', "</script>")


@dataclass
class Findings:
    """The result of a check; fields as in `Verification`.

    Attributes:
        readable: whether the run's rule can read its counts.
    """

    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    readable: bool = True

    def add(self, file: str, problems: list[str], count: str) -> None:
        """Note the differences of a file, or that it follows from the counts."""
        self.problems += [f"{file}: {line}" for line in problems[:_MOST_NAMED]]
        if len(problems) > _MOST_NAMED:
            self.problems.append(f"{file}: {len(problems) - _MOST_NAMED} more")
        if not problems:
            self.checked.append(f"{file} ({count})")


def check_figures(run: Run) -> Findings:
    """Check manifest, cells and blocks for contradictions, and every figure of the folder against the counts."""
    found = Findings()
    _check_list(run.folder, found)
    try:
        summary = summarise([run])
    except InputError as error:
        found.problems += [*blocks_without_sense(run), f"no certificate follows from the counts: {error}"]
        found.readable = False
        return found
    if run.manifest:  # a folder of imported logs has none
        found.add("manifest and counts", list(contradictions(run, summary)), f"{len(run.blocks):,} blocks")
    if run.manifest and "ended" not in run.manifest:
        found.missing.append(
            f"the run has not ended ({int(summary.table['complete'].sum())} of {len(summary.table)} rows are complete);"
            " the same `bench run` command continues it"
        )
    folder = run.folder
    if (path := folder / SUMMARY).is_file():
        _check_summary(path, summary, found)
    else:
        found.notes.append(f"there is no {SUMMARY}")
    for path in sorted((folder / TABLES).glob("table-*.*")):
        _check_table(path, summary, found)
    if (path := folder / REPORT).is_file():
        _check_report(path, run, summary, found)
    if len(run.published):
        found.notes.append("imported logs (published.csv) hold no counts; nothing about them can be checked")
    found.notes += _not_covered(folder)
    return found


def _check_list(folder: Path, found: Findings) -> None:
    """Compare every file with the list of the folder."""
    if not (folder / checksums.SUMS).is_file():
        found.notes.append(f"there is no {checksums.SUMS}; `bench checksums` lists the files as they are")
        return
    try:
        problems, unlisted = checksums.differences(folder)
    except StoreError as error:
        found.problems.append(str(error))
        return
    found.problems += problems
    if not problems:
        found.notes.append(f"every file of {checksums.SUMS} is as it was listed; a checksum is no signature")
    if unlisted:
        found.notes.append(f"{len(unlisted)} files are not in {checksums.SUMS}: {', '.join(unlisted[:_MOST_NAMED])}")


def _not_covered(folder: Path) -> Iterator[str]:
    drawn = [path.name for path in sorted(folder.iterdir()) if path.suffix in (".png", ".svg", ".pdf", ".npz")]
    if drawn:
        yield f"pictures are not checked ({len(drawn)} files); `bench plot` draws them again from the counts"
    for name, again in (("metrics.json", "bench metrics"), (attacks.FILE, "bench attack")):
        if (folder / name).is_file():
            yield f"{name} is not checked; `{again}` measures it again"
    yield "times, memory, FLOPs and the devices' names are as the run states them; nobody can count them again"


def _check_summary(path: Path, summary: Summary, found: Findings) -> None:
    """Compare `summary.csv` with the summary, in the columns that both have."""
    try:
        with open_file(path, MOST_TEXT) as file:
            stated = pd.read_csv(file, dtype={"cell": str}, float_precision="round_trip").set_index(_ROW)
    except (OSError, ValueError, KeyError) as error:
        found.problems.append(f"{SUMMARY}: it cannot be read ({error})")
        return
    computed = _as_csv(summary.table).set_index(_ROW)
    problems: list[str] = []
    shared = [name for name in computed.columns.intersection(stated.columns) if name != "run"]
    if list(stated.index) != list(computed.index):
        problems.append(f"it has {len(stated)} rows, the counts give {len(computed)}, or others")
    else:
        _forgive_earlier_zeros(stated, computed, found)
        for name in shared:
            for key, a, b in zip(computed.index, stated[name], computed[name], strict=True):
                if not _equal(name, a, b):
                    problems.append(f"{key[1]} at sigma = {key[2]:g}: {name} is {a}, the counts give {b}")
        if unknown := sorted(set(stated.columns) - set(computed.columns)):
            found.notes.append(f"{SUMMARY} has columns of another version, not checked: {', '.join(unknown)}")
    found.add(SUMMARY, problems, f"{len(shared) * len(computed):,} figures")


def _forgive_earlier_zeros(stated: pd.DataFrame, computed: pd.DataFrame, found: Findings) -> None:
    """Empty the accuracies of 0 that earlier versions wrote for radii that the draws cannot certify."""
    beyond = 0
    for name in [name for name in computed if name.startswith("acc@") and name in stated]:
        columns = list(accuracy_columns(float(name.removeprefix("acc@"))))
        zero = (computed[name].isna() & (stated[name] == 0)).to_numpy()
        stated.loc[zero, [column for column in columns if column in stated]] = np.nan
        beyond += int(zero.sum())
    if beyond:
        found.notes.append(
            f"{SUMMARY} has {beyond} accuracies of 0 at radii that the draws cannot certify; they are unknown, and "
            "this version leaves them empty"
        )


def _as_csv(table: pd.DataFrame) -> pd.DataFrame:
    """A table as a reader of its CSV file gets it."""
    text = table.to_csv(index=False)
    return pd.read_csv(io.StringIO(text), dtype={"cell": str}, float_precision="round_trip")


def _equal(name: str, a: Any, b: Any) -> bool:
    """Whether two values of a column are equal, within the rounding of exports."""
    if pd.isna(a) and pd.isna(b):
        return True
    try:
        tolerance = _TIMES if name.startswith("ms_") else _EXACT
        return bool(np.isclose(float(a), float(b), rtol=tolerance, atol=1e-9))
    except (TypeError, ValueError):
        return str(a) == str(b)


def _check_table(path: Path, summary: Summary, found: Findings) -> None:
    """Compare a table of `bench tables` with the one that the counts give."""
    name, ending = path.stem.removeprefix("table-"), path.suffix[1:]
    place = f"{TABLES}/{path.name}"
    made = {table.name: table for table in paper.tables(summary)} if ending in ("md", "tex") else {}
    if name not in made:
        found.notes.append(f"{place} is no table of this run, and is not checked")
    elif read_text(path, "replace") == markup.text_of(made[name], ending):
        found.checked.append(place)
    else:
        found.problems.append(
            f"{place} is not what the counts give; if another version, alpha or several runs made it, "
            "`bench tables` writes it again"
        )


def _check_report(path: Path, run: Run, summary: Summary, found: Findings) -> None:
    """Compare a report with the one that the counts give: the whole page, or else the figures of its charts."""
    text = read_text(path, "replace")
    stated = _record_in(text)
    if stated is not None and {row.get("run") for row in stated.get("rows", ())} - set(summary.table["run"]):
        found.notes.append(f"{REPORT} is about other runs, too, and is not checked")
        return
    folders = {run.folder.name: run.folder}
    examples = read_examples(run.folder)
    shown = {run.folder.name: examples} if examples else {}
    measured = quality.metrics_of(folders), attacks.attacks_of(folders)
    expected = render(summary, {run.folder.name: run.manifest}, shown, *measured)
    quoting = render(summary, {run.folder.name: run.manifest}, shown, *measured, read_figures())
    if text in (expected, quoting):
        found.checked.append(f"{REPORT} (the whole page)")
        return
    if stated is None:
        found.problems.append(f"{REPORT}: its figures cannot be read")
        return
    computed = _record_in(expected) or {}
    differing = [name for name in computed if not _alike(stated.get(name), computed[name])]
    found.add(REPORT, [f"the figures of its charts ({name}) are not those of the counts" for name in differing], "data")
    if not differing:
        found.notes.append(
            f"the charts of {REPORT} follow from the counts, but its text is not what this version writes; "
            "`bench report` writes the page again"
        )


def _record_in(page: str) -> dict[str, Any] | None:
    """The figures that the charts of a report read; None if there are none."""
    begin, end = _DATA
    try:
        record = parse_json(page.partition(begin)[2].partition(end)[0])
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _alike(a: Any, b: Any) -> bool:
    """Whether two values of JSON are equal, numbers within the rounding of exports."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(a, float) or isinstance(b, float):
        return _equal("ms_", a, b)
    return bool(a == b)


def claim_of(run: Run) -> str:
    """The facts under which a run's figures hold, in a sentence, so that a reader compares them with a paper's."""
    preset = run.manifest.get("preset", {})
    sigmas = sorted({cell.sigma for cell in run.cells.values()})
    rules = dict.fromkeys(of_sweep(preset, sigma).rule for sigma in sigmas)
    return (
        f"{len(run.manifest.get('labels', ()))} {preset.get('split', 'test')} images of "
        f"{run.manifest.get('data') or preset.get('dataset')}, {len(run.cells)} cells, "
        f"sigma {', '.join(f'{sigma:g}' for sigma in sigmas)}, {'; '.join(rules)}, seed {preset.get('seed', 0)}, "
        f"{preset.get('precision', 'fp32')}, L2"
    )
