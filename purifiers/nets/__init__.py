"""Networks as denoisers: the only place that knows preconditioning, schedules and weight files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from purifiers.nets.denoisers import LevelledDenoiser

# Part of a result's identity. Raise it when the code in this package computes other numbers from the same weights: the
# golden-vote tests fail when counts change without it.
NETS_VERSION = 1


def load(
    source: str | Path, kind: str | None = None, *, label: int | str | None = None, device: str = "cpu"
) -> LevelledDenoiser:
    """The network that `source` names, in float32, without gradients; nothing of it is executed.

    The result has `denoise(u, t, labels=None)`; where the weights are a consistency model also
    `consistency(u, t, labels=None)`; and `network`, the raw module: `network(v, time, labels)`. Called itself, it is
    what purifiers are given: the consistency function of a consistency model, the denoiser of any other (clipped to
    [-1,1] where the network predicts the noise of a discrete chain).

    Parameters:
        source: a file, a folder, a bundled network, a known name or a hub id, as `sources.find` takes it.
        kind: what it is to be taken for, a key of `known.KINDS` or a word of one (`consistency`); None: what its
            content says.
        label: of a class-conditional network, the class of calls that give none: a number, or `mean`, which favours
            no class. It is the same for all images; a label that depends on the clean image would void a certificate.
        device: where it is loaded.

    Raises:
        WeightsError: it cannot be had, is damaged, would run code, is of another architecture, or what it is is in
            doubt; the message says which, and lists what it could be.
    """
    from purifiers.nets.checkpoints.loading import load

    return load(source, kind, label=label, device=device)


def convert(source: str | Path, path: str | Path, kind: str | None = None) -> Path:
    """Write a network as safetensors with a card, which `load` takes from then on; returns the weight file's path.

    Parameters:
        source, kind: as `load`.
        path: of the new file, ending in `.safetensors`; the card lies beside it.

    Raises:
        WeightsError: as `load`.
    """
    from purifiers.nets.checkpoints.loading import convert

    return convert(source, path, kind)
