"""A training never waits for the host between two reports: nothing is read from the device, nothing copied to it.

The device is torch's meta device, whose tensors hold no values. A step that reads one fails, and a copy between it and
the CPU is an operation that a dispatch mode sees; no GPU is needed.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bench.training.jobs import read_recipe
from classifiers.nets.cnn import CNN
from purifiers.nets.hub.cards import Card
from purifiers.nets.hub.files import build
from purifiers.training import loop
from purifiers.training.losses import ddpm_loss, l2, purified_at
from purifiers.training.paths import Paths, path_loss
from purifiers.training.perceptual import feature_distance
from purifiers.training.stages import STAGES, _loss_of

CHANNELS, SIDE, STEPS = 1, 28, 3
SMALL = {"channels": CHANNELS, "image_size": SIDE, "widths": [8, 16], "groups": 4}
DEVICE = "meta"
LEVELS = [0.5, 1.0, 2.0]
TUNING = {"p_mean": -1.1, "p_std": 1.5, "doublings": 4, "scales": 18}  # settings of the methods that no recipe has


class Copies(TorchDispatchMode):
    """Notes every copy between the CPU and the device. (Reading a value fails by itself: there is none.)"""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        places = {x.device.type for x in (*args, result) if isinstance(x, torch.Tensor)}
        if operation._schema.name in ("aten::_to_copy", "aten::copy_") and len(places) > 1:
            self.seen.append(str(operation))
        return result


class Constants(TorchFunctionMode):
    """Notes every tensor that is made on the device from numbers of Python, which is a copy that no dispatch shows."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = function in (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)
        if made and result.device.type == DEVICE and not isinstance(args[0], torch.Tensor):
            self.seen.append(function.__name__)
        return result


class Enough(Exception):
    """The training has made its steps."""


def denoiser(kind):
    arguments = {"timesteps": 100, "t_max": 6.0} if kind == "vp" else {"t_min": 0.002, "t_max": 6.0}
    return build(Card(kind, SMALL, arguments))


def classifier():
    return CNN(CHANNELS, 10, [8, 16], [1, 1]).to(DEVICE).eval().requires_grad_(False)


def transfers(monkeypatch, loss, kind="edm"):
    """Copies in the steps of a training on the device, from its second step on: constants are copied once."""
    steps, average, seen = [], loop._update_average, []

    def counted(*arguments):
        average(*arguments)
        steps.append(1)
        if len(steps) == 1:
            seen.clear()
        if len(steps) == STEPS:
            raise Enough

    monkeypatch.setattr(loop, "_update_average", counted)
    monkeypatch.setattr(loop, "Generator", lambda device: torch.Generator())  # a meta device has none
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())  # nor autocast
    schedule = loop.Schedule(10_000, 4, 1e-3, 0.9, flip=True, optimizer="SGD")  # Adam is torch's
    with pytest.raises(Enough), Copies(seen), Constants(seen):
        loop.fit(denoiser(kind).to(DEVICE), loss, torch.zeros(9, CHANNELS, SIDE, SIDE, device=DEVICE), schedule, 0)
    return seen


def stage_loss(stage, method=None):
    """The loss of a stage with the recipe of the digits, its networks on the device."""
    recipe = read_recipe("purifiers", "mnist5k")
    recipe["cm"] |= TUNING
    kind = STAGES[stage].kind
    model = denoiser(kind)
    if kind == "vp":
        return ddpm_loss(model)  # reads the levels of its chain once, before the training
    if method == "paths":
        shape = CHANNELS, SIDE, SIDE
        points, levels, ends = (torch.zeros(size, device=DEVICE) for size in ((9, 3, *shape), (9, 3), (9, *shape)))
        return path_loss(Paths(points.half(), levels, ends.half()))
    start = denoiser("edm").to(DEVICE) if STAGES[stage].start else None
    judge = classifier()
    images = torch.zeros(9, CHANNELS, SIDE, SIDE, device=DEVICE)
    return _loss_of(stage, recipe, model, images, start, feature_distance(judge.features), method, judge)


CASES = [(stage, None) for stage in STAGES if stage != "cm"]
CASES += [("cm", method) for method in ("distillation", "tuning", "paths")]


@pytest.mark.parametrize(("stage", "method"), CASES)
def test_a_step_of_every_stage_reads_nothing_from_the_device_and_copies_nothing_to_it(stage, method, monkeypatch):
    assert transfers(monkeypatch, stage_loss(stage, method), STAGES[stage].kind) == []


def test_images_that_a_denoiser_purifies_for_a_classifier_are_drawn_without_a_copy():
    purify, x = purified_at(denoiser("edm").to(DEVICE), LEVELS), torch.zeros(4, CHANNELS, SIDE, SIDE, device=DEVICE)
    purify(x, torch.Generator())
    seen = []
    with Copies(seen), Constants(seen):
        purify(x, torch.Generator())
    assert seen == []


@pytest.mark.parametrize(
    ("step", "reads"),
    [
        (lambda value: value.item(), True),
        (lambda value: value.cpu(), True),
        (lambda value: value * torch.tensor([1.0], device=DEVICE), False),
    ],
)
def test_the_watch_sees_what_a_careless_loss_does(step, reads, monkeypatch):
    def careless(model, ema, u0, generator, progress):
        value = l2(model(u0, torch.ones(len(u0), device=DEVICE)), u0).mean()
        step(value.detach())
        return value

    if reads:  # a meta tensor has no value
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            transfers(monkeypatch, careless)
    else:
        assert transfers(monkeypatch, careless) == ["tensor"] * (STEPS - 1)


class Reads(TorchDispatchMode):
    """Counts the values that are read from tensors."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation._schema.name == "aten::_local_scalar_dense"
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize(("steps", "points"), [(6, 6), (300, 100)])
def test_the_loss_is_read_once_for_each_point_of_its_curve(steps, points):
    model, images = torch.nn.Linear(4, 4), torch.rand(9, 1, 2, 2)
    schedule = loop.Schedule(steps, 4, 1e-3, 0.9, optimizer="SGD")  # Adam counts its steps in tensors of the CPU

    def loss(model, ema, u0, generator, progress):
        return (model(u0.flatten(1)) - u0.flatten(1)).square().mean()

    with Reads() as reads:
        trained = loop.fit(model, loss, images, schedule, 0)
    assert reads.count == len(trained.losses) == points


class _Clock:
    """A keeper whose time limit passes in equal parts with each call of `spent`."""

    def __init__(self, calls):
        self.calls, self.limit = 0, calls

    def load(self, device):
        return None

    def due(self):
        return False

    def left(self):
        return float(self.limit - self.calls)

    def spent(self):
        self.calls += 1
        return min(1.0, self.calls / self.limit)

    def save(self, state):
        self.state = state


def test_a_time_limit_that_ends_a_long_training_early_still_gives_it_a_curve():
    model, images = torch.nn.Linear(4, 4), torch.rand(9, 1, 2, 2)
    schedule = loop.Schedule(10**6, 4, 1e-3, 0.9, optimizer="SGD")

    def loss(model, ema, u0, generator, progress):
        return (model(u0.flatten(1)) - u0.flatten(1)).square().mean()

    trained = loop.fit(model, loss, images, schedule, 0, validate=lambda m: {"x": 1.0}, keeper=_Clock(1000))
    assert trained.steps < 1000 and trained.progress == 1
    assert 80 <= len(trained.losses) <= 101
    assert 15 <= len(trained.validations) <= 20


def test_one_kernel_for_all_parameters_updates_them_as_one_for_each_does():
    """What a GPU uses, compared on the CPU: the fused Adam, whose step count stays on the device."""

    def weights(**options):
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 5)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, **options)
        for _ in range(20):
            optimizer.zero_grad()
            model(torch.arange(10.0).view(2, 5) / 10).square().sum().backward()
            optimizer.step()
        return model.weight.detach()

    assert torch.allclose(weights(fused=True), weights(), atol=1e-6)
