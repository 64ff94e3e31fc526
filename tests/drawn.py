"""Summaries and example images that a sweep could have made, and what is read from drawn pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from matplotlib.text import Text

from bench.certify.bounds import certified_radius, clopper_pearson_lower, largest_radius
from bench.records import COUNTED, Cell, parameters_text
from bench.store.examples import Examples, Panel
from bench.summary.cells import _describe_row
from bench.summary.summary import Summary, _table_of

NOTES = ("incomplete: 1 of 36 cells have fewer images than were asked for", "measured on different devices: a; b")
FAILED = {"run": "embedded", "cell": "x", "purifier": "broken", "parameters": "", "family": "sde", "sigma": 0.5}
FAILED |= {"source": COUNTED, "rule": "cohen", "wanted": 60, "error": "returned NaN", "largest": 0.56, "images": 0}
CLASSIFY_MS = 0.05  # per vote
SIGMAS, RADII = (0.25, 0.5, 1.0), (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
PURIFIERS = {  # label: family, NFE, milliseconds, strength
    "none": ("none", 0, 0.0004, None),
    "onestep-ddpm": ("one-step", 1, 0.231, 0.00),
    "onestep-edm": ("one-step", 1, 0.236, 0.02),
    "onestep-edm-ft": ("one-step", 1, 0.238, 0.22),
    "consistency(steps=1)": ("consistency", 1, 0.237, -0.01),
    "consistency(steps=2)": ("consistency", 2, 0.451, -0.08),
    "consistency-ft(steps=1)": ("consistency", 1, 0.239, 0.24),
    "ddpm(steps=4)": ("sde", 4, 0.902, 0.03),
    "sde(steps=6)": ("sde", 6, 1.34, -0.75),
    "edm-stochastic(steps=3, churn=2.0, noise_scale=1.003)": ("sde", 5, 1.17, -0.02),
    "pf-ode(steps=3)": ("pf-ode", 5, 1.15, -0.03),
    "pf-ode-torchdiffeq(solver=midpoint, steps=2, rtol=0.01, atol=0.01, t_end=0.05)": ("pf-ode", 5, 1.21, -0.2),
}


def synthetic(
    purifiers: Mapping[str, tuple[str, float, float, float | None]] = PURIFIERS,
    sigmas: Sequence[float] = SIGMAS,
    images: int = 500,
    n: int = 50,
    alpha: float = 0.001,
    notes: Sequence[str] = (),
) -> Summary:
    """What `summarise` would make of a sweep, with images of every difficulty."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=images)
    rows, certificates, cells = [], [], {}
    for label, (family, nfe, ms, strength) in purifiers.items():
        for sigma in sigmas:
            ease = (2.6 - 1.75 * sigma + strength * sigma) if strength is not None else 2.0 - 6 * sigma**0.7
            p = 1 / (1 + np.exp(-2.2 * (ease + 1.1 * difficulty + 0.1 * rng.normal(size=images))))
            if strength is None:
                p = np.where(rng.random(images) < 0.12, 0.97, p)
            hits = rng.binomial(n, p)
            lower = np.array([clopper_pearson_lower(int(k), n, alpha) for k in np.maximum(hits, n - hits)])
            radius = np.array([certified_radius(b, sigma) for b in lower])
            cell = cell_of(label, sigma)
            key = f"{label}@{sigma}"
            cells["embedded", key] = cell
            mine = pd.DataFrame(
                {
                    "cell": key,
                    "image": np.arange(images),
                    "label": 1,
                    "predicted": np.where(lower > 0.5, np.where(hits * 2 > n, 1, 0), -1),
                    "draws": n,
                    "p_lower": lower,
                    "radius": radius,
                    "correct": (lower > 0.5) & (hits * 2 > n),
                    "rule": f"cohen (N0 = 10, N = {n}, alpha = {alpha:g})",
                    "run": "embedded",
                }
            )
            certificates.append(mine)
            rows.append(
                {
                    "run": "embedded",
                    "cell": key,
                    "purifier": cell.purifier,
                    "parameters": parameters_text(cell.parameters),
                    "networks": "edm",
                    "classifier": "cnn",
                    "family": family,
                    "dataset": cell.dataset,
                    "sigma": sigma,
                    "source": COUNTED,
                    "certifier": "cohen",
                    "sequential": False,
                    "label_aware": False,
                    "rule": mine["rule"].iloc[0],
                    "wanted": images,
                    "error": None,
                    "largest": (largest := largest_radius(n, alpha, sigma)),
                    **_describe_row(mine, RADII, largest),
                    "counted_draws": images * (n + 10),
                    "nfe": float(nfe),
                    "classifier_rows": 1.0,
                    "ms_noise": 0.01,
                    "ms_purify": (purify := ms * (1 + 0.02 * rng.normal())),
                    "ms_joint": purify + CLASSIFY_MS,
                    "ms_classify": CLASSIFY_MS,
                    "device": "cpu: AMD EPYC 7763, 2 processes of 1 thread",
                    "peak_bytes": 5e8,
                }
            )
    table = _table_of(rows, RADII, list(cells.values()))
    everything = pd.concat(certificates)
    return Summary("Embedded benchmark: 500 MNIST digits", table, everything, RADII, tuple(notes), cells)


def cell_of(label: str, sigma: float) -> Cell:
    """The cell of a label such as `pf-ode(steps=3)`."""
    name, _, rest = label.rstrip(")").partition("(")
    parameters = dict(part.split("=") for part in rest.split(", ")) if rest else {}
    typed = {key: yaml.safe_load(value) for key, value in parameters.items()}
    return Cell(name, typed, "cnn", {}, "mnist5k", "hash", sigma, 7, "fp32", "cpu", {})


def with_failed(summary: Summary, **facts: Any) -> Summary:
    """The summary with another row, of a cell that failed."""
    failed = _table_of([{**FAILED, **facts}], summary.radii, [cell_of("broken", 0.5)])
    return replace(summary, table=pd.concat([summary.table, failed], ignore_index=True))


def synthetic_examples(labels: Sequence[str] = tuple(PURIFIERS), sigmas: Sequence[float] = (1.0,), channels: int = 1):
    """Six images of noise; every fourth prediction is wrong."""
    rng = np.random.default_rng(1)

    def pictures() -> np.ndarray:
        return rng.integers(0, 256, (6, channels, 28, 28), dtype=np.uint8)

    truth = np.arange(6)
    panels = []
    for sigma in sigmas:
        noisy = pictures()
        for i, label in enumerate(labels):
            predicted = np.where((truth + i) % 4 == 0, (truth + 1) % 10, truth)
            panels.append(Panel(label, sigma, noisy, noisy if label == "none" else pictures(), predicted))
    return Examples(truth * 83, truth, tuple("0123456789"), pictures(), tuple(panels))


def words_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def names_of_points(figure: Figure) -> set[str]:
    """Names that are written beside points: words inside axes, without those of the floor and of ticks."""
    return {text.get_text() for axes in figure.axes for text in axes.texts}


def svg_words(path: Path) -> str:
    return " ".join(element.text or "" for element in ElementTree.parse(path).iter() if element.tag.endswith("text"))


def small(**options: Any) -> Summary:
    """Four purifiers at one sigma."""
    labels = ("none", "onestep-edm", "consistency(steps=1)", "ddpm(steps=4)")
    return synthetic(**{"purifiers": {k: PURIFIERS[k] for k in labels}, "sigmas": (0.5,), "images": 60, **options})


def without_networks() -> Summary:
    return small(purifiers={"none": PURIFIERS["none"], "median(size=3)": ("other", 0, 0.02, -0.4)})


def words_with(figure: Figure, *starts: str) -> list[str]:
    return [words for words in words_of(figure) if words.startswith(starts)]
