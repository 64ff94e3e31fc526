"""Metrics of purified images, each with the name of its network, or with the reason why it is unavailable."""

from __future__ import annotations

import contextlib
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
from purifiers.nets.hub.cards import fingerprint
from purifiers.training import imagenet
from purifiers.training.perceptual import TRUNKS, TrunkUnavailable, feature_distance, lpips_distance

_BATCH = 50  # images in one call of a network
_PIXELS = Network("no network: pixels")
_LPIPS = {"lpips-alex": ("alex", "LPIPS (AlexNet, at 224)"), "lpips-vgg": ("vgg", "LPIPS (VGG, at 224)")}
_PERCEPTUAL = ("auto", *_LPIPS, "features")
_SECOND = "{0}/features, a second classifier that is never evaluated"  # the name in the cards of trained networks
_SHARED = {"cifar10-jpeg": "cifar10"}  # data set -> the data set whose networks it uses


class Unavailable(Exception):
    """A network is unavailable; the message gives the reason and the remedy, and no path of this machine."""


@dataclass(frozen=True)
class Metric:
    """A metric: its network, and its function of purified images `[n,C,H,W]` in [0,1].

    The function returns a value for each image, `[n]`, or one for the whole set.
    """

    network: Network
    measure: Callable[[np.ndarray], np.ndarray | float]


@dataclass(frozen=True)
class Reference:
    """The clean images that purified ones are compared with, and the settings of the comparison.

    Attributes:
        clean: images `[n,C,H,W]` in [0,1], in the order of the purified ones.
        dataset: of the images.
        classifier: logits function of the run's classifier.
        name: of the classifier.
        weights: files of the classifier.
        perceptual: `auto`, `lpips-alex`, `lpips-vgg` or `features`.
        device: of the networks.
    """

    clean: np.ndarray
    dataset: str
    classifier: Callable[[Tensor], Tensor]
    name: str
    weights: tuple[Path, ...]
    perceptual: str = "auto"
    device: str = "cpu"


def load_metrics(reference: Reference, names: Iterable[str] = tuple(KINDS)) -> tuple[dict[str, Metric], dict[str, str]]:
    """The available metrics by name, and the reasons why the others are unavailable.

    Raises:
        ValueError: unknown metric or perceptual distance; the message lists the known ones.
    """
    if reference.perceptual not in _PERCEPTUAL:
        raise InputError(nearest("perceptual distance", reference.perceptual, _PERCEPTUAL))
    available, missing = {}, {}
    for name in names:
        if name not in _BUILDERS:
            raise InputError(nearest("metric", name, _BUILDERS))
        try:
            available[name] = _BUILDERS[name](reference)
        except Unavailable as error:
            missing[name] = str(error)
    return available, missing


def _on_pixels(measure: Callable[[np.ndarray, np.ndarray], Any]) -> Callable[[Reference], Metric]:
    return lambda reference: Metric(_PIXELS, lambda purified: measure(purified, reference.clean))


def _perceptual(reference: Reference) -> Metric:
    """LPIPS on AlexNet (its authors' recommendation for evaluation), else on VGG, else on features of the data set.

    The last one is the formula of LPIPS on the feature maps of the data set's second classifier.
    """
    reasons = []
    for name in _PERCEPTUAL[1:] if reference.perceptual == "auto" else (reference.perceptual,):
        try:
            return _by_features(reference) if name == "features" else _by_lpips(reference, name)
        except Unavailable as error:
            reasons.append(str(error))
    raise Unavailable("; ".join(reasons))


def _by_lpips(reference: Reference, name: str) -> Metric:
    net, title = _LPIPS[name]
    try:
        with warnings.catch_warnings(action="ignore"):  # lpips calls torchvision with deprecated arguments
            distance = lpips_distance(reference.device, net)
    except TrunkUnavailable as error:
        raise Unavailable(f"torchvision could not fetch {TRUNKS[net]}, LPIPS' trunk") from error
    return Metric(Network(title, f"{TRUNKS[net]}, lpips {version('lpips')}"), _paired(reference, distance))


def _by_features(reference: Reference) -> Metric:
    zoo = _SHARED.get(reference.dataset, reference.dataset)
    path = classifier_files.BUNDLED / zoo / "features.safetensors"
    try:
        network = classifier_files.load_cnn(path, reference.device)
    except classifier_files.WeightsError as error:
        raise Unavailable(
            f"there is no second classifier of {zoo} (`bench train --dataset {zoo} --stages features` makes one)"
        ) from error
    title = f"LPIPS' arithmetic on the features of {_SECOND.format(zoo)}"
    return Metric(Network(title, fingerprint(path)[:16]), _paired(reference, feature_distance(network.features)))


def _by_imagenet(reference: Reference) -> Metric:
    """The distance in the features of a network that has seen neither data set of the project."""
    try:
        distance = imagenet.imagenet_distance(reference.device)
    except imagenet.JudgeUnavailable as error:
        raise Unavailable(str(error)) from error
    return Metric(Network(imagenet.JUDGE, imagenet.SHA256), _paired(reference, distance))


def _paired(reference: Reference, distance: Callable[[Tensor, Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
    """The distance of each purified image to its clean one; `distance` takes images in [-1,1]."""
    pairs = _batched(reference, lambda a, b: distance(2 * a - 1, 2 * b - 1))
    return lambda purified: pairs(reference.clean, purified)


def _batched(reference: Reference, network: Callable[..., Tensor]) -> Callable[..., np.ndarray]:
    """A network as a function of sets of images `[n,C,H,W]`, which it takes in batches on its device."""

    @torch.inference_mode()
    def outputs(*sets: np.ndarray) -> np.ndarray:
        starts = range(0, len(sets[0]), _BATCH)  # copies, because a network may write into its input
        batches = ([torch.from_numpy(x[at : at + _BATCH].copy()).to(reference.device) for x in sets] for at in starts)
        return torch.cat([network(*batch) for batch in batches]).double().cpu().numpy()

    return outputs


def _classifier_features(reference: Reference) -> Metric:
    """The Fréchet distance on features of the run's classifier."""
    network = reference.classifier
    if isinstance(network, CNN):
        outputs, embed = "features of its last map, averaged over space", lambda x: network.features(x)[-1].mean((2, 3))
    else:
        outputs, embed = "logits", network
    hashes = " ".join(fingerprint(path)[:16] for path in reference.weights)
    return _frechet(reference, embed, f"{reference.name}, the classifier that votes: {{}} {outputs}", hashes)


def _inception(reference: Reference) -> Metric:
    """FID with torch-fidelity's Inception, which has TensorFlow's weights of 2015 as all published FIDs do."""
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as library
    except ImportError as error:
        raise Unavailable("torch-fidelity is not installed (`pip install purifybench[metrics]`)") from error
    file = library.URL_INCEPTION_V3.rpartition("/")[2]
    try:  # the library would load any pickle; this call caches the file first, and refuses all but tensors
        with contextlib.redirect_stdout(sys.stderr):
            torch.hub.load_state_dict_from_url(
                library.URL_INCEPTION_V3, progress=False, check_hash=True, weights_only=True
            )
        network = library.FeatureExtractorInceptionV3("inception", ["2048"]).to(reference.device)
    except OSError as error:
        raise Unavailable(f"its Inception weights, {file}, could not be fetched") from error
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise Unavailable(f"{file} in torch.hub's cache is not what torch-fidelity published; delete it") from error

    def embed(x: Tensor) -> Tensor:
        pixels = (x.expand(-1, 3, -1, -1).clamp(0, 1) * 255).round().to(torch.uint8)  # as a PNG would hold them
        return network(pixels)[0]

    return _frechet(reference, embed, "Inception v3 (TensorFlow's of 2015, by torch-fidelity), {} features", file)


def _frechet(reference: Reference, embed: Callable[[Tensor], Tensor], title: str, weights: str) -> Metric:
    """The Fréchet distance of purified to clean images in the features of a network.

    Parameters:
        embed: images `[B,C,H,W]` to features `[B,d]`.
        title: name of the network, with `{}` for the number of features.
        weights: hash of the network.
    """
    features = _batched(reference, embed)
    clean = features(reference.clean)
    network = Network(title.format(clean.shape[1]), weights)
    return Metric(network, lambda purified: frechet_distance(features(purified), clean))


_BUILDERS: dict[str, Callable[[Reference], Metric]] = {
    "perceptual": _perceptual,
    "imagenet": _by_imagenet,
    "l2": _on_pixels(l2),
    "transport": _on_pixels(transport_cost),
    "frechet": _classifier_features,
    "fid": _inception,
}
