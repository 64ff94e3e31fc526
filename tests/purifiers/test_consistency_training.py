"""A consistency model is one by its distance to the end of the ODE, and its training reaches its end, however short."""

import json

import pytest
import torch
from short_training import shorten
from torch import nn

from bench.errors import PurifyBenchError
from bench.testing import GaussianDenoiser
from bench.training.checkpoint import Checkpoint
from bench.training.jobs import Job
from bench.training.stage import Refused, _refusal_of, train_one
from purifiers.training.loop import Schedule, fit
from purifiers.training.losses import calibration_loss, tuning_loss
from purifiers.training.paths import follow_paths, path_loss
from purifiers.training.validation import LEVELS, follow_ode, ode_ratio, self_consistency

WIDTH = 0.5  # standard deviation of a world of one Gaussian, in which everything is known: SIGMA_DATA


class Gaussian(GaussianDenoiser):
    """The denoiser of that world, blended with its consistency function: 0 is the one, 1 the other."""

    def __init__(self, share=0.0):
        self.share = share

    def __call__(self, u, t):
        level = torch.as_tensor(t, dtype=u.dtype).expand(len(u)).view(-1, 1, 1, 1)
        end = u * ((WIDTH**2 + self.t_min**2) / (WIDTH**2 + level**2)).sqrt()
        return (1 - self.share) * super().__call__(u, t) + self.share * end


@pytest.fixture
def images():
    return ((WIDTH * torch.randn(300, 1, 4, 4, generator=torch.Generator().manual_seed(0))) + 1) / 2


def test_heun_follows_the_ode_to_its_known_end(images):
    u = 2 * images - 1
    for t in LEVELS:
        assert torch.allclose(follow_ode(Gaussian(), u, t, 0.002), Gaussian(share=1.0)(u, t), atol=5e-3)
        halfway = u * ((WIDTH**2 + t**2 / 4) / (WIDTH**2 + t**2)) ** 0.5
        assert torch.allclose(follow_ode(Gaussian(), u, t, t / 2), halfway, atol=5e-3)


def test_the_ratio_is_one_for_the_denoiser_and_zero_for_the_exact_consistency_function(images):
    for figure in (ode_ratio, self_consistency):
        assert set(figure(Gaussian(), Gaussian(), images).values()) == {1.0}
        assert max(figure(Gaussian(share=1.0), Gaussian(), images).values()) < 0.02
    halfway = ode_ratio(Gaussian(share=0.5), Gaussian(), images)
    assert list(halfway) == ["0.5", "1", "2"] and all(abs(ratio - 0.5) < 0.02 for ratio in halfway.values())


def test_a_denoiser_is_refused_as_a_consistency_model(images):
    figures = {"ode_ratio": ode_ratio(Gaussian(), Gaussian(), images)}
    assert "1.00 at t = 0.5" in _refusal_of(figures)
    assert not _refusal_of({"ode_ratio": {"0.5": 0.3, "1": 0.4}}) and not _refusal_of({"denoising_mse": {"0.5": 9.0}})
    assert "nan at t = 1" in _refusal_of({"ode_ratio": {"0.5": 0.3, "1": float("nan")}})
    assert "t/2" in _refusal_of({"ode_ratio": {"0.5": 0.3}, "self_consistency": {"0.5": 0.7}})


class Clock(Checkpoint):
    """A time limit of so many steps of the loop, for a schedule of more; time passes when the loop asks for it."""

    def __init__(self, path, limit):
        super().__init__(path, {}, minutes=1.0)
        self.limit, self.now = limit, 0

    def left(self):
        self.now += 1  # once a step
        return float(self.limit + 1 - self.now)

    def spent(self):
        return min(1.0, max(0, self.now - 1) / self.limit)


def stages_met(keeper, steps):
    """Progress at each step of a training, and the learning rates that a cosine takes."""
    met = []

    def loss(model, ema, u0, generator, progress):
        met.append(progress)
        return model.weight.square().sum()

    model = nn.Linear(1, 1, bias=False)
    trained = fit(model, loss, torch.zeros(4, 1, 2, 2), Schedule(steps, 2, 1e-3, 0.9), 0, keeper=keeper)
    return met, trained


def test_a_training_that_ends_by_time_reaches_all_stages_of_its_loss(tmp_path):
    met, trained = stages_met(Clock(tmp_path / "a.pt", limit=40), steps=100_000)
    assert len(met) == 40 and met == sorted(met) and met[0] == 0.0
    assert {1 + min(int(progress * 4), 3) for progress in met} == {1, 2, 3, 4}  # of easy consistency tuning
    assert trained.progress == 1.0 and trained.steps == 40


def test_progress_is_carried_over_when_the_training_continues(tmp_path):
    path = tmp_path / "a.pt"

    class Killed(Clock):
        def due(self):
            return self.now == 10

        def left(self):
            return -1.0 if self.now == 10 else super().left()

    met, _ = stages_met(Killed(path, limit=40), steps=100_000)
    before = Checkpoint(path, {}).load()["progress"]
    assert met[-1] <= before < 0.3
    later, trained = stages_met(Clock(path, limit=40), steps=100_000)
    assert later[0] == pytest.approx(before, abs=0.01) and later == sorted(later) and trained.progress == 1.0


def test_without_a_time_limit_progress_is_the_share_of_the_steps():
    met, trained = stages_met(None, steps=8)
    assert met == [k / 8 for k in range(8)] and trained.progress == 1.0


def test_the_exact_consistency_function_has_no_path_loss_and_the_denoiser_has_one(images):
    loss = path_loss(follow_paths(Gaussian(), images, count=500, steps=12, t_max=3.0, seed=0))

    def value(model):
        return float(loss(model, None, 2 * images - 1, torch.Generator().manual_seed(0), 0.0))

    assert value(Gaussian(share=1.0)) < 0.01 * value(Gaussian())


def test_paths_start_between_a_fifth_of_the_highest_level_and_that_level_and_end_where_the_ode_does(images):
    said = []
    paths = follow_paths(Gaussian(), images, count=2000, steps=12, t_max=3.0, seed=1, report=said.append)
    assert len(said) == 8 and said[3] == "path 750/2,000 of the teacher's ODE"
    assert paths.points.shape == (2000, 8, 1, 4, 4) and paths.levels.shape == (2000, 8)
    tops = paths.levels[:, 0]
    assert 0.6 <= float(tops.min()) < 1.2 and 2.0 < float(tops.max()) <= 3.0
    for point in (0, 7):  # of a world of one Gaussian, whose ODE has a known end
        t = paths.levels[:, point]
        end = Gaussian(share=1.0)(paths.points[:, point].float(), t)
        assert float((end - paths.ends.float()).square().mean().sqrt()) < 0.02
    again = follow_paths(Gaussian(), images, count=2000, steps=12, t_max=3.0, seed=1)
    assert torch.equal(paths.ends, again.ends)  # an interrupted training follows the same paths


def test_tuning_compares_two_levels_of_one_noise_and_closes_the_gap():
    """The exact consistency function of a point mass at 0 is `f(u, t) = eps/t u`: it has no loss, others have."""
    gaps = {}

    class Exact(torch.nn.Module):
        def forward(self, u, t):
            self.met.append((u, t))
            return u * (0.002 / t).view(-1, 1, 1, 1)

    for progress in (0.0, 0.9):
        model = Exact()
        model.met = []
        loss = tuning_loss(-1.1, 1.5, 0.002, 3.0, 4)
        value = loss(model, model, torch.zeros(50, 1, 2, 2), torch.Generator().manual_seed(0), progress)
        assert float(value) < 1e-10
        (low, r), (high, t) = model.met
        assert bool((r < t).all())
        assert torch.allclose(low / r.view(-1, 1, 1, 1), high / t.view(-1, 1, 1, 1), atol=1e-5)
        gaps[progress] = float((1 - r / t).mean())
    assert gaps[0.9] < gaps[0.0] / 2
    wrong = tuning_loss(-1.1, 1.5, 0.002, 3.0, 4)
    assert float(wrong(lambda u, t: u, None, torch.zeros(50, 1, 2, 2), torch.Generator().manual_seed(0), 0.5)) > 0.01


def test_tuning_takes_its_stage_from_progress():
    gaps = []
    for progress in (0.0, 0.3, 0.6, 0.9):
        met = []

        def network(u, t, met=met):
            met.append(t)
            return u

        loss = tuning_loss(0.5, 0.1, 0.002, 3.0, 4)
        loss(network, network, torch.zeros(50, 1, 2, 2), torch.Generator().manual_seed(0), progress)
        gaps.append(float((1 - met[0] / met[1]).mean()))
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 3 * gaps[-1]


def test_a_trained_denoiser_is_kept_aside_and_its_stage_fails(tmp_path, monkeypatch):
    shorten(monkeypatch)
    job = Job("mnist5k", out=str(tmp_path), scale=0.001)
    with pytest.raises(Refused, match=r"not a consistency model: its distance .*--unchecked") as caught:
        train_one(job, "cm")  # from the bundled denoiser, which it still is after 4 steps
    assert isinstance(caught.value, PurifyBenchError)
    aside = job.work() / "cm-refused.safetensors"
    assert aside.is_file() and str(aside) in str(caught.value) and not job.path("cm").is_file()
    kept = Job("mnist5k", out=str(tmp_path), scale=0.001, unchecked=True)
    path, _ = train_one(kept, "cm")
    card = json.loads(path.with_suffix(".json").read_text())["training"]
    assert card["not_a_consistency_model"] and card["validation"]["ode_ratio"]["1"] > 0.9


def test_calibration_is_consistent_where_the_class_is_right_and_diverse_where_it_is_wrong():
    """Two classes, by the sign of the mean. Noise of level 2 turns an image's class over for a part of the draws."""
    u0 = torch.full((400, 1, 1, 1), 0.5)

    class Scaled(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(scale))

        def forward(self, u, t):
            return self.scale * u

    def classify(x):
        return torch.stack([2 * x.mean((1, 2, 3)) - 1, 1 - 2 * x.mean((1, 2, 3))], 1)

    def value(level, strength, diversity):
        loss = calibration_loss([level], classify, strength, diversity)
        return loss(Scaled(1.0), None, u0, torch.Generator().manual_seed(0), 0.0).detach()

    plain = float(value(0.1, 0.0, 0.0))
    assert float(value(0.1, 1.0, 0.0)) > plain  # Brier, since all draws are right
    assert float(value(0.1, 1.0, 5.0)) == pytest.approx(float(value(0.1, 1.0, 0.0)))  # and none is wrong
    assert float(value(2.0, 1.0, 5.0)) < float(value(2.0, 1.0, 0.0))  # diversity is rewarded where some are wrong
