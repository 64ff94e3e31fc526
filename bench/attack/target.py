"""Gradients of the smoothed classifier: noise, purifier and classifier as one differentiable function."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bench.attack.base import AttackError, Loss
from bench.engine import RowRng
from bench.engine.arithmetic import float32_arithmetic
from bench.engine.checks import out_of_memory
from bench.engine.loader import Loaded
from bench.engine.noise import PURIFIER, SMOOTHING
from bench.records import Cell

ROWS = 100  # rows that pass the networks together, so that the memory of a gradient does not grow with draws
_FIRST_DRAW = 1 << 41  # no certificate and no verdict uses the draws from here
EXACT, CHECKPOINTED = "exact", "exact, checkpointed at each network call"
STRAIGHT_THROUGH = "straight through the purifier (BPDA), which has no gradient of its own"


class SmoothedClassifier:
    """See `bench.attack.base.Target`. Noise is fixed by (seed, image, draw), and no draw is used twice.

    The gradient is that of the real function, at the precision of the cell: purifiers of one evaluation keep their
    activations, those of more evaluate each network again in the backward pass. A purifier without a gradient is
    replaced by the identity in the backward pass (Athalye, Carlini, Wagner 2018).

    Attributes:
        method: how gradients are computed, in words.
    """

    def __init__(self, cell: Cell, loaded: Loaded, clean: Tensor, images: Tensor, classes: Tensor):
        self.cell, self.clean, self.classes = cell, clean, classes
        self._loaded, self._images = loaded, images
        self._draw = _FIRST_DRAW
        several = (loaded.purifier.nfe() or math.inf) > 1 and bool(loaded.networks)
        self.method = CHECKPOINTED if several else EXACT
        self._networks: Mapping[str, Any] = loaded.networks
        if several:
            self._networks = {role: _Checkpointed(network) for role, network in loaded.networks.items()}
        self._probe()

    def _probe(self) -> None:
        """Find out whether a gradient passes through purifier and classifier; raises AttackError if none does."""
        x, rows = self.clean[:1], torch.zeros(1, dtype=torch.int64, device=self.clean.device)
        try:
            logits = self._logits(x.clone().requires_grad_(), rows, self._draw)
            if logits.requires_grad and bool(torch.autograd.grad(logits.sum(), self._probed)[0].isfinite().all()):
                return
        except RuntimeError as error:  # autograd: in-place changes, inference tensors, operations without a gradient
            if out_of_memory(error):
                raise
        self.method = STRAIGHT_THROUGH
        try:
            logits = self._logits(x.clone().requires_grad_(), rows, self._draw)
            torch.autograd.grad(logits.sum(), self._probed)
        except RuntimeError as error:
            raise AttackError(
                f"classifier {self.cell.classifier!r} passes no gradient ({error}); an attack needs one: remove "
                "no_grad, inference_mode and detach from its forward pass"
            ) from error

    def gradient(self, x: Tensor, loss: Loss, draws: int) -> Tensor:
        """See `Target`; at most about `ROWS` rows pass the networks together."""
        total = torch.zeros_like(x)
        batch = len(x)
        together = max(1, ROWS // batch)
        with float32_arithmetic(self.cell.precision, x.device):
            for first in range(0, draws, together):
                copies = min(together, draws - first)
                rows = torch.arange(batch, device=x.device).repeat(copies)
                numbers = torch.arange(copies, device=x.device).repeat_interleave(batch) + self._draw
                leaf = x.detach().repeat(copies, 1, 1, 1).requires_grad_()
                logits = self._logits(leaf, rows, numbers)
                (part,) = torch.autograd.grad(loss(logits, self.classes[rows]).sum(), leaf)
                total += part.nan_to_num(0.0).view(copies, *x.shape).sum(0)
                self._draw += copies
        return total / draws

    def _logits(self, x: Tensor, rows: Tensor, draws: Tensor | int) -> Tensor:
        """Logits `[B,K]` of noisy, purified images; their mean for a purifier that votes over several.

        Parameters:
            x: `[B,C,H,W]`.
            rows: of `clean`, `[B]`.
            draws: of each row, `[B]`, or one for all.
        """
        self._probed = x
        images, numbers = self._images[rows], torch.as_tensor(draws, device=x.device).expand(len(x))
        noisy = x + self.cell.sigma * RowRng(self.cell.seed, SMOOTHING, images, numbers).normal(x)
        rng = RowRng(self.cell.seed, PURIFIER, images, numbers)
        for network in self._loaded.networks.values():
            network.begin()
        if self.method == STRAIGHT_THROUGH:
            with torch.no_grad():
                purified = self._loaded.purifier.purify(noisy.detach(), self.cell.sigma, self._networks, rng)
            purified = noisy + (purified.float() - noisy).detach()
        else:
            purified = self._loaded.purifier.purify(noisy, self.cell.sigma, self._networks, rng).float()
        logits = self._loaded.classifier(purified.flatten(0, purified.ndim - 4))
        for network in self._loaded.networks.values():
            network.begin()  # its sum of outputs holds the graph
        return logits.view(*purified.shape[:-3], -1).mean(0) if purified.ndim > 4 else logits


class _Checkpointed:
    """A network that keeps its input only, and is evaluated again in the backward pass."""

    def __init__(self, network: Any):
        self._network = network
        self.t_min, self.t_max, self.levels = network.t_min, network.t_max, network.levels

    def __call__(self, u: Tensor, t: float | Tensor) -> Tensor:
        return checkpoint(self._network, u, t, use_reentrant=False, preserve_rng_state=False)
