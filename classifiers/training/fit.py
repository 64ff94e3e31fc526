"""Training of the bundled classifiers: AdamW, one cycle, small random affine maps, label smoothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torchvision.transforms.functional import gaussian_blur

from classifiers.nets.cnn import CNN


class _Keeper(Protocol):
    """Saves the state of a training and limits its time; implemented in `bench.training`."""

    def load(self, device: str | torch.device = "cpu") -> dict[str, Any] | None: ...
    def left(self) -> float: ...
    def paused(self) -> bool: ...
    def save(self, state: Mapping[str, Any]) -> None: ...


def train_classifier(
    recipe: dict,
    images: Tensor,
    labels: Tensor,
    classes: int,
    autocast: bool = False,
    report: Callable[[str], None] | None = None,
    validate: Callable[[CNN], Mapping[str, float]] | None = None,
    keeper: _Keeper | None = None,
    before: tuple[CNN, dict] | None = None,
    transform: Callable[[Tensor, Generator], Tensor] | None = None,
) -> tuple[CNN, dict, dict]:
    """Train on `images [N,C,H,W]` in [0,1] and `labels [N]`; returns the network, its architecture and its record.

    Parameters:
        autocast: run the forward pass in bfloat16.
        report: called after every epoch with a line of progress.
        validate: called after every epoch; returns figures of the network.
        keeper: saves the state after every epoch, and before any step if it pauses the training there; a saved state is
            continued.
        before: network and card of an earlier training, the start of another cycle.
        transform: of a batch of augmented images, `(x [B,C,H,W], generator)`; purification, for example.

    Raises:
        ValueError: the network of the earlier training has another architecture.
    """
    seen = before[1]["training"].get("epochs", 0) if before else 0
    torch.manual_seed(recipe["seed"])
    generator = Generator(images.device).manual_seed(recipe["seed"] + seen)  # other draws than in the earlier training
    architecture = {"channels": images.shape[1], "classes": classes, **recipe["architecture"]}
    model = _initial(architecture, before).to(images.device).to(memory_format=torch.channels_last)
    batches = len(images) // recipe["batch"]
    steps, epochs = recipe["epochs"] * batches, recipe["epochs"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe["lr"], weight_decay=recipe["weight_decay"])
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe["lr"], total_steps=steps)
    state: dict[str, Any] = {"epoch": 0, "seconds": 0.0, "losses": [], "validations": []}
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "cycle": cycle}
    if keeper and (kept := keeper.load(images.device)):
        for name, part in parts.items():
            part.load_state_dict(kept.pop(name))
        generator.set_state(kept.pop("generator").cpu())
        state |= kept
    first, done, started = state["epoch"], state["seconds"], time.perf_counter()
    earlier = first * batches + (state["unfinished"][2] if "unfinished" in state else 0)  # steps before this command

    def keep() -> None:
        if keeper:
            kept = {name: part.state_dict() for name, part in parts.items()}
            keeper.save({**kept, **state, "generator": generator.get_state()})

    for epoch in range(first, epochs):
        if keeper and keeper.left() <= 0:
            break
        model.train()
        order, total, begun = state.pop("unfinished", None) or (
            torch.randperm(len(images), generator=generator, device=images.device),
            torch.zeros((), device=images.device),
            0,
        )
        for step, rows in enumerate(order[: batches * recipe["batch"]].view(batches, -1)[begun:], begun):
            if keeper and keeper.paused():
                state |= {"unfinished": (order, total, step), "seconds": done + time.perf_counter() - started}
                keep()
                break
            x = _jitter(images[rows], generator, recipe)
            x = (transform(x, generator) if transform else x).contiguous(memory_format=torch.channels_last)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), labels[rows], label_smoothing=recipe["label_smoothing"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            total += loss.detach()
        if "unfinished" in state:
            break
        mean, step = round(float(total) / batches, 4), (epoch + 1) * batches
        spent = time.perf_counter() - started
        state |= {"epoch": epoch + 1, "seconds": done + spent}
        state["losses"].append((step, mean))
        if validate:
            state["validations"].append((step, dict(validate(model.eval()))))
        if report:
            pace = spent / (step - earlier)
            speed = f"{recipe['batch'] / pace:.0f} images/s, {pace * (epochs * batches - step) / 60:.0f} min left"
            report(f"step {step:,}, loss {mean:.4f}, {speed}")
        keep()
    record = {"images": len(images), "autocast": "bfloat16" if autocast else None}
    return model.eval(), architecture, {**_recorded(recipe, state, model, before), **record}


def _initial(architecture: dict, before: tuple[CNN, dict] | None) -> CNN:
    """The network, with the weights of an earlier training if there is one; raises ValueError as `train_classifier`."""
    model = CNN(**architecture)
    if before:
        if before[1]["architecture"] != architecture:
            raise ValueError("the initial weights have another architecture than the recipe")
        model.load_state_dict(before[0].state_dict())
    return model


def _recorded(recipe: dict, state: Mapping[str, Any], model: CNN, before: tuple[CNN, dict] | None) -> dict[str, Any]:
    """The record of a training for the card, on top of that of the earlier training `before`."""
    earlier = before[1]["training"] if before else {}
    return {
        "recipe": recipe,
        "seed": recipe["seed"],
        "epochs": earlier.get("epochs", 0) + state["epoch"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(earlier.get("seconds", 0) + state["seconds"], 1),
        "losses": [*earlier.get("losses", []), *(loss for _, loss in state["losses"])],
        **({"continues": before[1]["sha256"]} if before else {}),
    }


def _jitter(x: Tensor, generator: Generator, recipe: dict) -> Tensor:
    """Random rotation (degrees), scale (fraction), shift (pixels) and mirroring of `x [B,C,H,W]`; half are blurred."""
    n, device = len(x), x.device

    def uniform(span: float) -> Tensor:
        return (2 * torch.rand(n, generator=generator, device=device) - 1) * span

    angle = uniform(math.radians(recipe["rotation"]))
    scale = 1 + uniform(recipe["scale"])
    mirrored = torch.rand(n, generator=generator, device=device) < 0.5 * recipe["flip"]
    mirror = 1 - 2 * mirrored.float()  # torch.where would copy its two numbers to a GPU, and wait
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift_x, shift_y = uniform(2 * recipe["shift"] / x.shape[3]), uniform(2 * recipe["shift"] / x.shape[2])
    rows = [torch.stack([cos * mirror, -sin, shift_x], 1), torch.stack([sin * mirror, cos, shift_y], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return _blurred(F.grid_sample(x, grid, align_corners=False), generator, recipe.get("blur", 0.0))


def _blurred(x: Tensor, generator: Generator, widest: float) -> Tensor:
    """Blur every other eighth of `x [B,C,H,W]` by a Gaussian of up to `widest` pixels.

    One of the three augmentations of DeiT III (Touvron et al. 2022). Without it a classifier relies on fine detail that
    every denoiser removes.
    """
    if not widest:
        return x
    parts = x.chunk(8)
    widths = (widest * torch.rand(len(parts), generator=generator, device=x.device)).clamp(min=0.1).tolist()
    return torch.cat([gaussian_blur(part, 7, widths[i]) if i % 2 else part for i, part in enumerate(parts)])


@torch.inference_mode()
def accuracy(model: CNN, images: Tensor, labels: Tensor) -> float:
    """Share of `images [N,C,H,W]` classified as `labels [N]`."""
    hits = [(model(x).argmax(1) == y).float() for x, y in zip(images.split(250), labels.split(250), strict=True)]
    return round(float(torch.cat(hits).mean()), 4)
