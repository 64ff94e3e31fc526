"""The training code: exact pieces, and every stage for a few steps on real images."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from short_training import shorten

from bench import data
from bench.training.jobs import NEEDS, Job, read_recipe
from bench.training.stage import train_one
from purifiers.nets.architectures.group_norm import _ChannelsLastGroupNorm
from purifiers.nets.hub.cards import Card, WeightsError, read_card
from purifiers.nets.hub.files import build, load
from purifiers.training.loop import Schedule, _learning_rate_factor, _update_average, fit
from purifiers.training.losses import distillation_loss, edm_loss, finetuning_loss, heun_step, l1, l2
from purifiers.training.perceptual import TrunkUnavailable, choose_distance, feature_distance
from purifiers.training.stages import _T_MIN, STAGES, _tenths, train_stage

SMALL = {"channels": 1, "image_size": 28, "widths": [8, 16], "groups": 4}
SCHEDULE = Schedule(steps=60, batch=32, lr=3e-3, ema=0.9, warmup=5)


def small(kind="edm", seed=0):
    torch.manual_seed(seed)
    return build(Card(kind, SMALL, {"t_min": 0.002, "t_max": 6.0}))


@pytest.fixture(scope="module")
def digits():
    return torch.from_numpy(data.load("mnist5k", "train").images[:500])


def test_the_average_is_exact():
    ema, model = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    expected = [0.9 * e + 0.1 * m for e, m in zip(ema.parameters(), model.parameters(), strict=True)]
    _update_average(ema, model, 0.9)
    assert all(torch.allclose(e, x) for e, x in zip(ema.parameters(), expected, strict=True))


def test_the_learning_rate_warms_up_and_ends_at_zero():
    schedule = replace(SCHEDULE, steps=100, warmup=10)
    factors = [_learning_rate_factor(i, schedule, i / 100) for i in range(101)]
    assert factors[0] == pytest.approx(0.1) and max(factors) <= 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == pytest.approx(0)


def test_a_long_history_becomes_ten_figures():
    assert _tenths([1.0] * 95 + [0.0] * 5) == [1.0] * 9 + [0.5]
    assert _tenths([2.0]) == [2.0]


def test_the_same_seed_trains_the_same_weights_and_another_does_not(digits):
    def weights(seed):
        model = small()
        trained = fit(model, edm_loss(-0.5, 1.1, 0.002, 6.0), digits, replace(SCHEDULE, steps=5), seed)
        return torch.cat([p.flatten() for p in trained.model.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_a_diverging_loss_is_an_error_that_names_the_remedy(digits):
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit(small(), lambda m, e, u, g, p: m(u, 1.0).mean() * float("nan"), digits, replace(SCHEDULE, steps=2), 0)


def test_one_heun_step_follows_the_known_pf_ode():
    """For one Gaussian of width 0.5 the ODE scales `u` by `sqrt((s^2 + w^2) / (t^2 + w^2))`."""
    u, t, s = torch.randn(5, 1, 4, 4, dtype=torch.float64), torch.tensor([1.0] * 5), torch.tensor([0.98] * 5)

    def denoise(u, t):
        return u * 0.25 / (0.25 + t.double().view(-1, 1, 1, 1) ** 2)

    exact = u * ((0.98**2 + 0.25) / (1 + 0.25)) ** 0.5
    assert torch.allclose(heun_step(denoise, u, t.double(), s.double()), exact, atol=1e-5)


def test_distances_are_zero_between_equal_images_and_grow():
    a, b = torch.rand(3, 1, 28, 28) * 2 - 1, torch.rand(3, 1, 28, 28) * 2 - 1
    features = torch.nn.Conv2d(1, 4, 3)
    for distance in (l1, l2, feature_distance(lambda x: [features(x), features(x).relu()])):
        assert distance(a, b).shape == (3,)
        assert torch.allclose(distance(a, a), torch.zeros(3), atol=1e-6)
        assert bool((distance(a, b) > distance(a, a + 0.1 * (b - a))).all())


def test_the_feature_distance_is_lpips_without_learned_weights():
    import lpips

    a, b = torch.rand(2, 3, 16, 16) * 2 - 1, torch.rand(2, 3, 16, 16) * 2 - 1
    layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(3, 5, 3, stride=2)]

    def features(x):
        return [layer(x) for layer in layers]

    expected = torch.zeros(2)
    for fa, fb in zip(features((a + 1) / 2), features((b + 1) / 2), strict=True):
        difference = (lpips.normalize_tensor(fa) - lpips.normalize_tensor(fb)) ** 2
        expected += lpips.spatial_average(difference.sum(1, keepdim=True)).flatten()
    assert torch.allclose(feature_distance(features)(a, b), expected, atol=1e-6)


def test_where_the_trunk_of_lpips_cannot_be_had_the_record_says_what_was_used(monkeypatch):
    def unreachable(*args, **kwargs):
        raise TrunkUnavailable("no network")

    monkeypatch.setattr("purifiers.training.perceptual.lpips_distance", unreachable)
    name, _ = choose_distance("perceptual", lambda x: [x], "another classifier")
    assert name == "LPIPS' arithmetic on the features of another classifier"
    assert issubclass(TrunkUnavailable, WeightsError)  # which the commands print without a traceback
    with pytest.raises(TrunkUnavailable):
        choose_distance("lpips", lambda x: [x], "another classifier")
    with pytest.raises(ValueError, match="known: perceptual"):
        choose_distance("lpisp", lambda x: [x], "")


def test_fine_tuning_only_meets_the_levels_of_smoothing():
    met = []

    class Spy(torch.nn.Module):
        def forward(self, u, t):
            met.extend(t.tolist())
            return u

    loss = finetuning_loss([0.5, 1.0, 2.0], l2)
    loss(Spy(), Spy(), torch.zeros(300, 1, 2, 2), torch.Generator().manual_seed(0), 0.0)
    assert set(met) == {0.5, 1.0, 2.0}


def test_distillation_stops_the_gradient_at_its_target(digits):
    model, ema = small("consistency"), small("consistency", seed=1)
    loss = distillation_loss(small("edm"), 6, 3.0, l2)
    loss(model, ema, 2 * digits[:8] - 1, torch.Generator().manual_seed(0), 0.0).backward()
    assert all(p.grad is not None for p in model.network.unet.conv_in.parameters())
    assert all(p.grad is None for p in ema.parameters())


def test_the_edm_loss_falls_on_real_digits(digits):
    model = small()
    trained = fit(model, edm_loss(-0.5, 1.1, 0.002, 6.0), digits, SCHEDULE, 0)
    assert trained.losses[-1][1] < 0.7 * trained.losses[0][1]


@pytest.fixture
def short(monkeypatch):
    shorten(monkeypatch, small=True)


def trial(dataset, scale, folder, local=None):
    """Every stage of a data set, for a few steps; returns the job."""
    job = Job(dataset, out=str(folder), data=local, loss="features", scale=scale, unchecked=True)
    for stage in NEEDS:
        train_one(job, stage)
    return job


def check_zoo(job, made_of):
    for stage in STAGES:
        path = job.path(stage)
        card = read_card(path).training
        assert card["stage"] == stage and card["seed"] == 0 and card["seconds"] > 0 and card["losses"]
        assert set(card["validation"]["denoising_mse"]) == {"0.5", "1", "2"}
        assert card["dataset"] == made_of
        if stage.endswith("-ft"):
            assert "never evaluated" in card["distance"]
    u = torch.randn(2, *read_image_shape(job))
    f = load(job.path("cm"))
    assert torch.allclose(f(u, _T_MIN), u, atol=1e-5)
    for name in ("classifier", "features"):
        card = json.loads(job.path(name).with_suffix(".json").read_text())["training"]
        assert card["validation"]["accuracy"] > 0.05


def read_image_shape(job):
    return data.load(job.dataset, "val", job.data).images.shape[1:]


def test_every_stage_trains_on_digits_for_a_moment(tmp_path, short):
    check_zoo(trial("mnist5k", 0.002, tmp_path), "mnist5k")


@pytest.mark.slow
def test_every_stage_trains_on_colour_images_for_a_moment(tmp_path, shared_data, short):
    images = pd.read_parquet(shared_data / "cifar10-jpeg" / "test.parquet")
    images[:300].to_parquet(tmp_path / "train.parquet")
    check_zoo(trial("cifar10", 0.0002, tmp_path / "zoo", str(tmp_path)), "cifar10-jpeg")


@pytest.mark.parametrize("dataset", ["mnist5k", "cifar10"])
def test_a_recipe_has_all_that_its_stages_ask_for(dataset):
    recipe = read_recipe("purifiers", dataset)
    assert set(STAGES) <= set(recipe)
    for name in STAGES:
        assert recipe[name]["steps"] > 0 and recipe[name]["batch"] > 0


def test_a_missing_recipe_lists_those_there_are():
    with pytest.raises(FileNotFoundError, match="cifar10, mnist5k"):
        read_recipe("purifiers", "imagenet")


def test_the_consistency_model_is_taught_up_to_the_top_of_its_grid(digits):
    recipe = read_recipe("purifiers", "mnist5k")
    recipe["architecture"] = {key: SMALL[key] for key in ("widths", "groups")}
    recipe["cm"] |= {"steps": 2, "batch": 4, "scales": 18}
    denoiser, card = train_stage("cm", recipe, digits, small(), method="distillation")
    assert card.denoiser["t_max"] == recipe["cm"]["distil_t_max"] == denoiser.t_max


def test_a_compiled_training_makes_the_same_network(digits, monkeypatch):
    """torch.compile leaves the network as it is here: what is tested is what it is given, and what is saved."""
    seen = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: seen.extend(self.modules()))
    recipe = read_recipe("purifiers", "mnist5k")
    recipe["architecture"] = {key: SMALL[key] for key in ("widths", "groups")}
    recipe["edm"] |= {"steps": 5, "batch": 4}
    plain, fast = (train_stage("edm", recipe, digits, None, compiled=compiled)[0] for compiled in (False, True))
    assert any(isinstance(module, _ChannelsLastGroupNorm) for module in seen)
    assert not any(type(module) is torch.nn.GroupNorm for module in seen)
    assert plain.state_dict().keys() == fast.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.allclose(fast.state_dict()[name], value, atol=1e-4), name
