"""The noise as one kernel: Triton's interpreter runs it on a CPU, so that its arithmetic is compared without a GPU."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from bench.engine.noise import PURIFIER, SMOOTHING, RowRng

pytest.importorskip("triton", reason="torch of this system comes without Triton")
NEAR = 5e-7  # of float32 values up to 6.8, by rounding in logarithm and cosine

INTERPRETED = """
import torch
from bench.engine.noise import RowRng
from bench.engine.noise_kernel import add_normal_

for size in (784, 3072, 7, 1):  # more pairs than one program has, and odd numbers
    rng, images = RowRng(3, "smoothing", torch.arange(5), 1000 * torch.arange(5) + (1 << 40)), torch.rand(5, size)
    rng.normal(torch.empty(5, 34))  # 17 pairs of each stream are used
    got = images.clone()
    add_normal_(got, rng._origins, rng._counter, 0.5)
    print(float((got - images - 0.5 * rng.normal(images)).abs().max()), float((got - images).std()))
"""


def test_the_kernel_makes_the_noise_of_eager_torch():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr
    rows = [tuple(map(float, line.split())) for line in out.stdout.splitlines()]
    assert len(rows) == 4 and all(distance <= NEAR for distance, _ in rows)
    assert all(0.4 < spread < 0.6 for _, spread in rows[:2])  # sigma = 0.5: there is noise


def test_a_cpu_makes_its_noise_without_the_kernel():
    rows = torch.arange(3)
    plain, asked = (RowRng(0, SMOOTHING, rows, rows, kernel=kernel) for kernel in (False, True))
    assert torch.equal(plain.normal(torch.empty(3, 9)), asked.normal(torch.empty(3, 9)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_kernel_makes_the_noise_of_eager_torch():
    rows = torch.arange(200, device="cuda")
    for stream in (SMOOTHING, PURIFIER):
        plain, fused = (RowRng(0, stream, rows, rows, kernel=kernel) for kernel in (False, True))
        for _ in range(3):  # streams go on alike
            like = torch.zeros(200, 3, 32, 32, device="cuda")
            assert (plain.normal(like) - fused.normal(like)).abs().max() <= NEAR
