"""What a reader must know before trusting a table: failures, gaps, and what was not measured alike. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd

from bench.records import IMPORTED
from bench.store.run import Run
from bench.summary.leaks import leak_notes


def notes(runs: Sequence[Run], table: pd.DataFrame) -> list[str]:
    """What a reader must know before trusting the table."""
    said = []
    if table.empty:
        return ["nothing is certified yet"]
    failed = table[table["error"].notna()]
    if len(failed):
        said.append(f"{len(failed)} of {len(table)} cells failed: {', '.join(sorted(set(failed['label'])))}")
    partial = table[(table["images"] < table["wanted"]) & table["error"].isna()]
    if len(partial):
        biased = "; a sequential rule decides easy images first, so these figures are biased"
        sequential = partial["rule"].str.startswith("sequential").any()
        said.append(
            f"incomplete: {len(partial)} of {len(table)} cells have fewer images than were asked for"
            + (biased if sequential else "")
        )
    if "device" in table and table["device"].dropna().nunique() > 1:
        said.append(f"measured on different devices: {'; '.join(sorted(set(table['device'].dropna())))}")
    for run in runs:
        said += [*session_notes(run), *leak_notes(run)]
        stale = set(run.blocks["cell"].unique()) - set(run.cells)
        if stale:
            said.append(f"{run.folder.name}: {len(stale)} cells of other sweeps or earlier code are kept but not shown")
    if len(runs) > 1 and (differing := versions([run.manifest for run in runs])):
        said.append(f"the runs were counted with {differing}")
    said += acr_notes(table)
    if (table["source"] == IMPORTED).any():
        said.append("imported rows come from published logs: radii only, cost not measured here")
    return said


def session_notes(run: Run) -> list[str]:
    """What changed between the parts of a run that was continued, and GPUs that several processes shared."""
    said, name = [], run.folder.name
    parts = run.manifest.get("sessions") or [run.manifest]
    for what, facts in (("code revisions", "git"), ("Python versions", "python")):
        values = {json.dumps(part.get(facts), sort_keys=True) for part in parts}
        if len(values) > 1:
            said.append(f"{name}: counted with {len(values)} different {what}; the manifest lists them")
    if differing := versions(parts):
        said.append(f"{name}: counted in parts with {differing}")
    shared = [Counter(device for device in part.get("devices") or () if device.startswith("cuda")) for part in parts]
    most = max((count for devices in shared for count in devices.values()), default=1)
    if most > 1:
        said.append(f"{name}: up to {most} processes shared a GPU, so milliseconds hold waiting for it")
    return said


def versions(parts: Sequence[Mapping[str, Any]]) -> str:
    """The libraries that parts of a run, or runs, differ in: `torch 2.11.0 and 2.12.0`; empty where in none."""
    libraries = [part.get("libraries") or {} for part in parts]
    found = {
        name: dict.fromkeys(str(known[name]) for known in libraries if name in known) for name in chain(*libraries)
    }
    return ", ".join(f"{name} {' and '.join(values)}" for name, values in found.items() if len(values) > 1)


def rule_name(rule: str) -> str:
    """A rule without its constants."""
    return rule.split(" (")[0]


def rules_of(table: pd.DataFrame) -> list[str]:
    """The rules that made the rows, with their constants: those of counts, of published logs where there are none."""
    counted = table[table["source"] != IMPORTED]
    return sorted(set((counted if len(counted) else table)["rule"].dropna()))


def acr_notes(table: pd.DataFrame) -> list[str]:
    """What the rules' ways of stopping mean for average certified radii and for abstention."""
    rules = rules_of(table)
    on_grid = sorted({rule_name(r) for r in rules if r.startswith("sequential")} - {"sequential acr"})
    said = []
    if on_grid:
        said.append(f"the ACR of {' and '.join(on_grid)} counts radii of the decided grid only, and so is lower")
    if len(rules) > 1:
        said.append(f"rows have different certifiers: never compare their ACRs ({'; '.join(rules)})")
    if any("label-aware" in rule for rule in rules):
        said.append("label-aware: images whose selected class is wrong were not drawn on, and count as abstained")
    return said
