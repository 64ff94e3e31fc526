"""Noise that depends on (seed, image, draw) and on nothing else."""

import numpy as np
import pytest
import torch
from scipy import stats

from bench.engine.noise import PURIFIER, SMOOTHING, RowRng, _splitmix64_

LIKE = torch.empty(40, 1, 12, 12)
IMAGES = torch.arange(40) // 8
DRAWS = torch.arange(40) % 8


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
