"""From noisy images to votes: the calls of a cell's purifier and classifier, with the checks of their outputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.engine.checks import Checks, PluginFault, out_of_memory
from bench.engine.loader import Loaded
from bench.engine.noise import RowRng
from bench.records import Cell


def purify(cell: Cell, loaded: Loaded, x: Tensor, rng: RowRng, checks: Checks) -> Tensor:
    """Purified images, `[B,C,H,W]` as `x`, or `[K,B,C,H,W]` for a majority vote of K; raises PluginFault."""
    plugin = f"purifier {cell.label!r} at sigma = {cell.sigma:g}"
    for network in loaded.networks.values():
        network.begin()
    try:
        purified = loaded.purifier.purify(x, cell.sigma, loaded.networks, rng)
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        checks.add_networks(plugin, loaded)
        checks.settle()  # a network's output may be the cause
        raise PluginFault.of(plugin, error) from error
    checks.add_networks(plugin, loaded)
    if not (
        isinstance(purified, Tensor)
        and purified.shape[-x.ndim :] == x.shape
        and purified.ndim <= x.ndim + 1
        and len(purified)  # no image has no majority
    ):
        got = tuple(purified.shape) if isinstance(purified, Tensor) else type(purified).__name__
        expected = f"the shape of its input, {tuple(x.shape)}, or K of these for a majority vote"
        raise PluginFault(f"{plugin} returned {got}, it must return {expected}")
    purified = purified.detach().float()
    checks.add(f"{plugin} returned", purified, loaded.purifier.bounded)
    return purified


def classify(cell: Cell, loaded: Loaded, x: Tensor, checks: Checks) -> Tensor:
    """The classifier's logits `[B,classes]` of images `[B,C,H,W]` in [0,1]; raises PluginFault if it fails."""
    plugin = f"classifier {cell.classifier!r}"
    try:
        logits = loaded.classifier(x)
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        checks.settle()  # the purifier's output may be the cause
        raise PluginFault.of(plugin, error) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x) or not logits.shape[1]:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise PluginFault(f"{plugin} returned {got}, it must return [{len(x)}, classes]")
    checks.add(f"{plugin} returned", logits)
    return logits


def predict(cell: Cell, loaded: Loaded, purified: Tensor, checks: Checks) -> tuple[Tensor, int]:
    """The class of every row, `[B]` int64, and the number of classes.

    Of K purified images it is the class of most of them; ties go to the lowest class.
    """
    logits = classify(cell, loaded, purified.flatten(0, purified.ndim - 4), checks)
    classes = logits.shape[1]
    predicted = logits.argmax(1)
    if purified.ndim == 4:
        return predicted, classes
    return F.one_hot(predicted.view(purified.shape[:2]), classes).sum(0).argmax(1), classes


def vote(cell: Cell, loaded: Loaded, purified: Tensor, block_of_row: Tensor, blocks: int, checks: Checks) -> Tensor:
    """Votes per class of every block, `[blocks, classes]` int64; only they leave the device."""
    predicted, classes = predict(cell, loaded, purified, checks)
    ballots = block_of_row * classes + predicted
    votes = torch.zeros(blocks * classes, dtype=torch.int64, device=predicted.device)
    return votes.scatter_add_(0, ballots, torch.ones_like(ballots)).view(blocks, classes)
