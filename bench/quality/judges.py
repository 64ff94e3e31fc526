"""Who judges purified images: the networks behind the metrics, each named, or why it cannot be had."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import InputError
from bench.names import nearest
from bench.quality.distances import frechet_distance, l2, transport_cost
from bench.store.quality import KINDS, Network
from classifiers.nets import files as classifier_files
from classifiers.nets.cnn import CNN
from purifiers.training.perceptual import TRUNKS, TrunkUnavailable, feature_distance, lpips_distance

BATCH = 50  # images that go through a judging network together
PIXELS = Network("no network: pixels")
PERCEPTUAL = ("auto", "lpips-alex", "lpips-vgg", "features")
LPIPS = {"lpips-alex": ("alex", "LPIPS (AlexNet, at 224)"), "lpips-vgg": ("vgg", "LPIPS (VGG, at 224)")}
SECOND = "{0}/features, a second classifier that is never evaluated"  # as the cards of its networks call it
SHARED = {"cifar10-jpeg": "cifar10"}  # a data set whose networks are the other's


class NotHere(Exception):
    """A network cannot be had; the message says why and the remedy, without naming a folder of this machine."""


@dataclass(frozen=True)
class Judge:
    """A metric: the network that judges, and the function that it makes of purified images `[n,C,H,W]` in [0,1].

    It gives a figure for each image, `[n]`, or one for all.
    """

    network: Network
    measure: Callable[[np.ndarray], np.ndarray | float]


@dataclass(frozen=True)
class Setting:
    """What judges need to know.

    Attributes:
        clean: images `[n,C,H,W]` in [0,1], in the order of the purified ones.
        dataset: theirs.
        classifier: logits function of the run, and its name; weights: its files.
        perceptual: one of `PERCEPTUAL`.
        device: where networks run.
    """

    clean: np.ndarray
    dataset: str
    classifier: Callable[[Tensor], Tensor]
    name: str
    weights: tuple[Path, ...]
    perceptual: str = "auto"
    device: str = "cpu"


def judges(setting: Setting, wanted: Iterable[str] = tuple(KINDS)) -> tuple[dict[str, Judge], dict[str, str]]:
    """The judges of the metrics that are wanted; and by metric, why there is none.

    Raises:
        ValueError: a metric or a perceptual distance is not known; the message lists those that are.
    """
    if setting.perceptual not in PERCEPTUAL:
        raise InputError(nearest("perceptual distance", setting.perceptual, PERCEPTUAL))
    found, missing = {}, {}
    for metric in wanted:
        if metric not in MAKERS:
            raise InputError(nearest("metric", metric, MAKERS))
        try:
            found[metric] = MAKERS[metric](setting)
        except NotHere as error:
            missing[metric] = str(error)
    return found, missing


def pixel_judge(measure: Callable[[np.ndarray, np.ndarray], Any]) -> Callable[[Setting], Judge]:
    return lambda setting: Judge(PIXELS, lambda purified: measure(purified, setting.clean))


def perceptual(setting: Setting) -> Judge:
    """LPIPS where a trunk can be had (AlexNet, its authors' choice for judging, then VGG); else its arithmetic on the
    features of the data set's second classifier."""
    asked = PERCEPTUAL[1:] if setting.perceptual == "auto" else (setting.perceptual,)
    reasons = []
    for name in asked:
        try:
            return by_features(setting) if name == "features" else by_lpips(setting, name)
        except NotHere as error:
            reasons.append(str(error))
    raise NotHere("; ".join(reasons))


def by_lpips(setting: Setting, name: str) -> Judge:
    net, words = LPIPS[name]
    try:
        with warnings.catch_warnings(action="ignore"):  # lpips asks torchvision in words that are out of fashion
            distance = lpips_distance(setting.device, net)
    except TrunkUnavailable as error:
        raise NotHere(f"torchvision could not fetch {TRUNKS[net]}, LPIPS' trunk") from error
    return Judge(Network(words, f"{TRUNKS[net]}, lpips {version('lpips')}"), paired(setting, distance))


def by_features(setting: Setting) -> Judge:
    zoo = SHARED.get(setting.dataset, setting.dataset)
    path = classifier_files.BUNDLED / zoo / "features.safetensors"
    try:
        network = classifier_files.load_cnn(path, setting.device)
    except classifier_files.WeightsError as error:
        raise NotHere(
            f"there is no second classifier of {zoo} (`bench train --dataset {zoo} --stages features` makes one)"
        ) from error
    words = f"LPIPS' arithmetic on the features of {SECOND.format(zoo)}"
    return Judge(Network(words, content(path)), paired(setting, feature_distance(network.features)))


def paired(setting: Setting, distance: Callable[[Tensor, Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
    """A distance in [-1,1], batch by batch, of each purified image to its clean one."""

    @torch.inference_mode()
    def measure(purified: np.ndarray) -> np.ndarray:
        pairs = ([on(setting, part, at) for part in (setting.clean, purified)] for at in range(0, len(purified), BATCH))
        return torch.cat([distance(2 * a - 1, 2 * b - 1) for a, b in pairs]).double().cpu().numpy()

    return measure


def classifier_features(setting: Setting) -> Judge:
    """The Fréchet distance as the classifier of the run sees it."""
    network = setting.classifier
    if isinstance(network, CNN):
        what, embed = "features of its last map, averaged over space", lambda x: network.features(x)[-1].mean((2, 3))
    else:
        what, embed = "logits", network
    measure, count = frechet(setting, embed)
    hashes = " ".join(content(path) for path in setting.weights)
    return Judge(Network(f"{setting.name}, the classifier that votes: {count} {what}", hashes), measure)


def inception(setting: Setting) -> Judge:
    """FID by torch-fidelity's Inception, whose weights are TensorFlow's of 2015 as in all published figures."""
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as library
    except ImportError as error:
        raise NotHere("torch-fidelity is not installed (`pip install purifybench[metrics]`)") from error
    file = library.URL_INCEPTION_V3.rpartition("/")[2]
    try:  # the library's own loading admits any pickle, so this one goes first: it refuses all but tensors
        with contextlib.redirect_stdout(sys.stderr):
            torch.hub.load_state_dict_from_url(
                library.URL_INCEPTION_V3, progress=False, check_hash=True, weights_only=True
            )
        network = library.FeatureExtractorInceptionV3("inception", ["2048"]).to(setting.device)
    except OSError as error:
        raise NotHere(f"its Inception weights, {file}, could not be fetched") from error
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise NotHere(f"{file} in torch.hub's cache is not what torch-fidelity published; delete it") from error

    def embed(x: Tensor) -> Tensor:
        pixels = (x.expand(-1, 3, -1, -1).clamp(0, 1) * 255).round().to(torch.uint8)  # as a PNG would hold them
        return network(pixels)[0]

    measure, count = frechet(setting, embed)
    return Judge(Network(f"Inception v3 (TensorFlow's of 2015, by torch-fidelity), {count} features", file), measure)


def frechet(setting: Setting, embed: Callable[[Tensor], Tensor]) -> tuple[Callable[[np.ndarray], float], int]:
    """The Fréchet distance of purified to clean images in features `embed`, and how many features these are."""

    @torch.inference_mode()
    def features(images: np.ndarray) -> np.ndarray:
        parts = [embed(on(setting, images, at)) for at in range(0, len(images), BATCH)]
        return torch.cat(parts).double().cpu().numpy()

    clean = features(setting.clean)
    return (lambda purified: frechet_distance(features(purified), clean)), clean.shape[1]


def on(setting: Setting, images: np.ndarray, at: int) -> Tensor:
    """A batch of images on the device, a copy: a network may write into what it is given."""
    return torch.from_numpy(images[at : at + BATCH].copy()).to(setting.device)


def content(path: Path) -> str:
    """A hash of a weight file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


MAKERS: dict[str, Callable[[Setting], Judge]] = {
    "perceptual": perceptual,
    "l2": pixel_judge(l2),
    "transport": pixel_judge(transport_cost),
    "frechet": classifier_features,
    "fid": inception,
}
