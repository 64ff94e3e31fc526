"""A row's result depends on no other row, whatever the batch: networks and classifiers see a fixed number of rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.engine.arithmetic import PRECISIONS
from bench.engine.checks import Checks
from bench.engine.compute import ComputeConfig
from bench.engine.engine import Engine
from bench.engine.loader import _prepare_classifier
from bench.engine.stages import classify, purify
from bench.records import Block
from bench.sweep import preset
from bench.sweep.plan import make_plan
from classifiers.nets.pipeline import Pipeline
from classifiers.preprocessing import IMAGENET, Preprocessing
from purifiers.nets import load

CPU = torch.device("cpu")
BATCHES = (1, 7, 137, 500, 1000)
MOST = 2  # batches of one size that are compared, so that batches of one row do not take minutes
PURIFIERS = ["none", "onestep-edm", "ddpm:steps=2", "densepure:steps=2:votes=3"]
ROWS = 32


def outputs(engine, cell, image, first, draws):
    """Purified images and logits of some draws, in one batch."""
    loaded, checks = engine._prepare(cell), Checks()
    with torch.inference_mode():
        x, rng, _ = engine._noisy(cell, [Block(cell.key, image, "estimate", first, draws)])
        purified = purify(cell, loaded, x, rng, checks)
        logits = classify(cell, loaded, purified.flatten(0, purified.ndim - 4), checks)
    checks.settle()
    rows = draws if purified.ndim == 4 else -1
    return (purified if rows > 0 else purified.transpose(0, 1)), logits.view(-1, draws, logits.shape[1]).transpose(0, 1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_purifier_gives_a_row_the_same_bits_in_any_batch(tiny_preset, precision):
    planned = make_plan(preset.load_preset(str(tiny_preset(purifiers=PURIFIERS, images=1)), {}), "cpu")
    images = {i: planned.split.images[i] for i in planned.images}
    engine = Engine(images, planned.weights, CPU, planned.plugin_files)
    for planned_cell in planned.cells:
        cell = ComputeConfig(precision=precision, rows=ROWS, classifier=precision).apply(planned_cell)
        whole = outputs(engine, cell, planned.images[0], 0, max(BATCHES))
        for batch in BATCHES[:-1]:
            for first in range(0, min(max(BATCHES) - batch, MOST * batch) + 1, batch):
                part = outputs(engine, cell, planned.images[0], first, batch)
                for got, wanted in zip(part, whole, strict=True):
                    assert torch.equal(got, wanted[first : first + batch]), (cell.label, batch, first)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_the_preprocessing_of_a_classifier_gives_a_row_the_same_bits_in_any_batch(mode, precision):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 7, 4), nn.Flatten(), nn.LazyLinear(5))
    steps = Preprocessing(*IMAGENET, resize=40, mode=mode, antialias=mode != "nearest", crop=(33, 33))
    network(torch.rand(1, 3, 33, 33))
    pipeline = Pipeline(network, steps, "round", precision=precision).ready("cpu")
    classifier, x = _prepare_classifier(pipeline, {"rows": ROWS}, CPU), torch.rand(1000, 3, 28, 28)
    with torch.inference_mode():
        whole = classifier(x)
        for batch in BATCHES[:-1]:
            for first in range(0, min(1000 - batch, MOST * batch) + 1, batch):
                assert torch.equal(classifier(x[first : first + batch]), whole[first : first + batch])
    assert pipeline.rows % ROWS == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("network", "shape", "rows"), [("mnist5k/edm", (1, 28, 28), 100), ("cifar10/edm", (3, 32, 32), 50)]
)
def test_the_place_of_a_row_among_the_fixed_rows_of_the_presets_does_not_matter(network, shape, rows, precision):
    """torch rounds the last values of a tensor differently if their number is no multiple of 32; here it always is."""
    denoiser = load(network).compute_in(PRECISIONS[precision])
    alike = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).expand(rows, *shape).contiguous()
    with torch.inference_mode():
        out = denoiser(alike, 1.0)
    assert torch.equal(out, out[:1].expand_as(out))


class Strict(nn.Module):
    """Takes batches of one size only, in its preprocessing and in its network, and calls the network twice."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.network = rows, nn.Flatten()

    def forward(self, x):
        assert len(x) == self.rows
        return self.network(x) + self.network(2 * x)


@pytest.mark.parametrize("batch", [1, 4, 6, 13])
def test_a_classifiers_preprocessing_sees_fixed_rows_and_only_real_ones_are_counted(batch):
    strict = Strict(4)
    classifier, x = _prepare_classifier(strict, {"rows": 4}, CPU), torch.rand(batch, 1, 2, 2)
    assert torch.equal(classifier(x), 3 * x.flatten(1))
    assert classifier.evaluated == 2 * batch
    assert {type(part) for part in classifier.parts} >= {Strict, nn.Flatten}
