"""Notes of a summary: failures, gaps, memory leaks, and rows that were not measured alike. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd

from bench.records import IMPORTED, Cell
from bench.store import Run
from bench.summary.format import listed
from bench.summary.trust import audit_text

_FEW = 0.1  # of a run's blocks
_WAITED = 0.1  # share of a session's time; the driver and the workers of a run wait a little for one another, too


def untimed(runs: Mapping[str, Run], table: pd.DataFrame) -> str:
    """Why the milliseconds of the rows do not compare; empty if they do, as far as the runs record it.

    Parameters:
        runs: by name.
    """
    for name, run in runs.items():
        sessions = _that_counted(run)
        on_cpu = [s for s in sessions if not any(d.startswith("cuda") for d in s.get("devices") or ())]
        if (waited := max((session.get("waited") or 0 for session in on_cpu), default=0)) > _WAITED:
            whose = "its" if len(sessions) == 1 else "a session of its"
            return f"for {waited:.0%} of {whose} time {name} waited for processors that other programs used"
        if any(session.get("waited") is None for session in on_cpu):
            if len(sessions) > 1:
                return f"{name} was counted in {len(sessions)} sessions, whose loads are not known"
            told = [session.get("waited") is not None for session in run.manifest.get("sessions") or ()]
            if any(told):  # the kernel of this machine tells the load
                return f"{name} was counted in a session that was stopped before it recorded the load of the machine"
    devices = sorted(set(table["device"].dropna())) if len(table) else []
    return f"measured on different devices: {'; '.join(devices)}" if len(devices) > 1 else ""


def _that_counted(run: Run) -> list[Mapping[str, Any]]:
    """The sessions of a run that made a tenth of its blocks or more: a short one moves no mean."""
    sessions: list[Mapping[str, Any]] = run.manifest.get("sessions") or [{}]
    total = len(run.blocks)
    begun = [int(session["blocks"]) for session in sessions if session.get("blocks") is not None]
    if len(begun) < len(sessions):
        return sessions
    ended = [*begun[1:], total]
    return [s for s, first, last in zip(sessions, begun, ended, strict=True) if last - first >= _FEW * total]


def notes(runs: Sequence[Run], table: pd.DataFrame, apart: str = "") -> list[str]:
    """The notes of a summary's table; `apart`: why its milliseconds do not compare."""
    if table.empty:
        return ["nothing is certified yet"]
    lines = []
    failed, partial, biased = unfinished(table)
    if len(failed):
        lines.append(f"{len(failed)} of {len(table)} cells failed: {', '.join(sorted(set(failed['name'])))}")
    if len(raced := partial[partial["raced"]]):
        lines.append(
            f"{len(raced)} of {len(table)} cells have the draws of a race only: their figures are of the images that "
            "raced, at its radius; `bench run PRESET --out FOLDER` completes them"
        )
    if len(partial := partial[~partial["raced"]]):
        fewer = f"{len(partial)} of {len(table)} cells have fewer images than were asked for"
        lines.append("; ".join(filter(None, (f"incomplete: {fewer}", biased))))
    if apart:
        lines.append(f"milliseconds do not compare: {apart}")
    lines += [f"{run.folder.name}: {text}" for run in runs for text, sound in [audit_of(run)] if text and not sound]
    lines += file_notes(runs)
    for run in runs:
        lines += [*_session_notes(run), *_leak_notes(run)]
        if stale := set(run.blocks["cell"].unique()) - set(run.cells):
            lines.append(f"{run.folder.name}: kept but not shown, cells of other sweeps or earlier code: {len(stale)}")
    if len(runs) > 1 and (differing := _versions([run.manifest for run in runs])):
        lines.append(f"the runs were counted with {differing}")
    lines += _acr_notes(table)
    if (table["source"] == IMPORTED).any():
        lines.append("imported rows come from published logs: radii only, cost not measured here")
    return lines


def different_data(table: pd.DataFrame, cells: Sequence[Cell], pixels: bool) -> str:
    """A note if the rows of a table are of different images, so that no two figures compare; empty otherwise.

    Parameters:
        cells: of the rows with counts.
        pixels: runs have other pixels for the same image.
    """
    names = {f"{c.dataset} {c.split}".removesuffix(" test").strip() for c in cells}
    names |= {name or "an unknown data set" for name in table.loc[table["source"] == IMPORTED, "dataset"]}
    if len(names) <= 1 and not pixels:
        return ""
    which = listed(sorted(names), 10) if len(names) > 1 else f"{min(names)} with other pixels"
    return f"rows are of different images ({which}): no figure compares with one of other images"


def file_notes(runs: Sequence[Run]) -> list[str]:
    """What a reader should know about the files of some runs: no checksum vouches for some, or one is missing."""
    return [f"{run.folder.name}: {remark}" for run in runs for remark in run.remarks]


def audit_of(run: Run) -> tuple[str, bool]:
    """The sentence of `audit_text` on the cells of a run that did not fail; empty if there are none."""
    cells = [key for key in run.cells if key not in run.errors]
    return audit_text(run.manifest, cells) if cells else ("", True)


def shared_times(rows: pd.DataFrame) -> str:
    """How to read the milliseconds of rows that share them; empty if none do.

    Parameters:
        rows: of a summary's table.
    """
    sharing = rows[rows["ms_rows"] > 1]
    if sharing.empty:
        return ""
    groups = [part["name"].unique() for _, part in sharing.groupby(["run", "ms_purify"], sort=False)]
    alike = dict.fromkeys(listed(names, 6) for names in groups if len(names) > 1)
    return (
        "Milliseconds are means over all rows that do the same work, that is the same operations on networks of one "
        f"architecture, whatever the weights and σ{': ' if alike else ''}{'; '.join(alike)}."
    )


def unfinished(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The failed rows, the incomplete ones, and a remark on the figures of the latter; empty if they are fair."""
    failed = table["error"].notna()
    partial = table[~failed & ~table["complete"]]
    biased = "a sequential rule decides easy images first, so these figures are biased"
    return table[failed], partial, biased if partial.loc[~partial["raced"], "sequential"].any() else ""


def _session_notes(run: Run) -> list[str]:
    """Differences between the sessions of a run that was continued, and GPUs that several processes shared."""
    lines, name = [], run.folder.name
    sessions = run.manifest.get("sessions") or [run.manifest]
    for kind, field in (("code revisions", "git"), ("Python versions", "python")):
        values = {json.dumps(session.get(field), sort_keys=True) for session in sessions}
        if len(values) > 1:
            lines.append(f"{name}: counted with {len(values)} different {kind}; the manifest lists them")
    if differing := _versions(sessions):
        lines.append(f"{name}: counted in parts with {differing}")
    shared = [Counter(d for d in session.get("devices") or () if d.startswith("cuda")) for session in sessions]
    most = max((count for devices in shared for count in devices.values()), default=1)
    if most > 1:
        lines.append(f"{name}: up to {most} processes shared a GPU, so milliseconds hold waiting for it")
    return lines


def _versions(parts: Sequence[Mapping[str, Any]]) -> str:
    """Libraries whose versions differ between sessions, or runs: `torch 2.11.0 and 2.12.0`; empty if none does."""
    libraries = [part.get("libraries") or {} for part in parts]
    by_library = {
        name: dict.fromkeys(str(versions[name]) for versions in libraries if name in versions)
        for name in chain(*libraries)
    }
    return ", ".join(f"{name} {' and '.join(values)}" for name, values in by_library.items() if len(values) > 1)


def certifier_names(table: pd.DataFrame) -> list[str]:
    """The certifiers of rows without their constants: `cohen`, `sequential tight`."""
    pairs = zip(table["certifier"], table["sequential"], strict=True)
    return sorted({f"sequential {name}" if sequential else name for name, sequential in pairs})


def preferring_counts(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with counts; all rows if there are only published logs."""
    counted = table[table["source"] != IMPORTED]
    return counted if len(counted) else table


def rules_of(table: pd.DataFrame) -> list[str]:
    """The rules of `preferring_counts`, with their constants."""
    return sorted(set(preferring_counts(table)["rule"].dropna()))


def _acr_notes(table: pd.DataFrame) -> list[str]:
    """Effects of the certifiers on average certified radii and on abstention."""
    lines = []
    if on_grid := certifier_names(table[table["sequential"] & (table["certifier"] != "acr")]):
        lines.append(f"the ACR of {' and '.join(on_grid)} counts radii of the decided grid only, and so is lower")
    if len(rules := rules_of(table)) > 1:
        lines.append(f"rows have different certifiers: never compare their ACRs ({'; '.join(rules)})")
    if table["label_aware"].any():
        lines.append("label-aware: images whose selected class is wrong were not drawn on, and count as abstained")
    return lines


def _leak_notes(run: Run) -> Iterator[str]:
    """The purifiers whose memory kept growing within one process, each with its growth."""
    for key, (low, high) in (run.manifest.get("trust") or {}).get("memory", {}).items():
        if (cell := run.cells.get(key)) is not None:
            yield (
                f"{run.folder.name}: memory kept growing while {cell.label} at sigma = {cell.sigma:g} was counted, "
                f"from {low / 2**30:.1f} to {high / 2**30:.1f} GiB: it may leak, and end a long run; the same command "
                "continues it"
            )
