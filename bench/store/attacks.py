"""The results of attacks on the certificates of a run, stored beside it (`attack.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic.dataclasses import dataclass

from bench.store.record import read_record, write_record

if TYPE_CHECKING:
    import pandas as pd

FILE = "attack.json"
_FORMAT = 1
CODE = "attack_code"  # in `Attacks.made`: the hash of the code of an attack that is not one of the project


@dataclass(frozen=True, config={"extra": "forbid"})
class AttackedImage:
    """The attack on one certificate. Distances are L2 in [0,1] pixel units, computed in float64.

    Attributes:
        image, label: index and true class.
        predicted, radius: the certified class and radius.
        distance: of the adversarial image within the certified radius that was tried.
        estimate: share of the certified class there, on draws that chose this image among the restarts.
        hits, draws: fresh votes for the certified class there; 0 of 0 if the estimate was too high to be worth any.
        broken: these fresh draws bound the class's probability below 1/2.
        attacked: distance of the nearest image at which fresh draws bound it below 1/2; None if none was found.
    """

    image: int
    label: int
    predicted: int
    radius: float
    distance: float
    estimate: float
    hits: int
    draws: int
    broken: bool
    attacked: float | None


@dataclass(frozen=True, config={"extra": "forbid"})
class AttackedCell:
    """The attacks on the certificates of one cell.

    Attributes:
        cell: its key in the run.
        code: its key under the code that attacked.
        label, sigma: of the cell.
        gradient: how gradients were computed.
        chosen: images that were chosen; those without a certificate of a radius above 0 were not attacked.
        zero: images among them with a correct certificate of radius 0.
        images: the attacked ones.
        seconds: of all workers together.
        recounted, moved: draws that were counted again because the keys differ, and votes among them that changed.
    """

    cell: str
    code: str
    label: str
    sigma: float
    gradient: str
    chosen: int
    zero: int
    images: tuple[AttackedImage, ...]
    seconds: float
    recounted: int = 0
    moved: int = 0

    @property
    def broken(self) -> int:
        """Certificates that are broken."""
        return sum(image.broken for image in self.images)

    def certified_at(self, radii: Any) -> np.ndarray:
        """Share of the chosen images with a correct certificate of at least each of some radii `[R]`."""
        reached = [image.radius for image in self.images if image.predicted == image.label] + [0.0] * self.zero
        return self._shares(reached, radii, strict=False)

    def attacked_at(self, radii: Any) -> np.ndarray:
        """Share of the chosen images with a correct certificate that no attack within each radius has changed.

        It bounds from above the accuracy that any certificate of these predictions can reach.
        """
        right = [image for image in self.images if image.predicted == image.label]
        ends = [np.inf if image.attacked is None else image.attacked for image in right]
        return self._shares(ends + [np.inf] * self.zero, radii, strict=True)

    def _shares(self, values: list[float], radii: Any, strict: bool) -> np.ndarray:
        values_, at = np.asarray(values, float), np.asarray(radii, float)[:, None]
        return ((values_ > at) if strict else (values_ >= at)).sum(axis=1) / max(self.chosen, 1)


@dataclass(frozen=True, config={"extra": "forbid"})
class Attacks:
    """The attacks on a run.

    Attributes:
        attack: the method with its parameters.
        images, restarts, rounds, draws: settings, as `bench.attack.search.Search` has them.
        level: probability that any certificate of a cell is called broken although it holds.
        alpha: of the certificates: the share of them that may be wrong.
        made: versions and device.
        cells: the attacked cells.
        missing: label and sigma -> the reason why a cell could not be attacked.
    """

    attack: str
    images: int
    restarts: int
    rounds: int
    draws: int
    level: float
    alpha: float
    made: Mapping[str, Any]
    cells: tuple[AttackedCell, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    def same_settings(self, other: Attacks) -> bool:
        """Whether both attacked in the same way, so that their cells can stand together."""
        fields = ("attack", "images", "restarts", "rounds", "draws", "level", "alpha")
        same_code = self.made.get(CODE) == other.made.get(CODE)
        return same_code and all(getattr(self, name) == getattr(other, name) for name in fields)

    @property
    def table(self) -> pd.DataFrame:
        """A row for each cell: certificates tried and broken, those expected to be wrong at most, radii, seconds.

        `certified_median` and `attacked_median` are medians over the certificates; an image at which no attack has
        succeeded counts as infinitely far.
        """
        import pandas as pd

        rows = []
        for cell in self.cells:
            radii = [image.radius for image in cell.images]
            ends = [np.inf if image.attacked is None else image.attacked for image in cell.images]
            rows.append(
                {
                    "cell": cell.cell,
                    "label": cell.label,
                    "sigma": cell.sigma,
                    "tried": len(cell.images),
                    "broken": cell.broken,
                    "expected": self.alpha * len(cell.images),
                    "certified_median": float(np.median(radii)) if radii else np.nan,
                    "attacked_median": float(np.median(ends)) if ends else np.nan,
                    "gradient": cell.gradient,
                    "seconds": cell.seconds,
                }
            )
        return pd.DataFrame(rows)


def write_attacks(folder: Path, attacks: Attacks) -> Path:
    """Write `attack.json`; returns its path."""
    return write_record(folder / FILE, attacks, _FORMAT)


def read_attacks(folder: Path) -> Attacks | None:
    """Read `attack.json` of a folder; None if there is none. Raises ValueError as `read_record`."""
    return read_record(folder / FILE, Attacks, _FORMAT, "bench attack")


def attacks_of(folders: Mapping[str, Path]) -> dict[str, Attacks]:
    """Name -> attacks, for the folders that have some; raises ValueError as `read_attacks`."""
    return {name: found for name, folder in folders.items() if (found := read_attacks(folder)) is not None}
