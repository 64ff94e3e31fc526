"""Gaussian noise in training: a classifier for plain randomized smoothing, the baseline of Cohen et al. (2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from classifiers.nets.cnn import CNN

_ROWS = 250  # images in one call of a network


def noised_at(sigmas: Sequence[float]) -> Callable[[Tensor, Generator], Tensor]:
    """A transform `(x [B,C,H,W] in [0,1], generator) -> x + sigma z`; each image gets one of `sigmas`, at random.

    The result is not clipped: the purifier `none` hands the noisy image to the classifier as it is.
    """

    def add_noise(x: Tensor, generator: Generator) -> Tensor:
        index = torch.randint(len(sigmas), (len(x),), generator=generator, device=x.device)
        sigma = sum(value * (index == i) for i, value in enumerate(sigmas))  # no copy from the host, which would wait
        assert isinstance(sigma, Tensor)
        return x + sigma.view(-1, 1, 1, 1) * torch.randn(x.shape, generator=generator, device=x.device)

    return add_noise


@torch.inference_mode()
def noisy_accuracy(
    model: CNN, images: Tensor, labels: Tensor, sigmas: Sequence[float], draws: int = 1
) -> dict[str, float]:
    """Share of noisy `images [N,C,H,W]` classified as `labels [N]`, by sigma: single draws, `draws` of each image."""
    generator = Generator(images.device).manual_seed(1)
    accuracy = {}
    for sigma in sigmas:
        hits = []
        for x, y in [*zip(images.split(_ROWS), labels.split(_ROWS), strict=True)] * draws:
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            hits.append((model(x + sigma * noise).argmax(1) == y).float())
        accuracy[f"{sigma:g}"] = round(float(torch.cat(hits).mean()), 4)
    return accuracy
