"""Settle what a preset leaves to `auto`, by what a device answers that is asked what computes fastest there.

The choice, never `auto`, is part of a cell's identity, and the manifest records what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from bench.engine.autotune import Question, answer
from bench.engine.compute import refuse_unsupported
from bench.engine.devices import prepare_device
from bench.engine.loader import Loader
from bench.engine.trials import How
from bench.sweep.plan import Plan
from bench.sweep.preset import Plugin

Ask = Callable[[Question], dict[str, Any]]
IMAGES = 16  # that travel with a question


def settle(
    planned: Plan, device: str, ask: Ask | None = None, notify: Callable[[str], object] = lambda _: None
) -> Plan:
    """A plan whose cells say how they compute.

    Parameters:
        device: where the networks will run; its kind suffices where `ask` is given.
        ask: has a question answered there, as `choice.answer`; left out, it is answered here.
        notify: is told when measuring begins here.

    Raises:
        ValueError: the device cannot do what is asked for.
        LoadError: a network cannot be loaded or compiled.
    """
    refuse_unsupported(planned.preset.precision, planned.preset.compile, device)
    question = question_of(planned)
    if not question.open:
        how = {name: value for name, value in question.asked.items() if name != "batch"}
        return apply(planned, How(**how), question.asked["batch"], {})
    found = ask(question) if ask else answer(question, loader_of(planned, device), notify)
    return apply(planned, How(**found["chosen"]), int(found["batch"]), {"asked": dict(question.asked), **found})


def question_of(planned: Plan) -> Question:
    """What a plan leaves open."""
    asked = {name: getattr(planned.preset, name) for name in ("precision", "channels_last", "compile", "rows", "batch")}
    if planned.preset.compile == "no":
        asked["rows"] = 0
    asked["classifier"] = planned.cells[0].classifier_parameters.get("precision")
    images = np.stack([planned.split.images[i] for i in planned.images[:IMAGES]])
    return Question(asked, planned.cells, images)


def loader_of(planned: Plan, device: str) -> Loader:
    """What loads the networks of a plan on a device of this machine."""
    shape = planned.split.images[planned.images[0]].shape
    return Loader(planned.weights, prepare_device(device), shape, planned.plugin_files)


def apply(planned: Plan, how: How, batch: int, record: dict[str, Any]) -> Plan:
    """The plan with a choice made."""
    update: dict[str, Any] = {k: v for k, v in asdict(how).items() if k not in ("classifier", "rows")} | {
        "batch": batch
    }
    if how.compile != "no":
        update["rows"] = how.rows
    if how.classifier is not None:
        given = planned.preset.classifier
        update["classifier"] = Plugin(**{"name": given.name, **given.parameters, "precision": how.classifier})
    return replace(
        planned,
        preset=planned.preset.model_copy(update=update),
        cells=[how.of(cell) for cell in planned.cells],
        tuning=record,
    )
