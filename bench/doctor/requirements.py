"""The data, classifier and networks that a preset needs: present, to be downloaded or by hand; and their memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import data
from bench.data.files import table_of
from bench.files import machine_memory
from bench.sweep import Preset
from bench.sweep.resolved import Resolved, text_of

_PROCESS = 800_000_000  # bytes of a worker without weights, measured: Python with torch and diffusers


@dataclass(frozen=True)
class Need:
    """A file or a group of files that a preset needs.

    Attributes:
        name: such as `network ddpm`.
        present: whether it is on this machine.
        size: bytes of the files or of the download; None if unknown.
        by_hand: the step that the user must take; empty if nothing is missing or a run downloads it.
    """

    name: str
    present: bool
    size: int | None = None
    by_hand: str = ""


def needs(preset: Preset, resolved: Resolved) -> Iterator[Need]:
    """Everything that a preset needs; looks for files, and neither loads nor downloads anything."""
    yield _data_need(preset)
    for text, classifier in resolved.by_text.items():
        yield _classifier_need(classifier, text if text != text_of(resolved.classifier) else "")
    for role in sorted({role for purifier in resolved.purifiers for role in purifier.networks}):
        yield _network_need(role, preset.networks[role])


def _data_need(preset: Preset) -> Need:
    name, place = f"data {preset.dataset}", data.where(preset.dataset, preset.data)
    if preset.dataset == "mnist5k":
        return Need(name, True, 0)
    if place is not None:
        problem = "" if place.exists() else f"at {place}"
        if preset.dataset in data.REPOSITORIES:
            try:
                table_of(place, "test")
            except data.DataError as error:
                problem = str(error)
        return Need(name, not problem, by_hand=problem)
    if preset.dataset not in data.REPOSITORIES:
        return Need(name, False, None, f"at {data.by_hand(preset.dataset)}, or by --data")
    if kept := data.cached(preset.dataset):
        return Need(name, True, _total_bytes(kept))
    by_hand = "" if data.installed() else f"by `{data.EXTRA}`, and then a download"
    return Need(name, False, data.REPOSITORIES[preset.dataset].size, by_hand)


def _classifier_need(classifier: Any, text: str) -> Need:
    """The need of a classifier; `text` names one that single purifiers have."""
    from classifiers.base import ClassifierError

    name = f"classifier {text or classifier.name}"
    try:
        files = classifier.files(download=False)
    except ClassifierError as error:
        return Need(name, False, error.size, "" if error.size else str(error))
    return Need(name, True, _total_bytes(files))


def _network_need(role: str, network: str) -> Need:
    from purifiers.nets.hub.sources import find

    source, name = find(network), f"network {role}"
    if source.present:
        return Need(name, True, _total_bytes(source.files()))
    megabytes = source.known and source.known.megabytes
    return Need(name, False, megabytes * 10**6 if megabytes else None)


def _total_bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def describe(needs: Sequence[Need]) -> str:
    """Parts to be fetched by hand, present parts, and downloads with their sizes; `ready` if all are present."""
    present = [need.name for need in needs if need.present]
    downloads = [need for need in needs if not need.present and not need.by_hand]
    by_hand = [f"{need.name} {need.by_hand}" for need in needs if not need.present and need.by_hand]
    parts = []
    if len(present) == len(needs):
        return "ready"
    if by_hand:
        parts.append("not ready, by hand: " + ", ".join(by_hand))
    if present:
        parts.append(f"here: {', '.join(present)}")
    if downloads:
        each = ", ".join(f"{need.name} ({megabytes(need.size)})" for need in downloads)
        parts.append(f"would be downloaded: {each}; together about {megabytes(sum(n.size or 0 for n in downloads))}")
    return "; ".join(parts)


def megabytes(size: int | None) -> str:
    """A number of bytes as MB or GB."""
    return "size unknown" if size is None else f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def fits(needs: Sequence[Need], devices: Sequence[str]) -> str:
    """Whether the weights of all workers fit into memory, and the number of workers to use if not.

    Batches are left out: the engine halves a batch that does not fit.
    """
    weights = weights_of(needs)
    if devices[0].startswith("cuda"):
        import torch

        workers = max(devices.count(device) for device in devices)  # on one GPU
        each, memory = weights, torch.cuda.get_device_properties(devices[0]).total_memory
        place = torch.cuda.get_device_name(devices[0])
    else:
        workers, each, memory, place = len(devices), weights + _PROCESS, machine_memory(), "memory"
    of = f"the {megabytes(memory)} of {place}"
    if workers * each < memory:
        return f"{workers} workers of about {megabytes(each)} fit into {of}"
    most = memory // each
    remedy = f"give --workers {most * len(devices) // workers}" if most else "it needs a larger device"
    return f"{workers} workers of about {megabytes(each)} do not fit into {of}: {remedy}"


def weights_of(needs: Sequence[Need]) -> int:
    """Bytes of all weights."""
    return sum(need.size or 0 for need in needs if not need.name.startswith("data "))
