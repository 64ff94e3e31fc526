"""From a preset to the cells of a sweep: plugins resolved, weights verified, everything hashed. Loads no network."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bench
from bench import data, plugins, rules
from bench.certify import Certifier
from bench.names import nearest
from bench.preset import Preset
from bench.types import Cell
from purifiers.nets.cards import WeightsError, fingerprint, verify

ROOT = Path(__file__).parent.parent
LIBRARIES = ("torch", "torchvision", "diffusers", "torchdiffeq", "lpips", "numpy", "scipy", "pandas")


class PlanError(Exception):
    """A sweep cannot be planned: something that the preset names is missing; the message says what and the remedy."""


@dataclass(frozen=True)
class Plan:
    """A sweep that is ready to run.

    Attributes:
        cells: in the order in which they run.
        split: the test images.
        images: indices of those that are certified.
        weights: role -> weight file.
        plugin_files: kind -> plugin name -> path, for plugins given by path.
        families: purifier name -> family, for the pictures.
    """

    preset: Preset
    cells: Sequence[Cell]
    split: data.Split
    images: Sequence[int]
    weights: dict[str, str]
    plugin_files: dict[str, dict[str, str]]
    families: dict[str, str]

    @property
    def labels(self) -> dict[int, int]:
        """True class of every image that is certified."""
        return {i: int(self.split.labels[i]) for i in self.images}

    def certifier(self, cell: Cell) -> Certifier:
        return rules.of_sweep(self.preset.model_dump(), cell.sigma)


def plan(preset: Preset, device_type: str) -> Plan:
    """Resolve everything that a preset names.

    Raises:
        PlanError, plugins.PluginError, data.DataError: what is named cannot be had.
    """
    purifiers, classifier, weights = resolve(preset)
    split = data.load(preset.dataset, "test", preset.data)
    try:
        images = split.pick(preset.images)
    except ValueError as error:
        raise PlanError(str(error)) from error
    classifier_weights = classifier.weights()
    shared = {
        "noise": plugins.hash_files([ROOT / "bench" / "noise.py"]),
        "engine": plugins.hash_files([ROOT / "bench" / "engine.py"]),
        "purifier nets": plugins.hash_files(sorted((ROOT / "purifiers" / "nets").glob("*.py"))),
        "classifier nets": plugins.hash_files(sorted((ROOT / "classifiers" / "nets").glob("*.py"))),
        "classifier": plugins.code_hash(type(classifier)),
        "classifier weights": content_hash(classifier_weights) if classifier_weights else "",
    }
    data_hash = split.fingerprint()
    cells = [
        Cell(
            purifier=purifier.name,
            parameters=asdict(purifier),
            classifier=classifier.name,
            classifier_parameters=asdict(classifier),
            dataset=preset.dataset,
            data_hash=data_hash,
            sigma=sigma,
            seed=preset.seed,
            precision=preset.precision,
            device_type=device_type,
            hashes={
                **shared,
                **({"rule": rule} if (rule := rules.of_sweep(preset.model_dump(), sigma).identity) else {}),
                "purifier": plugins.code_hash(type(purifier)),
                **{f"network {role}": content_hash(Path(weights[role])) for role in purifier.networks},
            },
        )
        for sigma in preset.sigmas
        for _, purifier in purifiers
    ]
    if len({cell.key for cell in cells}) < len(cells):
        raise PlanError("the preset asks for the same purifier and sigma twice; give each once")
    given = {plugins.PURIFIER: purifiers, plugins.CLASSIFIER: [(preset.classifier.name, classifier)]}
    return Plan(
        preset=preset,
        cells=cells,
        split=split,
        images=images,
        weights=weights,
        plugin_files={
            kind.name: {plugin.name: str(Path(name).resolve()) for name, plugin in named if name.endswith(".py")}
            for kind, named in given.items()
        },
        families={purifier.name: purifier.family for _, purifier in purifiers},
    )


def content_hash(weights: Path) -> str:
    """A hash of a weight file and of what its card says of the network; the record of its training does not count."""
    card = weights.with_suffix(".json")
    try:
        facts = json.loads(card.read_text())
        described = json.dumps({k: v for k, v in facts.items() if k != "training"}, sort_keys=True)
    except (OSError, ValueError, AttributeError):  # who loads the weights says what is wrong with their card
        described = ""
    return hashlib.sha256(f"{fingerprint(weights)} {described}".encode()).hexdigest()[:16]


def resolve(preset: Preset) -> tuple[list[tuple[str, Any]], Any, dict[str, str]]:
    """The purifiers (as named, and made), the classifier and the weight files of a preset; imports no torch.

    Raises:
        PlanError, plugins.PluginError: as `plan`.
    """
    purifiers = [(p.name, plugins.create(plugins.PURIFIER, p.name, p.parameters)) for p in preset.purifiers]
    files: dict[str, str] = {}
    for _, purifier in purifiers:
        file = plugins.source(type(purifier))
        if files.setdefault(purifier.name, file) != file:
            raise PlanError(
                f"two purifiers are called {purifier.name!r}: {files[purifier.name]} and {file}; rename one"
            )
    classifier = plugins.create(plugins.CLASSIFIER, preset.classifier.name, preset.classifier.parameters)
    if preset.dataset not in data.DATASETS:
        raise PlanError(nearest("dataset", preset.dataset, data.DATASETS))
    path = classifier.weights()
    if path is not None and not path.is_file():
        raise PlanError(f"classifier {preset.classifier.name!r}: {path} is missing; make it with `bench train`")
    return purifiers, classifier, verify_weights(preset, [purifier for _, purifier in purifiers])


def verify_weights(preset: Preset, purifiers: Sequence[Any]) -> dict[str, str]:
    """The weight file of every role that the purifiers ask for, content checked against its card."""
    weights = {}
    for purifier in purifiers:
        for role in purifier.networks:
            if role not in preset.networks:
                raise PlanError(
                    f"purifier {purifier.name!r} asks for the network {role!r}, which the preset does not name; add "
                    f"it under [networks]. {nearest('role', role, preset.networks) if preset.networks else ''}"
                )
            try:
                weights[role] = str(verify(preset.networks[role]).resolve())
            except WeightsError as error:
                raise PlanError(f"network {role!r}: {error}") from error
    return weights


def manifest(plan: Plan, devices: Sequence[str]) -> dict[str, Any]:
    """What a run ran on: versions, machine, the preset, labels of its images; nothing that names a person or a path."""
    return {
        "format": 1,
        "purifybench": bench.__version__,
        "git": git_revision(),
        "python": platform.python_version(),
        "libraries": {name: library_version(name) for name in LIBRARIES},
        "platform": f"{platform.system()} {platform.machine()}",
        "devices": list(devices),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "preset": plan.preset.model_dump(mode="json", exclude={"data"}),
        "sweep": [cell.key for cell in plan.cells],
        "families": plan.families,
        "classes": list(plan.split.classes),
        "labels": {str(i): label for i, label in plan.labels.items()},
    }


def library_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_revision() -> str | None:
    """The commit of the code, `-dirty` where it was changed; None outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
