"""From a preset to the cells of a sweep: plugins resolved, weights verified, identities hashed. Loads no network."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import data
from bench.certify import Certifier, rules
from bench.engine.versions import (
    DEFAULT_ROWS,
    DISCRETE_NOISE_VERSION,
    ENGINE_VERSION,
    NOISE_KERNEL,
    NOISE_KERNEL_VERSION,
    NOISE_VERSION,
)
from bench.errors import InputError
from bench.plugins import plugin_hash
from bench.plugins import registry as plugins
from bench.provenance import EXTRAS, LIBRARIES, version_record
from bench.records import DISCRETE, Cell, Counts
from bench.sweep.preset import Preset
from bench.sweep.resolved import (
    PlanError,
    Resolved,
    classifier_weights,
    networks_of,
    preprocessing_of,
    resolve,
    text_of,
)
from classifiers.nets import NETS_VERSION as CLASSIFIER_NETS_VERSION
from purifiers.nets import NETS_VERSION
from purifiers.nets.hub.sources import find


@dataclass(frozen=True)
class Plan:
    """A sweep that is ready to run.

    Attributes:
        cells: in the order in which they run.
        split: the images of the preset's part of the data set.
        images: indices of those that are certified.
        weights: role -> network, as `purifiers.nets.load` takes it.
        plugin_files: kind -> plugin name -> path, of plugins that the preset names by path.
        families: purifier name -> family, for the pictures.
        preprocessing: steps between an image and the classifier's network; those of classifiers of single purifiers
            by their text, under `own`.
        tuning: the measurements behind the choice of `auto` options; empty if there were none.
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
        """Raise ValueError if the numbers of classes of the classifier and of the data set differ.

        A table of images without class names has at least as many classes as its largest label.
        """
        classes = self.split.classes
        numbered = self.split.dataset == "parquet" and classes == tuple(map(str, range(len(classes))))
        voters = {cell.key: cell.classifier for cell in self.cells}
        for voter, count in {(voters.get(c.block.cell, self.preset.classifier.name), len(c.votes)) for c in counts}:
            if count < len(classes) or (count > len(classes) and not numbered):
                raise InputError(
                    f"the classifier {voter!r} has {count} classes, and {self.split.title} has "
                    f"{len(classes)} ({', '.join(classes[:3])}, ...), so its votes mean other classes. Give a "
                    "--classifier that was trained on these, or a preset with its data set"
                )


def images_of(preset: Preset, split: data.Split) -> list[int]:
    """The indices of a preset's images; raises InputError if the split has fewer."""
    return split.every(preset.every, preset.images) if preset.every else split.pick(preset.images)


def make_plan(preset: Preset, device_type: str) -> Plan:
    """Resolve everything that a preset names; published networks are downloaded if they are missing.

    Raises:
        PlanError, PluginError, DataError, InputError: something is missing; the message names it.
    """
    resolved = resolve(preset)
    purifiers, voters = resolved.purifiers, resolved.voters
    weights = networks_of(preset, purifiers, download=True)
    split = data.load(preset.dataset, preset.split, preset.data, preset.size)
    if split.dataset != preset.dataset:  # the files hold another data set than the preset names
        preset = preset.model_copy(update={"dataset": split.dataset, "title": f"{preset.title} [{split.title}]"})
    refuse_other_classes(resolved, split)
    images = images_of(preset, split)
    networks = {role: find(network).identity() for role, network in weights.items()}
    votes = {
        text: {"classifier": plugin_hash(type(voter)), "classifier weights": classifier_weights(voter)}
        for text, voter in resolved.by_text.items()
    }
    codes = {purifier.name: plugin_hash(type(purifier)) for purifier in purifiers}
    versions = {"noise": NOISE_VERSION, "engine": ENGINE_VERSION, "classifier nets": CLASSIFIER_NETS_VERSION}
    if discrete := preset.noise == DISCRETE:
        versions["discrete noise"] = DISCRETE_NOISE_VERSION
    if device_type == "cuda" and find_spec("triton"):
        versions[NOISE_KERNEL] = NOISE_KERNEL_VERSION
    cells = [
        Cell(
            purifier=purifier.name,
            parameters=plugins.parameters(purifier),
            classifier=voter.name,
            classifier_parameters=plugins.parameters(voter),
            dataset=preset.dataset,
            data_hash="",
            split=preset.split,
            sigma=sigma,
            seed=preset.seed,
            noise=DISCRETE if discrete else "",
            precision=preset.precision,
            device_type=device_type,
            compute=rows_of(preset, device_type),
            versions=versions | ({"nets": NETS_VERSION} if purifier.networks else {}),
            hashes={
                "purifier": codes[purifier.name],
                **{f"network {role}": networks[role] for role in purifier.networks},
                **votes[text_of(voter)],
                **({"rule": rule} if (rule := rules.of_sweep(preset.model_dump(), sigma).identity) else {}),
            },
            own_classifier=text_of(voter) != text_of(resolved.classifier),
            by_sigma=entry.classifier.by_sigma if entry.classifier else {},
        )
        for sigma in preset.sigmas
        for entry, purifier, voter in zip(preset.purifiers, purifiers, (of[sigma] for of in voters), strict=True)
    ]
    refuse_doubles(cells)
    created = {
        plugins.PURIFIER: zip(preset.purifiers, purifiers, strict=True),
        plugins.CLASSIFIER: [
            (preset.classifier, resolved.classifier),
            *((plugin, of[preset.sigmas[0]]) for plugin, of in zip(preset.classifiers, voters, strict=True)),
        ],
    }
    return Plan(
        preset=preset,
        cells=cells,
        split=split,
        images=images,
        weights=weights,
        plugin_files={
            kind.name: {plugin.name: str(Path(p.name).resolve()) for p, plugin in pairs if p.name.endswith(".py")}
            for kind, pairs in created.items()
        },
        families={purifier.name: purifier.family for purifier in purifiers},
        preprocessing=preprocessing_of(resolved),
    )


def refuse_other_classes(resolved: Resolved, split: data.Split) -> None:
    """Raise PlanError if a classifier states the names of its classes (`class_names`), and the data set has others."""
    for text, voter in resolved.by_text.items():
        stated = getattr(voter, "class_names", None)
        if stated is not None and tuple(stated) != split.classes:
            raise PlanError(
                f"the classifier {text!r} has the classes {', '.join(stated[:3])}, ..., and {split.title} has "
                f"{', '.join(split.classes[:3])}, ...: give the names of the data set's classes, in their order"
            )


def refuse_doubles(cells: Sequence[Cell]) -> None:
    """Raise PlanError if two cells would count the same."""
    if len({cell.key for cell in cells}) < len(cells):
        raise PlanError("the preset asks for the same purifier, classifier and sigma twice; name each once")


def rows_of(preset: Preset, device_type: str) -> dict[str, int]:
    """`Cell.compute` before options are settled: rows in each call of a network; `auto` becomes the default."""
    return {"rows": preset.rows if isinstance(preset.rows, int) else DEFAULT_ROWS[device_type]}


def without_rule(cell: Cell) -> Cell:
    """The cell without its stopping rule."""
    return replace(cell, hashes={name: value for name, value in cell.hashes.items() if name != "rule"})


def manifest(plan: Plan, devices: Sequence[str]) -> dict[str, Any]:
    """The record of a run: versions, machine, preset, labels and pixel hashes; nothing that names a user."""
    versions = version_record((*LIBRARIES, *EXTRAS))
    versions["libraries"] |= data.decoder_versions()  # JPEG decoders differ in the last bits; the pixels are hashed
    return {
        "format": 1,
        **versions,
        "platform": f"{platform.system()} {platform.machine()}",
        "devices": list(devices),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "preset": plan.preset.model_dump(mode="json", exclude={"data", "address"}),
        "data": plan.split.title if plan.preset.split == "test" else f"{plan.split.title}, {plan.preset.split} images",
        "preprocessing": plan.preprocessing,
        **({"tuning": plan.tuning} if plan.tuning else {}),
        "sweep": [cell.key for cell in plan.cells],
        "families": plan.families,
        "classes": list(plan.split.classes),
        "labels": {str(i): label for i, label in plan.labels.items()},
        "pixels": {str(i): plan.split.pixel_hash(i) for i in plan.images},
    }
