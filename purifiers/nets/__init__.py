"""Networks as denoisers: preconditioning, schedules, weight files and published checkpoints."""

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
    """Load a network in float32, without gradients; no code in its files is executed.

    The result has `denoise(u, t, labels=None)`, for a consistency model also `consistency(u, t, labels=None)`, and the
    raw module as `network(v, time, labels)`. Calling it evaluates the function for purifiers: the consistency function
    of a consistency model, otherwise the denoiser, clipped to [-1,1] if it is on a discrete chain.

    Parameters:
        source: a file, a folder, a bundled network, a known name or a hub id, in the notation of `sources.find`.
        kind: a key of `known.KINDS`, or a word of one (`consistency`); None: as the content says.
        label: default class of a class-conditional network: a number, or `mean`, which favours no class. It is the same
            for all images: a label that depended on the clean image would make a certificate unsound.
        device: of the weights.

    Raises:
        WeightsError: the network is not available, is damaged, would run code, has another architecture, or is of
            ambiguous kind; the message says which, and lists the possible kinds.
    """
    from purifiers.nets.checkpoints.loading import label_number, locate, read

    resolved = locate(source, kind)
    _, denoiser = read(resolved)
    denoiser.label = label_number(resolved.label if label is None else str(label), denoiser.classes)
    return denoiser.to(device)


def convert(source: str | Path, path: str | Path, kind: str | None = None) -> Path:
    """Write a network as a weight file of this project, with a card; returns the path of the weight file.

    Parameters:
        source, kind: as `load`.
        path: of the new file, ending in `.safetensors`; the card is written beside it.

    Raises:
        WeightsError: as `load`.
    """
    from purifiers.nets.checkpoints.loading import convert

    return convert(source, path, kind)
