"""Plan a stored run again for a recount: its data, its networks by hash, its code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.engine import refuse_unsupported
from bench.engine.compute import CLASSIFIER, compute_of
from bench.engine.devices import choose_devices, prepare_device
from bench.executors import describe_cell
from bench.store import Run
from bench.sweep import Pair, Plan, planned, preset_of


def plan_again(run: Run, options: Mapping[str, Any]) -> tuple[Plan, list[Pair], list[str]]:
    """The run planned again for the devices of the recount; raises PurifyBenchError or KeyError if it cannot be."""
    import torch

    kind = next(iter(run.cells.values())).device_type if run.cells else "cpu"
    device = options.get("device") or (kind if kind == "cpu" or torch.cuda.is_available() else "cpu")
    code = {field: options.get(field) for field in ("purifiers", "classifier")}
    networks = {**run.manifest.get("preset", {}).get("networks", {}), **(options.get("networks") or {})}
    replaced = {"workers": options.get("workers"), "data": options.get("data"), "networks": networks or None}
    preset = preset_of(run, code, device=device, **{**replaced, "executor": "local", "address": "local"})
    devices = choose_devices(preset.device, preset.workers)
    prepare_device(devices[0])
    plan, pairs = planned(run, preset, devices[0].split(":")[0])
    for pair in pairs:
        for name in (CLASSIFIER, *preset.networks):
            way = compute_of(pair.current, name)
            refuse_unsupported(way["precision"], way.get("compile", "no"), devices[0])
    return plan, pairs, devices


def data_differences(run: Run, plan: Plan) -> Iterator[str]:
    """Differences of the manifest from the data set: images, labels, class names."""
    stated = {int(image): label for image, label in run.manifest.get("labels", {}).items()}
    title = plan.split.title
    if stated.keys() != plan.labels.keys():
        other = min(stated.keys() ^ plan.labels.keys())
        yield (
            f"the preset certifies {len(plan.images)} images of {title}, and the run has others (image {other}, ...): "
            "images were left out or added"
        )
    wrong = [image for image in sorted(stated.keys() & plan.labels.keys()) if stated[image] != plan.labels[image]]
    if wrong:
        yield (
            f"image {wrong[0]} has the label {plan.labels[wrong[0]]} in {title}, and {stated[wrong[0]]} in the run "
            f"({len(wrong)} such images)"
        )
    if list(run.manifest.get("classes", plan.split.classes)) != list(plan.split.classes):
        yield f"the names of the classes are not those of {title}"


def lacking(run: Run, pair: Pair) -> str:
    """What is missing to count a cell again; empty if nothing is. Cells of earlier versions have other hashes."""
    if not pair.stored.versions:
        return ""
    stored, here = pair.stored.hashes, pair.current.hashes
    differing = [n for n in stored if n.startswith("network ") or n == "classifier weights"]
    differing = [name for name in differing if stored[name] != here.get(name)]
    if not differing:
        return ""
    facts = ", ".join(f"{name} has the hash {stored[name]} in the run and {here.get(name)} here" for name in differing)
    return (
        f"{describe_cell(pair.stored)}: {facts}. Take the weights of revision {run.manifest.get('git')}, or from the "
        "run's authors, and name them (--networks ROLE=FILE)"
    )


def code_differences(pair: Pair) -> list[str]:
    """Names of the parts of the code whose hash or version differs."""
    stored, here = pair.stored, pair.current
    if not stored.versions:
        return ["all of it (an earlier version)"]
    hashes = [name for name in ("purifier", "classifier") if stored.hashes.get(name) != here.hashes.get(name)]
    versions = {**stored.versions, **here.versions}
    return hashes + [name for name in versions if stored.versions.get(name) != here.versions.get(name)]


def of_other_code(run: Run, pairs: Sequence[Pair]) -> str:
    parts = sorted({part for pair in pairs for part in code_differences(pair)})
    return (
        f"{len(pairs)} cells were counted by other code ({', '.join(parts)}) than that of this checkout; revision "
        f"{run.manifest.get('git')} has it"
    )
