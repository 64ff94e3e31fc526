"""How our own classifiers are trained: AdamW, one cycle, small random affine maps, label smoothing."""

from __future__ import annotations

import math
import time
import tomllib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from classifiers.nets.cnn import CNN

RECIPES = Path(__file__).parent / "recipes"


def read_recipe(dataset: str) -> dict:
    """The recipe for a dataset; raises FileNotFoundError that lists those there are."""
    path = RECIPES / f"{dataset}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise FileNotFoundError(f"no classifier recipe for {dataset!r} ({path}); there is one for: {known}")
    return tomllib.loads(path.read_text())


def train_classifier(recipe: dict, images: Tensor, labels: Tensor, classes: int, report=None) -> tuple[CNN, dict, dict]:
    """Train on `images [N,C,H,W]` in [0,1] and `labels [N]`; returns the network, its architecture and its record."""
    torch.manual_seed(recipe["seed"])
    generator = Generator(images.device).manual_seed(recipe["seed"])
    architecture = {"channels": images.shape[1], "classes": classes, **recipe["architecture"]}
    model = CNN(**architecture).to(images.device)
    batches = len(images) // recipe["batch"]
    steps = recipe["epochs"] * batches
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe["lr"], weight_decay=recipe["weight_decay"])
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe["lr"], total_steps=steps)
    started, losses, step = time.perf_counter(), [], 0
    for _ in range(recipe["epochs"]):
        order = torch.randperm(len(images), generator=generator, device=images.device)
        total = 0.0
        for rows in order[: batches * recipe["batch"]].view(batches, -1):
            x = jitter(images[rows], generator, recipe)
            loss = F.cross_entropy(model(x), labels[rows], label_smoothing=recipe["label_smoothing"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            total += float(loss.detach())
            step += 1
        losses.append(round(total / batches, 4))
        if report:
            report(step, losses[-1])
    record = {
        "recipe": recipe,
        "seed": recipe["seed"],
        "images": len(images),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.perf_counter() - started, 1),
        "losses": losses,
    }
    return model.eval(), architecture, record


def jitter(x: Tensor, generator: Generator, recipe: dict) -> Tensor:
    """Rotate (degrees), scale (fraction), shift (pixels) and mirror each image of `x [B,C,H,W]` at random."""
    n, device = len(x), x.device

    def uniform(span: float) -> Tensor:
        return (2 * torch.rand(n, generator=generator, device=device) - 1) * span

    angle = uniform(math.radians(recipe["rotation"]))
    scale = 1 + uniform(recipe["scale"])
    mirror = torch.where(torch.rand(n, generator=generator, device=device) < 0.5 * recipe["flip"], -1.0, 1.0)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift_x, shift_y = uniform(2 * recipe["shift"] / x.shape[3]), uniform(2 * recipe["shift"] / x.shape[2])
    rows = [torch.stack([cos * mirror, -sin, shift_x], 1), torch.stack([sin * mirror, cos, shift_y], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


@torch.inference_mode()
def accuracy(model: CNN, images: Tensor, labels: Tensor) -> float:
    """Share of `images [N,C,H,W]` classified as `labels [N]`."""
    hits = [(model(x).argmax(1) == y).float() for x, y in zip(images.split(250), labels.split(250), strict=True)]
    return round(float(torch.cat(hits).mean()), 4)
