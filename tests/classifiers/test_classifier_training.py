"""How classifiers are trained: the pictures that they see, and soft ones among them."""

import pytest
import torch

from bench.training.jobs import read_recipe
from classifiers.nets.cnn import CNN
from classifiers.training.fit import _blurred, _jitter
from classifiers.training.noise import noised_at, noisy_accuracy

STILL = {"rotation": 0, "scale": 0.0, "shift": 0, "flip": False}


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("rows", [1, 3, 8, 50])
def test_half_of_the_images_are_blurred_and_none_changes_its_mean(rows):
    x = torch.rand(rows, 3, 16, 16, generator=seeded())
    soft = _blurred(x, seeded(), 1.5)
    changed = (soft - x).abs().amax((1, 2, 3)) > 1e-3
    assert rows // 4 <= int(changed.sum()) <= -(-rows // 2) or rows < 8  # narrow ones change next to nothing
    assert bool(changed.any()) == (rows > 1)
    assert torch.allclose(soft.mean((2, 3)), x.mean((2, 3)), atol=0.03)
    rough = (x[changed].diff(dim=3)).abs().mean((1, 2, 3))
    assert bool((soft[changed].diff(dim=3).abs().mean((1, 2, 3)) < rough).all())


def test_a_recipe_without_blur_leaves_images_sharp():
    x = torch.rand(8, 1, 12, 12, generator=seeded())
    assert torch.allclose(_jitter(x, seeded(), STILL), x, atol=1e-5)
    assert not torch.allclose(_jitter(x, seeded(), {**STILL, "blur": 1.5}), x, atol=1e-2)
    assert "blur" not in read_recipe("classifiers", "mnist5k")["classifier"]


def test_the_same_generator_blurs_alike():
    x = torch.rand(8, 1, 12, 12, generator=seeded())
    assert torch.equal(_blurred(x, seeded(), 1.0), _blurred(x, seeded(), 1.0))


def test_folding_early_pooling_keeps_the_function():
    torch.manual_seed(0)
    model = CNN(3, 10, [4, 6], [2, 3], early=True)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight)  # of both signs
            torch.nn.init.normal_(module.running_mean)
    x = torch.rand(3, 3, 16, 16)
    before = model.eval()(x)
    assert [m.shape[-1] for m in model.features(x)] == [8, 4]
    assert torch.allclose(model.fused()(x), before, atol=1e-5)


def test_training_noise_is_that_of_plain_smoothing():
    """Each image has one of the sigmas, all equally often, and the result is not clipped."""
    x = torch.full((3000, 1, 6, 6), 0.9)
    noisy = noised_at([0.25, 1.0])(x, seeded())
    deviation = (noisy - x).flatten(1).std(1)
    low, high = deviation[deviation < 0.6], deviation[deviation >= 0.6]
    assert abs(len(low) - 1500) < 150
    assert low.mean() == pytest.approx(0.25, rel=0.05) and high.mean() == pytest.approx(1.0, rel=0.05)
    assert noisy.max() > 1.5 and noisy.min() < 0
    assert torch.equal(noised_at([0.25, 1.0])(x, seeded()), noisy)


def test_the_accuracy_of_noisy_images_is_given_for_each_sigma():
    images = torch.arange(600).remainder(2).float().view(-1, 1, 1, 1).expand(-1, 1, 8, 8)

    def brightness(x):  # class 1 above the middle
        mean = x.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], 1)

    found = noisy_accuracy(brightness, images, images[:, 0, 0, 0].long(), [0.5, 4.0, 40.0], draws=5)
    assert found["0.5"] == 1.0  # the mean of 64 pixels has 1/8 of the noise
    assert found["4"] == pytest.approx(0.841, abs=0.02)  # Phi(1)
    assert found["40"] == pytest.approx(0.540, abs=0.03)  # Phi(0.1)
