"""The training stages of a zoo of networks; a stage may start from an earlier one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from purifiers.nets.architectures.group_norm import with_channels_last_norms
from purifiers.nets.denoisers import LevelledDenoiser, VPDenoiser
from purifiers.nets.hub.files import Card, build
from purifiers.training import losses
from purifiers.training.loop import Keeper, Loss, Schedule, Validate, fit
from purifiers.training.paths import follow_paths, path_loss

_T_MIN = 0.002
_DRAWS_OF_A_PATH = 8  # at least, in the training of a consistency model


@dataclass(frozen=True)
class _Stage:
    """One network of the zoo: its kind of denoiser, the stage of its initial weights, and a title."""

    kind: str
    start: str | None
    title: str


_METHODS = {  # of training a consistency model from a denoiser
    "distillation": "distilled from the EDM denoiser's PF-ODE",
    "paths": "distilled from whole paths of the EDM denoiser's PF-ODE",
    "tuning": "tuned from the EDM denoiser without a teacher (ECT)",
}
STAGES = {
    "ddpm": _Stage("vp", None, "DDPM eps-network"),
    "edm": _Stage("edm", None, "EDM denoiser"),
    "cm": _Stage("consistency", "edm", "consistency model"),
    "cm-ft": _Stage("consistency", "cm", "consistency model, fine-tuned with a perceptual loss"),
    "edm-ft": _Stage("edm", "edm", "EDM denoiser, fine-tuned with a perceptual loss (no distillation)"),
    "edm-cal": _Stage("edm", "edm", "EDM denoiser, calibrated (after Jeong and Shin 2023)"),
}


def train_stage(
    name: str,
    recipe: dict,
    images: Tensor,
    start: LevelledDenoiser | None,
    distance: tuple[str, losses.Distance] = ("L2", losses.l2),
    method: str | None = None,
    classify: losses.Logits | None = None,
    autocast: bool = False,
    compiled: bool = False,
    report: Callable[[str], None] | None = None,
    validate: Validate | None = None,
    keeper: Keeper | None = None,
    before: tuple[LevelledDenoiser, Card] | None = None,
) -> tuple[LevelledDenoiser, Card]:
    """Train one network on `images [N,C,H,W]` in [0,1]; returns it with its card, without validation figures.

    Parameters:
        start: the denoiser of stage `STAGES[name].start`.
        distance: name (for the record) and function of the distance in distillation or fine-tuning.
        method: a key of `_METHODS`, for the stage `cm` only.
        classify: logits of images in [0,1], for the stage `edm-cal` only.
        autocast, report, validate, keeper: as `purifiers.training.loop.fit`.
        compiled: run the network through `torch.compile`.
        before: network and card of an earlier training of this stage, the start of this one.
    """
    stage, settings, seed = STAGES[name], recipe[name], recipe["seed"]
    architecture = {"channels": images.shape[1], "image_size": images.shape[2], **recipe["architecture"]}
    card = Card(stage.kind, architecture, _denoiser_arguments(name, recipe, start))
    torch.manual_seed(seed)  # only for the initial weights; batches and noise have their own generator
    model = build(card).to(images.device)
    on_cpu = images.device.type == "cpu"
    if compiled or not on_cpu:  # eager group normalisation is slow on a CPU in channels-last layout
        model.network.to(memory_format=torch.channels_last)
    if first := before[0] if before else start:
        model.network.load_state_dict(first.network.state_dict())
    if compiled:
        (with_channels_last_norms(model.network) if on_cpu else model.network).compile()
    loss = _loss_of(name, recipe, model, images, start, distance[1], method, classify, report)
    schedule = Schedule(**{f.name: settings[f.name] for f in fields(Schedule) if f.name in settings})
    earlier = before[1].training if before else {}
    seen = earlier.get("images_seen", 0)
    draws = seed + seen  # other draws than in the earlier training
    done = earlier.get("progress", 0.0)
    trained = fit(
        model, loss, images, schedule, draws, autocast, report, validate, keeper, seen // schedule.batch, done
    )
    record = {
        "stage": name,
        "title": stage.title + (f", {_METHODS[method]}" if method else ""),
        "starts_from": stage.start,
        "recipe": settings,
        "seed": seed,
        "images": len(images),
        "images_seen": trained.steps * schedule.batch + seen,
        "progress": round(done + (1 - done) * trained.progress, 4),
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "distance": distance[0] if "distance" in settings and method in (None, "distillation") else None,
        "autocast": "bfloat16" if autocast else None,
        "torch": torch.__version__,
        "seconds": round(trained.seconds + earlier.get("seconds", 0), 1),
        "losses": _tenths([loss for _, loss in trained.losses]),
    }
    if before:
        record["continues"] = before[1].sha256
    return trained.model, Card(stage.kind, card.architecture, card.denoiser, record)


def _denoiser_arguments(name: str, recipe: dict, start: LevelledDenoiser | None) -> dict:
    """Constructor arguments of a stage's denoiser, except the network: its range of levels, or its chain."""
    if STAGES[name].kind == "vp":
        return {"timesteps": recipe["timesteps"], "t_max": recipe["t_max"]}
    t_max = recipe["t_max"]
    if name == "cm":  # the consistency function is only trained below the top of its grid
        t_max = recipe["cm"]["distil_t_max"]
    elif start is not None and STAGES[name].kind == "consistency":
        t_max = start.t_max
    return {"t_min": _T_MIN, "t_max": t_max}


def _loss_of(
    name: str,
    recipe: dict,
    model: LevelledDenoiser,
    images: Tensor,
    start: LevelledDenoiser | None,
    distance: losses.Distance,
    method: str | None,
    classify: losses.Logits | None,
    report: Callable[[str], None] | None = None,
) -> Loss:
    """The loss of a stage with the settings of its recipe."""
    settings = recipe[name]
    if isinstance(model, VPDenoiser):
        return losses.ddpm_loss(model)
    if start is None:
        return losses.edm_loss(settings["p_mean"], settings["p_std"], _T_MIN, recipe["t_max"])
    if method == "tuning":
        t_max = settings["distil_t_max"]
        return losses.tuning_loss(settings["p_mean"], settings["p_std"], _T_MIN, t_max, settings["doublings"])
    if method == "paths":
        count = min(settings["paths"], settings["steps"] * settings["batch"] // _DRAWS_OF_A_PATH)  # fewer in a trial
        steps, t_max = settings["path_steps"], settings["distil_t_max"]
        return path_loss(follow_paths(start, images, count, steps, t_max, recipe["seed"], report))
    if method == "distillation":
        return losses.distillation_loss(start, settings["scales"], settings["distil_t_max"], distance)
    if name == "edm-cal":
        assert classify is not None
        return losses.calibration_loss(settings["levels"], classify, settings["strength"], settings["diversity"])
    return losses.finetuning_loss(settings["levels"], distance)


def _tenths(history: list[float]) -> list[float]:
    """A loss history averaged over ten equal spans, or fewer for a short history."""
    size = max(1, math.ceil(len(history) / 10))
    return [round(sum(part) / len(part), 6) for part in (history[i : i + size] for i in range(0, len(history), size))]
