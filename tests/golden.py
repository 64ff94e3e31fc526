"""Golden votes: what every purifier and every certifier gives today, so that a change of counts is noticed.

`python -P tests/golden.py` writes golden.json anew. Do that only together with a new version number in
bench/engine/versions.py or in `purifiers.nets` or `classifiers.nets`, or with a change of a plugin's own file.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from bench.certify import rules
from bench.certify.base import Tally
from bench.engine.engine import Engine
from bench.engine.noise import PURIFIER, SMOOTHING, RowRng
from bench.engine.versions import ENGINE_VERSION, NOISE_VERSION
from bench.sweep.plan import Plan, make_plan
from bench.sweep.preset import load_preset
from classifiers.nets import NETS_VERSION as CLASSIFIER_NETS_VERSION
from purifiers.nets import NETS_VERSION

FILE = Path(__file__).with_name("golden.json")
VERSIONS = [NOISE_VERSION, ENGINE_VERSION, NETS_VERSION, CLASSIFIER_NETS_VERSION]
ALSO = "dpm-solver:steps=3,none@cnn:path=mnist5k/noisy-classifier"  # of embedded-fair
IMAGES, DRAWS, SIGMA = 3, 6, 1.0  # much noise: votes of one image differ
MARGIN = 0.5  # between the two largest logits: rounding of other processors and versions of torch moves them far less
RULE = {"n0": 10, "n": 200, "alpha": 0.001, "block": 50, "seed": 0, "radii": [0.0, 0.25, 0.5], "n_max": 1000}


def votes() -> dict[str, dict[str, list]]:
    """Purifier -> of every draw of every image: the predicted class (None below the margin) and the mean pixel."""
    asked = {"images": IMAGES, "sigmas": [SIGMA], "precision": "fp32"}
    golden = {}
    for rows in ({}, {"purifiers": ALSO}):
        golden |= _votes_of(make_plan(load_preset("embedded", asked | rows), "cpu"))
    return golden


def _votes_of(planned: Plan) -> dict[str, dict[str, list]]:
    clean = {i: planned.split.images[i] for i in planned.images}
    engine = Engine(clean, planned.weights, torch.device("cpu"), planned.plugin_files)
    golden = {}
    for cell in planned.cells:
        classes: list[int | None] = []
        means: list[float] = []
        for draw in range(DRAWS):
            _, purified, predicted = engine.show(cell, planned.images, draw)
            top = torch.topk(engine._prepare(cell).classifier(torch.from_numpy(purified)), 2).values
            sure = (top[:, 0] - top[:, 1] > MARGIN).tolist()
            classes += [int(k) if s else None for k, s in zip(predicted, sure, strict=True)]
            means += [round(float(image.mean()), 5) for image in purified]
        golden[cell.label] = {"classes": classes, "means": means}
    return golden


def noise() -> dict[str, list[float]]:
    """Stream -> the first values of two rows."""
    rows = torch.tensor([3, 1 << 41])
    like = torch.zeros(2, 1, 1, 3)
    return {name: RowRng(7, name, rows, rows).normal(like).flatten().tolist() for name in (SMOOTHING, PURIFIER)}


def certificates() -> dict[str, list[float]]:
    """Rule -> predicted class, draws and radius of an image whose class 2 has probability 0.97."""
    golden = {}
    for name in rules.NAMES:
        sweep = RULE | {"certifier": name}
        certifier = rules.of_sweep(sweep, SIGMA)
        tally, draws = Tally({}, {}, 0, 2), np.random.default_rng(0)
        while requests := certifier.missing(tally):
            for request in requests:
                hits = int(draws.binomial(request.draws, 0.97))
                getattr(tally, request.stage)[request.first] = (request.draws - hits, 0, hits)
        made = certifier.certify(tally)
        assert made is not None and made.predicted is not None
        golden[name] = [made.predicted, made.draws, made.radius]
    return golden


if __name__ == "__main__":
    record = {"versions": VERSIONS, "votes": votes(), "noise": noise(), "certificates": certificates()}
    FILE.write_text(json.dumps(record, indent=1) + "\n")
