"""Noise that depends on (seed, image, draw) and on nothing else."""

from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from bench.engine.noise import (
    PURIFIER,
    SMOOTHING,
    RowRng,
    _splitmix64_,
    add_discrete_noise,
    discrete_thresholds,
    is_quantised,
    mismatch,
)

LIKE = torch.empty(40, 1, 12, 12)
IMAGES = torch.arange(40) // 8
DRAWS = torch.arange(40) % 8
GOLDEN_LEVELS = [-80, 41, 108, -131, 132, 195]  # of one row, exact on every device


def noise(seed=0, stream=SMOOTHING, images=IMAGES, draws=DRAWS):
    return RowRng(seed, stream, images, draws).normal(torch.empty(len(images), *LIKE.shape[1:]))


def test_splitmix64_gives_its_published_sequence():
    # seed 1234567: the first outputs of the reference implementation (Vigna, splitmix64.c)
    golden = 0x9E3779B97F4A7C15 - (1 << 64)
    state = torch.tensor([1234567]) + golden * torch.arange(1, 4)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423 - (1 << 64)]
    assert _splitmix64_(state).tolist() == expected


@pytest.mark.parametrize("rows", [[0], [3, 1, 2], list(range(39, -1, -1)), [7, 7]])
def test_a_row_is_the_same_in_any_batch_and_order(rows):
    rows = torch.tensor(rows)
    assert torch.equal(noise(images=IMAGES[rows], draws=DRAWS[rows]), noise()[rows])


def test_seed_stream_image_and_draw_each_change_the_noise():
    base = noise()
    assert len({tuple(row.flatten().tolist()) for row in base}) == 40
    for other in (noise(seed=1), noise(stream=PURIFIER), noise(images=IMAGES + 100), noise(draws=DRAWS + 100)):
        assert not torch.isclose(base, other).flatten(1).all(1).any()


def test_successive_calls_go_on_and_do_not_repeat():
    rng = RowRng(0, PURIFIER, IMAGES, DRAWS)
    first, second = rng.normal(LIKE), rng.normal(LIKE)
    assert not torch.isclose(first, second).any(dim=0).all()
    assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 4 / np.sqrt(first.numel())


def test_the_noise_is_standard_normal():
    rows = torch.arange(4000)
    values = RowRng(3, SMOOTHING, rows // 100, rows % 100).normal(torch.empty(4000, 7, 11)).flatten().numpy()
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert abs(values.mean()) < 4 / np.sqrt(values.size)
    assert np.mean(values**2) == pytest.approx(1, abs=0.02)
    assert np.mean(values**4) == pytest.approx(3, abs=0.1)
    tail = np.mean(np.abs(values) > 3)
    assert tail == pytest.approx(2 * stats.norm.sf(3), rel=0.15)


def test_draws_and_pixels_are_uncorrelated():
    rows = torch.arange(3000)
    values = RowRng(0, SMOOTHING, rows, torch.zeros_like(rows)).normal(torch.empty(3000, 1, 4, 4)).flatten(1).numpy()
    off_diagonal = np.corrcoef(values.T) - np.eye(16)
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(3000)
    neighbours = np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(values.size)


def test_an_odd_number_of_pixels_works():
    assert RowRng(0, SMOOTHING, IMAGES, DRAWS).normal(torch.empty(40, 1, 3, 3)).shape == (40, 1, 3, 3)


class TestDiscrete:
    """Noise rounded to the levels of 8-bit images is an exact sample of the rounded Gaussian."""

    @pytest.mark.parametrize("sigma", [0.12, 0.25, 1.0])
    def test_probabilities_are_integrals_of_the_normal_density_to_the_last_bit(self, sigma):
        thresholds = discrete_thresholds(sigma)
        half = len(thresholds) // 2
        assert all(a < b for a, b in pairwise(thresholds[half - 100 : half + 100]))
        with mpmath.workprec(300):
            for level in (-half, -300, -2, -1, 0, 1, 200, half - 1):
                integral = mpmath.erfc(-mpmath.mpf(2 * level + 1) / 510 / mpmath.mpf(sigma) / mpmath.sqrt(2)) / 2
                assert 0 <= integral * 2**64 - thresholds[half + level] < 1, level

    def test_the_sampled_levels_have_these_probabilities(self):
        thresholds, rows, edges = discrete_thresholds(0.25), torch.arange(3000), torch.zeros(3000, 1, 8, 8)
        most = len(thresholds) // 2
        x = add_discrete_noise(edges + 1, 0.25, RowRng(1, SMOOTHING, rows, rows))
        noise = (x * 255).round().to(torch.int64) - 255
        cuts = np.array([-most - 1, -150, -90, -40, -10, -1, 0, 1, 20, 80, 140, most])
        counts, _ = np.histogram(noise.numpy(), bins=cuts + 0.5)
        exact = np.diff(stats.norm.cdf((2 * cuts + 1) / 510, scale=0.25))
        assert stats.chisquare(counts, exact / exact.sum() * counts.sum()).pvalue > 1e-3

    def test_rounding_after_the_noise_is_the_same_function_as_rounding_the_noise(self):
        """The claim behind the sampler: round(x + noise) = x + round(noise) on the levels of the image."""
        rng = np.random.default_rng(0)
        levels, noise = rng.integers(0, 256, 100_000), rng.normal(0, 0.5, 100_000) * 255
        assert np.array_equal(np.round(levels + noise), levels + np.round(noise))

    def test_the_bits_of_a_noisy_pixel_do_not_tell_the_clean_one(self):
        """In float32, x + noise lies on a grid that depends on x; on levels, the same values are possible for every x.

        Voracek and Hein's attack on floating-point smoothing reads x from the low bits of x + noise.
        """
        rows = torch.arange(4000)
        of = {x: torch.full((4000, 1, 1, 1), x / 255) for x in (40, 41)}

        def supports(add):
            return [set(add(x, RowRng(0, SMOOTHING, rows + 4000 * i, rows)).flatten().tolist()) for i, x in of.items()]

        inexact = supports(lambda x, rng: x + 0.1 * rng.normal(x))
        exact = supports(lambda x, rng: add_discrete_noise(x, 0.1, rng))
        assert len(inexact[0] & inexact[1]) < 0.01 * len(inexact[0])
        assert len(exact[0] & exact[1]) > 0.8 * len(exact[0])

    def test_a_row_is_the_same_in_any_batch(self):
        x = torch.rand(40, 1, 12, 12).mul(255).round().div(255)
        whole = add_discrete_noise(x, 0.5, RowRng(0, SMOOTHING, IMAGES, DRAWS))
        rows = torch.tensor([7, 3, 39])
        assert torch.equal(
            add_discrete_noise(x[rows], 0.5, RowRng(0, SMOOTHING, IMAGES[rows], DRAWS[rows])), whole[rows]
        )

    def test_the_values_are_golden_on_every_device(self):
        x = add_discrete_noise(torch.zeros(1, 1, 1, 6), 0.5, RowRng(7, SMOOTHING, torch.tensor([3]), torch.tensor([5])))
        assert (x * 255).round().int().flatten().tolist() == GOLDEN_LEVELS, "raise DISCRETE_NOISE_VERSION"

    def test_pixels_are_clipped_and_stay_levels(self):
        rows = torch.arange(500)
        x = add_discrete_noise(torch.ones(500, 1, 8, 8), 0.12, RowRng(0, SMOOTHING, rows, rows))
        assert is_quantised(x.clamp(0, 1)) and float(x.min()) >= -1 and float(x.max()) <= 2

    def test_images_of_more_levels_are_told_apart(self):
        assert is_quantised(torch.arange(256) / 255)
        assert not is_quantised(torch.tensor([0.5])) and not is_quantised(torch.tensor([256 / 255]))

    def test_the_chance_of_another_value_than_the_exact_one_is_negligible_beside_alpha(self):
        assert 0 < mismatch(0.5, 28 * 28, 50) < 1e-9
        assert mismatch(1.0, 3 * 224 * 224, 100_000) < 1e-3 / 100
