"""What a preset needs: what is here, what would be downloaded, whether it fits, how long it would take."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import data
from bench.certify import rules
from bench.sweep.preset import Preset

# What users of diffusion_denoised_smoothing report (its issue 1): draws per second of one evaluation of a network of 50
# million parameters at 32x32 and of ViT-B/16 at 224, on one A100. Of other sizes of images nothing is stated.
STATED = 825.0
STATED_WHERE = f"stated: {STATED:g} draws/s of one evaluation and ViT-B/16 on one A100, its users say"
STATED_FOR = ("cifar10", "cifar10-jpeg", "cifar100")
SAMPLE = 32  # draws that are measured of each purifier
QUICK = 100_000_000  # bytes of weights beyond which a CPU would take minutes for them
PROCESS = 800_000_000  # bytes of a worker before it has weights, as measured: Python with torch and diffusers
_measured: dict[str, float] = {}  # seconds per draw: presets share cells


@dataclass(frozen=True)
class Need:
    """Something that a preset needs.

    Attributes:
        what: such as `network ddpm`.
        present: whether it is here.
        size: bytes, of what is here or of the download; None where unknown.
        where: what to do by hand where no download can help; empty otherwise.
    """

    what: str
    present: bool
    size: int | None = None
    where: str = ""


def needs(preset: Preset, purifiers: Sequence[Any], classifier: Any) -> Iterator[Need]:
    """Everything that a preset needs; looks at files, and neither loads nor downloads anything."""
    yield data_need(preset)
    yield classifier_need(classifier)
    for role in sorted({role for purifier in purifiers for role in purifier.networks}):
        yield network_need(role, preset.networks[role])


def data_need(preset: Preset) -> Need:
    name, place = f"data {preset.dataset}", data.where(preset.dataset, preset.data)
    if preset.dataset == "mnist5k":
        return Need(name, True, 0)
    if place is not None:
        return Need(name, place.exists(), None, "" if place.exists() else f"at {place}")
    if preset.dataset not in data.REPOSITORIES:
        return Need(name, False, None, f"at {data.by_hand(preset.dataset)}, or by --data")
    if kept := data.cached(preset.dataset):
        return Need(name, True, sum(file.stat().st_size for file in kept))
    where = "" if data.installed() else f"by `{data.EXTRA}`, and then a download"
    return Need(name, False, data.REPOSITORIES[preset.dataset].size, where)


def classifier_need(classifier: Any) -> Need:
    from classifiers.base import ClassifierError

    name = f"classifier {classifier.name}"
    try:
        files = classifier.files(download=False)
    except ClassifierError as error:
        return Need(name, False, error.size, "" if error.size else str(error))
    return Need(name, True, sum(file.stat().st_size for file in files))


def network_need(role: str, network: str) -> Need:
    from purifiers.nets.hub.sources import find

    source, name = find(network), f"network {role}"
    if source.present:
        return Need(name, True, sum(file.stat().st_size for file in source.files()))
    megabytes = source.known.megabytes if source.known else None
    return Need(name, False, megabytes * 10**6 if megabytes else None)


def describe(found: Sequence[Need]) -> str:
    """What is here, what would be downloaded and how much it is, what is to be had by hand."""
    parts = []
    here = [need.what for need in found if need.present]
    absent = [need for need in found if not need.present]
    fetched, by_hand = [n for n in absent if not n.where], [n for n in absent if n.where]
    if not absent:
        return "ready"
    if here:
        parts.append(f"here: {', '.join(here)}")
    if fetched:
        each = ", ".join(f"{n.what} ({megabytes(n.size)})" for n in fetched)
        total = sum(n.size or 0 for n in fetched)
        parts.append(f"would be downloaded: {each}; together about {megabytes(total)}")
    if by_hand:
        parts.append("by hand: " + ", ".join(f"{n.what} {n.where}" for n in by_hand))
    return "; ".join(parts)


def megabytes(size: int | None) -> str:
    return "size unknown" if size is None else f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def draws(preset: Preset) -> int:
    """Draws of one purifier at one sigma; the most there can be, where the rule stops early."""
    certifier: Any = rules.of_sweep(preset.model_dump(), preset.sigmas[0])
    most = certifier.constants.n_max if preset.certifier in rules.SEQUENTIAL else preset.n
    return preset.images * (preset.n0 + most)


def fits(found: Sequence[Need], devices: Sequence[str]) -> str:
    """Whether the weights of all workers fit into memory, or how many workers' do; batches are halved to fit."""
    weights = weights_of(found)
    if devices[0].startswith("cuda"):
        import torch

        workers = max(devices.count(device) for device in devices)  # that share a GPU
        each, memory = weights, torch.cuda.get_device_properties(devices[0]).total_memory
        where = torch.cuda.get_device_name(devices[0])
    else:
        workers, each, memory, where = len(devices), weights + PROCESS, memory_here(), "memory"
    of = f"the {megabytes(memory)} of {where}"
    if workers * each < memory:
        return f"{workers} workers of about {megabytes(each)} fit into {of}"
    most = memory // each
    remedy = f"give --workers {most * len(devices) // workers}" if most else "it needs a larger device"
    return f"{workers} workers of about {megabytes(each)} do not fit into {of}: {remedy}"


def weights_of(found: Sequence[Need]) -> int:
    """Bytes of all weights."""
    return sum(need.size or 0 for need in found if not need.what.startswith("data "))


def memory_here() -> int:
    """Bytes of memory that this process may use: the machine's, within a container's limit."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return whole if limit == "max" else min(whole, int(limit))
    except (OSError, ValueError):
        return whole


def duration(preset: Preset, purifiers: Sequence[Any], found: Sequence[Need], devices: Sequence[str]) -> str:
    """How long the sweep would take: by a small measurement where all is here, by a stated rate otherwise.

    Networks that are large for a CPU are not measured there.
    """
    count = draws(preset)
    total = f"{count * len(preset.sigmas) * len(purifiers):,} draws"
    bound = "at most " if preset.certifier in rules.SEQUENTIAL else "about "
    quick = devices[0].startswith("cuda") or weights_of(found) < QUICK
    if quick and all(need.present for need in found):
        seconds = sum(measure(preset, devices[0])) * count * len(preset.sigmas) / len(devices)
        how = f"measured: {SAMPLE} draws of each purifier here, {len(devices)} workers"
        return f"{total}, {bound}{span(seconds)} ({how})"
    if preset.dataset not in STATED_FOR:
        return f"{total}, time unknown (no rate is stated for such networks; `bench run --images 1` shows one)"
    evaluations = sum(max(1, most_evaluations(purifier, sigma)) for purifier in purifiers for sigma in preset.sigmas)
    return f"{total}, at most {span(evaluations * count / STATED)} ({STATED_WHERE})"


def most_evaluations(purifier: Any, sigma: float) -> int:
    """Network evaluations as documented, or as the published grid of levels has them."""
    from purifiers.conditioning import grid_from

    documented = purifier.nfe()
    return 2 * len(grid_from(2 * sigma)) - 1 if documented is None else documented


def measure(preset: Preset, device: str) -> list[float]:
    """Seconds per draw of every purifier at the middle sigma, on one worker, start-up left out."""
    from bench.engine.devices import prepare_device
    from bench.engine.engine import Engine
    from bench.records import Block, Task
    from bench.sweep.plan import plan
    from bench.sweep.settle import settle

    middle = sorted(preset.sigmas)[len(preset.sigmas) // 2]
    planned = plan(preset.model_copy(update={"sigmas": [middle], "images": 1}), device.split(":")[0])
    planned = settle(planned, device)
    clean = {image: planned.split.images[image] for image in planned.images}
    engine = Engine(clean, planned.weights, prepare_device(device), planned.plugin_files)
    seconds = []
    for cell in planned.cells:
        same = replace(cell, hashes={name: value for name, value in cell.hashes.items() if name != "rule"}).key
        if same not in _measured:
            block = Block(cell.key, planned.images[0], "estimate", 0, SAMPLE)
            (counts,) = engine.run(Task(cell, (block,)))
            cost = counts.cost
            _measured[same] = (cost.noise_s + cost.purify_s + cost.classify_s) / SAMPLE
        seconds.append(_measured[same])
    return seconds


def span(seconds: float) -> str:
    """A duration as a person says it."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"
