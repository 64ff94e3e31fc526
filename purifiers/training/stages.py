"""The stages that make a zoo of networks, in the order in which they need one another."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from purifiers.nets.denoisers import LevelledDenoiser, VPDenoiser
from purifiers.nets.files import Card, build
from purifiers.nets.unet import count_parameters
from purifiers.training.loop import Loss, Report, Schedule, fit
from purifiers.training.losses import Distance, ddpm_loss, distillation_loss, edm_loss, finetuning_loss, l2

RECIPES = Path(__file__).parent / "recipes"
T_MIN = 0.002
VALIDATION_LEVELS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Stage:
    """One network of the zoo: its kind of denoiser, the stage whose weights it starts from, and what it is."""

    kind: str
    start: str | None
    title: str


STAGES = {
    "ddpm": Stage("vp", None, "DDPM eps-network"),
    "edm": Stage("edm", None, "EDM denoiser"),
    "cm": Stage("consistency", "edm", "consistency model, distilled from the EDM denoiser's PF-ODE"),
    "cm-ft": Stage("consistency", "cm", "consistency model, fine-tuned with a perceptual loss"),
    "edm-ft": Stage("edm", "edm", "EDM denoiser, fine-tuned with a perceptual loss (no distillation)"),
}


def read_recipe(dataset: str) -> dict:
    """The recipe for a dataset; raises FileNotFoundError that lists those there are."""
    path = RECIPES / f"{dataset}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise FileNotFoundError(f"no training recipe for {dataset!r} ({path}); there is one for: {known}")
    return tomllib.loads(path.read_text())


def train_stage(
    name: str,
    recipe: dict,
    images: Tensor,
    start: LevelledDenoiser | None,
    distance: tuple[str, Distance] = ("L2", l2),
    autocast: bool = False,
    report: Report | None = None,
) -> tuple[LevelledDenoiser, Card]:
    """Train one network on `images [N,C,H,W]` in [0,1]; returns it with its card (validation figures not yet in it).

    Parameters:
        start: the denoiser of the stage that this one starts from (`STAGES[name].start`).
        distance: the distance of distillation or fine-tuning, with the name to record.
    """
    stage, settings, seed = STAGES[name], recipe[name], recipe["seed"]
    device = images.device
    levels = {"t_max": recipe["t_max"]}
    extra = {"timesteps": recipe["timesteps"]} if stage.kind == "vp" else {"t_min": T_MIN}
    if name == "cm":  # the consistency function is only taught below the top of its grid
        levels["t_max"] = settings["distil_t_max"]
    architecture = {"channels": images.shape[1], "image_size": images.shape[2], **recipe["architecture"]}
    if start is not None and stage.kind == "consistency" and name != "cm":
        levels["t_max"] = start.t_max
    card = Card(stage.kind, architecture, {**extra, **levels})
    torch.manual_seed(seed)  # only for the initial weights; batches and noise have a generator of their own
    model = build(card).to(device)
    if start is not None:
        model.network.load_state_dict(start.network.state_dict())
    loss: Loss
    if isinstance(model, VPDenoiser):
        loss = ddpm_loss(model)
    elif start is None:
        loss = edm_loss(settings["p_mean"], settings["p_std"], T_MIN, recipe["t_max"])
    elif name == "cm":
        loss = distillation_loss(start, settings["scales"], settings["distil_t_max"], distance[1])
    else:
        loss = finetuning_loss(settings["levels"], distance[1])
    schedule = Schedule(**{f.name: settings[f.name] for f in fields(Schedule) if f.name in settings})
    trained = fit(model, loss, images, schedule, seed, autocast, report)
    record = {
        "stage": name,
        "title": stage.title,
        "starts_from": stage.start,
        "recipe": settings,
        "seed": seed,
        "images": len(images),
        "images_seen": schedule.steps * schedule.batch,
        "parameters": count_parameters(model.network),
        "distance": distance[0] if stage.start else None,
        "autocast": "bfloat16" if autocast else None,
        "torch": torch.__version__,
        "seconds": round(trained.seconds, 1),
        "losses": trained.losses,
    }
    return trained.model, Card(stage.kind, architecture, card.denoiser, record)


@torch.inference_mode()
def denoising_mse(denoiser: LevelledDenoiser, images: Tensor, draws: int = 4) -> Mapping[str, float]:
    """Mean squared error of one evaluation in [-1,1] units, by level `t`, on `images [N,C,H,W]` in [0,1]."""
    generator = torch.Generator(images.device).manual_seed(0)
    u0 = (2 * images - 1).repeat(draws, 1, 1, 1)
    errors = {}
    for t in VALIDATION_LEVELS:
        u = u0 + t * torch.randn(u0.shape, generator=generator, device=u0.device)
        batches = [l2(denoiser(part, t), clean) for part, clean in zip(u.split(250), u0.split(250), strict=True)]
        errors[f"{t:g}"] = round(float(torch.cat(batches).mean()), 5)
    return errors
