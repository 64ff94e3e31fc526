"""What a sweep on many devices would take: hours, blocks, bytes, from rates that were measured. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """A sweep and what it runs on.

    Attributes:
        rates: purifier -> draws per second of one device, the classifier included.
        sigmas, images: how many; every purifier certifies every image at every sigma.
        n0, n: draws of an image, of the selection and of the estimation (their mean, where a rule stops early).
        block, batch: draws that are stored, and that travel, together.
        devices, machines: that count.
        parameters: bytes of all networks; pixels: bytes of all images.
    """

    rates: Mapping[str, float]
    sigmas: int
    images: int
    n0: int
    n: float
    block: int
    batch: int
    devices: int
    machines: int
    parameters: int
    pixels: int


@dataclass(frozen=True)
class Measured:
    """What was measured of this project's own parts.

    Attributes:
        added: blocks that the store takes in a second.
        stored, sent: bytes of a block in the database, and of its counts on the way to the driver.
        asked: bytes of a task of one batch, on the way to a worker.
        setup: seconds until a worker is ready; overhead: share of a device's time that is not its networks'.
    """

    added: float
    stored: float
    sent: float
    asked: float
    setup: float
    overhead: float


@dataclass(frozen=True)
class Projection:
    """What a sweep would take.

    Attributes:
        draws, blocks, batches: in all.
        seconds: by purifier, all devices at work on it.
        startup, tail: seconds until the devices are at work, and while the last ones are.
        mean, peak: blocks a second that the driver stores, over the whole sweep and for its fastest purifier.
        store: blocks a second that it could store.
        incoming, outgoing: bytes a second to and from the driver at the peak.
        database: bytes of the results; shipped: bytes that travel once, to all machines.
    """

    draws: float
    blocks: float
    batches: float
    seconds: Mapping[str, float]
    startup: float
    tail: float
    mean: float
    peak: float
    store: float
    incoming: float
    outgoing: float
    database: float
    shipped: float

    @property
    def hours(self) -> float:
        return (sum(self.seconds.values()) + self.startup + self.tail) / 3600

    @property
    def kept_up(self) -> bool:
        """Whether the store is faster than the devices, at their fastest."""
        return self.store >= self.peak


def project(load: Load, measured: Measured) -> Projection:
    """How long, how much, how fast.

    The networks take `draws / rate`; the harness adds its overhead. A sweep ends when its last batch does, which the
    other devices wait for.
    """
    per_image = load.n0 + load.n
    blocks_of_image = math.ceil(load.n0 / load.block) + math.ceil(load.n / load.block)
    per_block = per_image / blocks_of_image
    of_purifier = load.sigmas * load.images * per_image
    seconds = {name: of_purifier / rate / load.devices / (1 - measured.overhead) for name, rate in load.rates.items()}
    blocks = len(load.rates) * load.sigmas * load.images * blocks_of_image
    batches = blocks * per_block / load.batch
    fastest = max(load.rates.values()) * load.devices  # draws a second, without any overhead
    peak = fastest / per_block
    return Projection(
        draws=of_purifier * len(load.rates),
        blocks=blocks,
        batches=batches,
        seconds=seconds,
        startup=measured.setup,
        tail=load.batch / min(load.rates.values()),
        mean=blocks / sum(seconds.values()),
        peak=peak,
        store=measured.added,
        incoming=peak * measured.sent,
        outgoing=fastest / load.batch * measured.asked,
        database=blocks * measured.stored,
        shipped=load.machines * (load.parameters + load.pixels),
    )


def rate(nfe: float, evaluations: float, classifications: float) -> float:
    """Draws per second of a purifier, from those of one network evaluation and of the classifier, each alone."""
    return 1 / (nfe / evaluations + 1 / classifications)
