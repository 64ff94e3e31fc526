"""From a preset to the cells of a sweep: plugins resolved, weights verified, everything hashed. Loads no network."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bench
from bench import data
from bench.certify import rules
from bench.certify.base import Certifier
from bench.errors import PurifyBenchError
from bench.names import nearest
from bench.plugins import registry as plugins
from bench.plugins.fingerprint import files_hash, network_hash
from bench.provenance import EXTRAS, LIBRARIES, ROOT, git_revision, library_version
from bench.records import Cell, Counts
from bench.sweep.preset import Preset
from classifiers.base import ClassifierError
from purifiers.nets.hub.cards import WeightsError, verify
from purifiers.nets.hub.download import obtain
from purifiers.nets.hub.sources import find


class PlanError(PurifyBenchError):
    """A sweep cannot be planned: something that the preset names is missing; the message says what and the remedy."""


@dataclass(frozen=True)
class Plan:
    """A sweep that is ready to run.

    Attributes:
        cells: in the order in which they run.
        split: the test images.
        images: indices of those that are certified.
        weights: role -> network, as `purifiers.nets.load` takes it.
        plugin_files: kind -> plugin name -> path, for plugins given by path.
        families: purifier name -> family, for the pictures.
        preprocessing: what the classifier does to an image before its network sees it.
        tuning: what was measured to settle how the cells compute; empty where nothing was left to `auto`.
    """

    preset: Preset
    cells: Sequence[Cell]
    split: data.Split
    images: Sequence[int]
    weights: dict[str, str]
    plugin_files: dict[str, dict[str, str]]
    families: dict[str, str]
    preprocessing: dict[str, Any]
    tuning: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> dict[int, int]:
        """True class of every image that is certified."""
        return {i: int(self.split.labels[i]) for i in self.images}

    def certifier(self, cell: Cell) -> Certifier:
        return rules.of_sweep(self.preset.model_dump(), cell.sigma)

    def refuse_votes(self, counts: Sequence[Counts]) -> None:
        """Raise ValueError where the classifier tells another number of classes apart than the images have.

        A table of images without names for its classes has at least as many as its labels say.
        """
        classes = self.split.classes
        numbered = self.split.dataset == "parquet" and classes == tuple(map(str, range(len(classes))))
        for told in {len(c.votes) for c in counts}:
            if told < len(classes) or (told > len(classes) and not numbered):
                raise ValueError(
                    f"the classifier {self.preset.classifier.name!r} tells {told} classes apart, and "
                    f"{self.split.title} has {len(classes)} ({', '.join(classes[:3])}, ...): its votes mean other "
                    "classes. Give a --classifier that was trained on these, or a preset with its data set"
                )


def plan(preset: Preset, device_type: str) -> Plan:
    """Resolve everything that a preset names; published networks that are not here are downloaded.

    Raises:
        PlanError, plugins.PluginError, data.DataError: what is named cannot be had.
    """
    purifiers, classifier, weights = resolve(preset)
    weights = {role: fetched(role, preset.networks[role]) for role in weights}
    split = data.load(preset.dataset, "test", preset.data, preset.size)
    if split.dataset != preset.dataset:  # other images than were asked for are called what they are
        preset = preset.model_copy(update={"dataset": split.dataset, "title": f"{preset.title} [{split.title}]"})
    try:
        images = split.every(preset.every, preset.images) if preset.every else split.pick(preset.images)
    except ValueError as error:
        raise PlanError(str(error)) from error
    shared = {
        "noise": plugins.hash_files([ROOT / "bench" / "engine" / "noise.py"]),
        "engine": plugins.hash_files(
            [ROOT / "bench" / "engine" / f"{name}.py" for name in ("engine", "loader", "compute")]
        ),
        "purifier nets": plugins.hash_files(sorted((ROOT / "purifiers" / "nets").rglob("*.py"))),
        "classifier nets": plugins.hash_files(sorted((ROOT / "classifiers" / "nets").glob("*.py"))),
        "classifier": plugins.code_hash(type(classifier)),
        "classifier weights": files_hash(classifier_files(classifier)),
    }
    data_hash = split.fingerprint()
    cells = [
        Cell(
            purifier=purifier.name,
            parameters=plugins.parameters(purifier),
            classifier=classifier.name,
            classifier_parameters=plugins.parameters(classifier),
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
                **{f"network {role}": network_hash(weights[role]) for role in purifier.networks},
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
        preprocessing=classifier.preprocessing(),
    )


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
    classifier_files(classifier, download=False)
    return purifiers, classifier, verify_weights(preset, [purifier for _, purifier in purifiers])


def classifier_files(classifier: Any, download: bool = True) -> tuple[Path, ...]:
    """The files that decide what a classifier says, its configuration read once; none while it is yet to be downloaded.

    Raises:
        PlanError: they cannot be had.
    """
    try:
        files = classifier.files(download)
        missing = next((file for file in files if not file.is_file()), None)
        if missing is not None:
            raise ClassifierError(f"{missing} is missing; make it with `bench train`")
        classifier.preprocessing()
    except ClassifierError as error:
        if error.obtainable and not download:
            return ()
        raise PlanError(f"classifier {classifier.name!r}: {error}") from error
    return files


def verify_weights(preset: Preset, purifiers: Sequence[Any]) -> dict[str, str]:
    """The network of every role that the purifiers ask for: ours checked against its card; published ones by path, or
    by name while they are not here."""
    weights = {}
    for purifier in purifiers:
        for role in purifier.networks:
            if role not in preset.networks:
                raise PlanError(
                    f"purifier {purifier.name!r} asks for the network {role!r}, which the preset does not name; add "
                    f"it under [networks]. {nearest('role', role, preset.networks) if preset.networks else ''}"
                )
            try:
                source = find(preset.networks[role])
                if source.is_card:
                    verify(source.path)
            except WeightsError as error:
                raise PlanError(f"network {role!r}: {error}") from error
            weights[role] = str(source) if source.present else preset.networks[role]
    return weights


def fetched(role: str, network: str) -> str:
    """A network as the engine loads it, downloaded first if need be; raises PlanError where it cannot be had."""
    try:
        return str(obtain(network))
    except WeightsError as error:
        raise PlanError(f"network {role!r}: {error}") from error


def manifest(plan: Plan, devices: Sequence[str]) -> dict[str, Any]:
    """What a run ran on: versions, machine, the preset, labels of its images; nothing that names a person or a path."""
    return {
        "format": 1,
        "purifybench": bench.__version__,
        "git": git_revision(),
        "python": platform.python_version(),
        "libraries": {
            name: found for name in (*LIBRARIES, *EXTRAS) if (found := library_version(name)) or name in LIBRARIES
        },
        "platform": f"{platform.system()} {platform.machine()}",
        "devices": list(devices),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "preset": plan.preset.model_dump(mode="json", exclude={"data", "address"}),
        "data": plan.split.title,
        "preprocessing": plan.preprocessing,
        **({"tuning": plan.tuning} if plan.tuning else {}),
        "sweep": [cell.key for cell in plan.cells],
        "families": plan.families,
        "classes": list(plan.split.classes),
        "labels": {str(i): label for i, label in plan.labels.items()},
    }
