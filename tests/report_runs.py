"""Runs for the tests of the report, made of votes: what is in them is known exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.records import Cell
from bench.report import write_report
from bench.store.database import COLUMNS
from bench.store.examples import Examples, Panel
from bench.store.quality import Measured, Metrics, Network, Value
from bench.store.run import Run
from bench.summary.summary import Summary, summarise

N0, N = 10, 40
PRESET = {
    "name": "small",
    "title": "Small",
    "dataset": "mnist5k",
    "certifier": "cohen",
    "n0": N0,
    "n": N,
    "alpha": 0.001,
}
PRESET |= {"n_max": None, "label_aware": False, "block": N, "radii": [0.0, 0.25, 0.5], "seed": 7, "precision": "fp32"}
PURIFIERS = {  # name: family, NFE, milliseconds, share of votes for the true class
    "none": ("none", 0, 0.001, 0.6),
    "onestep-edm": ("one-step", 1, 0.3, 0.93),
    "consistency": ("consistency", 1, 0.31, 0.95),
    "pf-ode": ("pf-ode", 5, 1.5, 0.96),
}
ROLES = {"onestep-edm": "edm", "consistency": "cm", "pf-ode": "edm"}  # of their networks


def votes_of(quality: float, images: int, sigma: float, seed: int) -> np.ndarray:
    """Votes of N for the true class, of easy and hard images."""
    rng = np.random.default_rng(seed)
    share = np.clip(quality + 0.15 * rng.normal(size=images) - 0.2 * sigma, 0.02, 1.0)
    return rng.binomial(N, share)


def _hashes(purifier: str) -> dict[str, str]:
    networks = {f"network {ROLES[purifier]}": "weights"} if purifier in ROLES else {}
    return {"purifier": f"code of {purifier}", **networks}


def static_cost(nfe: float, operations: str) -> dict[str, Any]:
    """2.5 GFLOPs an evaluation, and half a GFLOP for the classifier."""
    network = {"evaluations": int(nfe), "evaluation_flops": 2.5e9, "noise_numbers": 0, "parameters": 10**6 * (nfe > 0)}
    return {**network, "classifier_flops": 5e8, "classifier_parameters": 7, "operations": operations}


def make_run(
    folder: Path,
    purifiers: Mapping[str, tuple[str, float, float, float]] = PURIFIERS,
    sigmas: Sequence[float] = (0.25, 0.5),
    images: int = 30,
    device: str = "CPU",
    errors: Mapping[str, str] | None = None,
    missing: Mapping[str, int] | None = None,
    preset: Mapping[str, Any] | None = None,
    hits: int | None = None,
) -> Run:
    """A run of every purifier at every sigma, all images of class 0 of 3.

    Parameters:
        errors: why purifiers failed; they have no counts.
        missing: purifier -> how many images it lacks.
        hits: votes of N for the true class of every image, instead of drawn ones.
    """
    errors, missing = errors or {}, missing or {}
    cells = {
        cell.key: cell
        for sigma in sigmas
        for name in purifiers
        for cell in (Cell(name, {}, "cnn", {}, "mnist5k", "hash", sigma, 7, "fp32", "cpu", _hashes(name)),)
    }
    rows = []
    for i, (key, cell) in enumerate(cells.items()):
        _, nfe, ms, quality = purifiers[cell.purifier]
        drawn = votes_of(quality, images, cell.sigma, i) if hits is None else np.full(images, hits)
        known = 0 if cell.purifier in errors else images - missing.get(cell.purifier, 0)
        for image in range(known):
            k = int(drawn[image])
            for stage, votes in (("select", [N0, 0, 0]), ("estimate", [k, N - k, 0])):
                draws = sum(votes)
                cost = {"nfe": round(nfe * draws), "classifier_rows": draws, "noise_s": 1e-5 * draws}
                cost |= {"purify_s": ms / 1e3 * draws, "classify_s": 1e-4 * draws, "peak_bytes": 1, "device": device}
                block = {"cell": key, "image": image, "stage": stage, "first": 0, "draws": draws, "votes": votes}
                rows.append({**block, **cost})
    manifest = {
        **{"purifybench": "0.1.0", "git": "0123abc", "python": "3.11.7", "libraries": {"torch": "2.14"}},
        "format": 1,
        "classes": [str(number) for number in range(10)],
        "preset": {**PRESET, "images": images, "sigmas": list(sigmas), **(preset or {})},
        "families": {name: family for name, (family, *_) in purifiers.items()},
        "labels": {str(i): 0 for i in range(images)},
        "sweep": list(cells),
        "costs": {key: static_cost(purifiers[cell.purifier][1], cell.purifier) for key, cell in cells.items()},
    }
    failed = {key: errors[cell.purifier] for key, cell in cells.items() if cell.purifier in errors}
    return Run(folder, manifest, cells, failed, pd.DataFrame(rows, columns=list(COLUMNS)), pd.DataFrame())


def make_examples(purifiers: Sequence[str] = tuple(PURIFIERS), side: int = 8, channels: int = 1) -> Examples:
    """Four images of noise; the first prediction of every purifier is wrong."""
    rng = np.random.default_rng(1)

    def pictures() -> np.ndarray:
        return rng.integers(0, 256, (4, channels, side, side), dtype=np.uint8)

    labels = np.zeros(4, int)
    panels = []
    for sigma in (0.25, 0.5):
        noisy = pictures()
        for name in purifiers:
            purified = noisy if name == "none" else pictures()
            panels.append(Panel(name, sigma, noisy, purified, np.array([1, 0, 0, 0])))
    return Examples(np.arange(4) * 3, labels, ("cat", "dog", "<i>frog</i>"), pictures(), tuple(panels))


def make_metrics(run: Run, images: int = 20, draws: int = 1, judge: str = "a network of ours") -> Metrics:
    """Metrics of every cell of a run with counts: two distances, the better a purifier is, the lower."""
    cells = []
    for i, (key, cell) in enumerate(run.cells.items()):
        if key not in run.errors:
            far = max(0.0, 1.0 - 0.05 * i)
            values = {"perceptual": Value(far, max(0.0, far - 0.03), far + 0.04), "frechet": Value(12.5 * far)}
            trained = ("perceptual",) if cell.purifier == "consistency" else ()
            cells.append(Measured(key, key, cell.label, cell.sigma, 0, 0, trained, values))
    networks = {"perceptual": Network(judge, "0123"), "frechet": Network("cnn, the classifier that votes: 10 logits")}
    return Metrics(images, draws, networks, {"fid": "no weights"}, {"purifybench": "0.1.0"}, tuple(cells))


def report_of(
    path: Path, *runs: Run, examples: Examples | None = None, metrics: Sequence[Metrics] = ()
) -> tuple[Summary, str]:
    """The summary of runs, and the page that is made of it; `metrics` of the first ones."""
    summary = summarise(runs)
    names = list(dict.fromkeys(summary.table["run"])) if len(summary.table) else [run.folder.name for run in runs]
    manifests = {name: run.manifest for name, run in zip(names, runs, strict=True)}
    kept = {names[0]: examples} if examples is not None else {}
    measured = dict(zip(names, metrics, strict=False))
    return summary, write_report(summary, manifests, kept, path, measured).read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its words by element."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements:
            self.words.append((self.elements[-1][0], data))

    @property
    def text(self) -> str:
        return " ".join(" ".join(words for tag, words in self.words if tag not in ("script", "style")).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def record_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="record">(.*?)</script>', text, re.DOTALL)[1])


MARK = "#front-chart .points path, #front-chart .points circle"


def drawn(page):
    """The page once its charts are there."""
    page.wait_for_selector(MARK.split(",")[0] + ", #curves-chart path")
    return page
