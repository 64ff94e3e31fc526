"""The frozen records that the parts of the harness exchange. This module does not import torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
from pydantic_core import to_json

Stage = Literal["select", "estimate"]
DISCRETE = "discrete"  # `Cell.noise` of the exact sampler
EACH_SIGMA = "{sigma}"  # in a parameter of a row's classifier: one classifier for each noise level

_OPTIONAL = ("compute", "split", "versions", "data_hash", "noise")
_SHOWN = ("own_classifier", "by_sigma")  # no part of a key
COUNTED = "counts"  # source of a row's radii: counted draws, or a published log
IMPORTED = "imported, radii only"


def parameters_text(parameters: Mapping[str, object]) -> str:
    """`steps=3, solver=heun3`; empty without parameters."""
    return ", ".join(f"{key}={value}" for key, value in parameters.items())


def label_of(plugin: str, parameters: str) -> str:
    """`pf-ode(steps=3)`: a plugin's name with its parameters as text."""
    return f"{plugin}({parameters})" if parameters else plugin


@dataclass(frozen=True)
class Cell:
    """One point of a sweep: all facts that decide its counts, and no others.

    `N0`, `N`, `alpha`, the batch size and the number of images are absent on purpose: counts are facts about draws,
    and certificates are computed from them afterwards.

    Attributes:
        purifier, parameters: the plugin's name and all of its parameters.
        classifier, classifier_parameters: name and parameters of the classifier.
        dataset, split: names of the data set and of its part. A run stores a hash of each image and checks it.
        data_hash: fingerprint of all images, in cells of earlier versions; empty in others.
        sigma: standard deviation of the smoothing noise, in [0,1] pixel units.
        seed: of the noise.
        precision: of the purifier's networks: `fp32`, `tf32`, `bf16` or `fp16`.
        device_type: `cpu` or `cuda`; their arithmetic differs in the last bits.
        hashes: name -> fingerprint of plugin code, of weights and of a stopping rule.
        versions: name -> version number of the parts of the harness that decide counts: `noise`, `engine`, `nets`,
            `classifier nets`. Empty in cells of earlier versions, which hashed source files instead.
        compute: `rows` in one call of a network, and if set `channels_last` and `compile` (a mode of torch.compile).
            Only if networks compute differently: `networks`, role -> the options in which it differs (`precision`,
            too), and `classifier`, the same of the classifier's network.
        noise: `discrete` for the exact sampler of 8-bit images; empty for Gaussian noise in float32.
        own_classifier: the row names this classifier itself, instead of the one of its preset. It decides the label
            and no count, so it is no part of the key.
        by_sigma: of a row with a classifier for each noise level, its parameters that name one, as the row has them:
            `path` -> `mnist5k/noisy-classifier-{sigma}`. They make one row of its cells, and are no part of the key.
    """

    purifier: str
    parameters: Mapping[str, object]
    classifier: str
    classifier_parameters: Mapping[str, object]
    dataset: str
    data_hash: str
    sigma: float
    seed: int
    precision: str
    device_type: str
    hashes: Mapping[str, str]
    compute: Mapping[str, object] = field(default_factory=dict)
    split: str = ""
    versions: Mapping[str, int] = field(default_factory=dict)
    noise: str = ""
    own_classifier: bool = False
    by_sigma: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """See `key_of`."""
        return key_of(asdict(self))

    def to_json(self) -> str:
        facts = asdict(self)
        for name in ("noise", *_SHOWN):  # cells without it are stored as before, so that earlier versions
            if not facts[name]:  # read them
                del facts[name]
        return json.dumps(facts)

    @property
    def classifier_text(self) -> str:
        """The classifier with its parameters: `cnn(path=cifar10/classifier)`."""
        return label_of(self.classifier, parameters_text(self.classifier_parameters))

    @property
    def parameters_text(self) -> str:
        """The parameters as text, and the classifier among them if the row names its own: `steps=4`."""
        named = parameters_text({**self.classifier_parameters, **self.by_sigma})
        own = {"classifier": label_of(self.classifier, named)} if self.own_classifier else {}
        return parameters_text({**self.parameters, **own})

    @property
    def label(self) -> str:
        """The purifier with its parameters: `pf-ode(steps=4)`; if the row names its classifier, with that, too."""
        return label_of(self.purifier, self.parameters_text)

    @classmethod
    def from_json(cls, text: str) -> Cell:
        """The cell of a text of `to_json`; raises TypeError or ValueError for wrong names, types or values."""
        cell = cls(**json.loads(text))
        _cells().validate_json(text, strict=True)
        if not 0 < cell.sigma < math.inf:
            raise ValueError(f"sigma is {cell.sigma}")
        return cell


@cache
def _cells() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Cell)


def key_of(facts: Mapping[str, object]) -> str:
    """Sixteen hexadecimal digits of the hash of a cell's canonical form, JSON with sorted keys.

    Optional facts enter the key only if they are set, so that cells of earlier versions keep their keys.
    """
    facts = {n: value for n, value in facts.items() if n not in _SHOWN and (n not in _OPTIONAL or value)}
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, order=True)
class Block:
    """Consecutive draws of one image: the unit of work, of resuming and of distribution.

    Attributes:
        cell: the cell's key.
        image: index in the test split.
        stage: selection and estimation use independent draws.
        first, draws: draws `first` to `first + draws - 1` of the stage.
    """

    cell: str
    image: int
    stage: Stage
    first: int
    draws: int


@dataclass(frozen=True)
class Cost:
    """The cost of a block: its share of the cost of its batch.

    Attributes:
        nfe: network evaluations of the purifier, in rows (one row through one network is one).
        classifier_rows: rows through the classifier.
        noise_s, purify_s, classify_s: seconds by stage, of the device.
        peak_bytes: highest memory of the process (CPU) or of the device (GPU) so far.
        device: its name and the number of threads.
    """

    nfe: int
    classifier_rows: int
    noise_s: float
    purify_s: float
    classify_s: float
    peak_bytes: int
    device: str


@dataclass(frozen=True)
class StaticCost:
    """The cost of one image by counting instead of timing: it does not depend on the device.

    Attributes:
        evaluations: of networks, by the purifier for one image. Adaptive solvers need others for other images.
        evaluation_flops: floating-point operations of one evaluation, the mean if the purifier has several networks. A
            multiplication and an addition are two. Matrix products, convolutions and attention count, nothing else.
        noise_numbers: normal numbers that the purifier draws for one image.
        parameters: of the purifier's networks.
        classifier_flops, classifier_parameters: of one row through the classifier's network.
        operations: fingerprint of the purifier's tensor operations and their shapes. Purifiers with equal ones do the
            same work, on networks of one architecture.
    """

    evaluations: int
    evaluation_flops: float
    noise_numbers: int
    parameters: int
    classifier_flops: float
    classifier_parameters: int
    operations: str


@dataclass(frozen=True)
class Counts:
    """Votes per class of one block (`len == K`, summing to its draws), and their cost.

    Attributes:
        start_s: seconds of loading, compiling and warming up by name, with the first block of a cell on a worker.
        worker: random name of the engine that counted; it is not stored.
    """

    block: Block
    votes: tuple[int, ...]
    cost: Cost
    start_s: Mapping[str, float] = field(default_factory=dict)
    worker: str = field(default="", compare=False)


@dataclass(frozen=True)
class Certificate:
    """The certificate of one image, with confidence `1 - alpha`.

    Attributes:
        predicted: the class; None if the certifier abstains.
        draws: estimation draws that were used.
        p_lower: lower confidence bound of the class's probability.
        radius: L2, in [0,1] pixel units; 0 if the certifier abstains.
        rule: name of the certifier.
        p_upper: upper confidence bound of the class's probability; 1 for one-sided rules, which have none.
    """

    predicted: int | None
    draws: int
    p_lower: float
    radius: float
    rule: str
    p_upper: float = 1.0


# Noisy and purified images `[M,C,H,W]`, and predicted classes `[M]`.
Shown = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """Blocks of one cell that pass the networks in one batch."""

    cell: Cell
    blocks: tuple[Block, ...]


def as_json(record: Any) -> str:
    """A record, or a container of them, as indented JSON; null for infinity and NaN, which JSON lacks."""
    return json.dumps(plain(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """A record, or a container of them, as lists, dictionaries, strings and numbers; None for infinity and NaN."""
    return json.loads(to_json(value, inf_nan_mode="null"))
