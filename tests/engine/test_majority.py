"""A purifier that returns K images of a row: the row's class is that of most of them, and all of them are counted."""

import pytest
import torch

from bench.engine.checks import PluginFault
from bench.engine.devices import prepare_device
from bench.engine.engine import Engine
from bench.engine.noise import PURIFIER, SMOOTHING, RowRng
from bench.records import Block, Task
from bench.sweep.plan import make_plan
from bench.sweep.preset import load_preset

DRAWS = 24


def engine_of(preset):
    planned = make_plan(load_preset(str(preset), {}), "cpu")
    clean = {i: planned.split.images[i] for i in planned.images}
    return planned, Engine(clean, planned.weights, prepare_device("cpu"), planned.plugin_files)


def majority(classes, count):
    """By a plain loop: the class of most, of equals the lowest."""
    return [max(range(count), key=lambda k: (row.count(k), -k)) for row in classes.T.tolist()]


def test_a_row_has_the_class_of_most_of_its_images_and_the_cost_of_all(tiny_preset):
    planned, engine = engine_of(tiny_preset(purifiers=["densepure:steps=2:votes=3"], images=1, rows=DRAWS))
    (cell,), (image,) = planned.cells, planned.images
    (counts,) = engine.run(Task(cell, (Block(cell.key, image, "estimate", 0, DRAWS),)))
    assert (counts.cost.nfe, counts.cost.classifier_rows) == (3 * 2 * DRAWS, 3 * DRAWS)

    loaded = engine._prepare(cell)
    images, draws = torch.full((DRAWS,), image), torch.arange(DRAWS)
    x = torch.from_numpy(planned.split.images[image]).expand(DRAWS, -1, -1, -1).contiguous()
    x = x + cell.sigma * RowRng(cell.seed, SMOOTHING, images, draws).normal(x)
    with torch.inference_mode():
        rng = RowRng(cell.seed, PURIFIER, images, draws)
        purified = loaded.purifier.purify(x, cell.sigma, loaded.networks, rng)
        classes = torch.stack([loaded.classifier(part).argmax(1) for part in purified])
    assert len(purified) == 3 and len(set(map(tuple, classes.T.tolist()))) > 1
    expected = majority(classes, len(counts.votes))
    assert list(counts.votes) == [expected.count(k) for k in range(len(counts.votes))]


def test_ties_go_to_the_lowest_class(purifier_file, classifier_file, tiny_preset):
    """Two images of opposite brightness: one vote for each of two classes."""
    bright = "return torch.stack([torch.ones_like(x), torch.zeros_like(x)])"
    logits = "[0 * m, m - 0.5, 0 * m - 9, 0.2 - m]"
    by_brightness = f"return lambda x: (lambda m: torch.stack({logits}, 1))(x.mean((1, 2, 3)))"
    planned, engine = engine_of(
        tiny_preset(
            purifiers=[str(purifier_file(bright))], classifier={"name": str(classifier_file(by_brightness))}, images=1
        )
    )
    (cell,), (image,) = planned.cells, planned.images
    (counts,) = engine.run(Task(cell, (Block(cell.key, image, "estimate", 0, 5),)))
    assert counts.votes == (0, 5, 0, 0)  # classes 1 (bright) and 3 (dark) have one vote each
    shown = engine.show(cell, [image])
    assert shown[1].shape == (1, 1, 28, 28) and shown[1].min() == 1.0 and shown[2].tolist() == [1]


@pytest.mark.parametrize("body", ["return x[None, None]", "return x[None][:0]", "return x[:, :, 1:]"])
def test_other_shapes_are_refused_by_name(purifier_file, tiny_preset, body):
    planned, engine = engine_of(tiny_preset(purifiers=[str(purifier_file(body))], images=1))
    (cell,), (image,) = planned.cells, planned.images
    with pytest.raises(PluginFault, match="or K of these for a majority vote"):
        engine.run(Task(cell, (Block(cell.key, image, "estimate", 0, 5),)))
