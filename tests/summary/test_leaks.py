"""Memory that grows batch by batch is told from memory that is reached once."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import make_cell

from bench.certify import Tally
from bench.records import Block, Cost, Counts
from bench.sweep.bookkeeping import CellProgress
from bench.sweep.bookkeeping import memory_growth as growth

MIB, GIB = 2**20, 2**30
LEAKING = """
from dataclasses import dataclass
import torch
from purifiers.base import Purifier

@dataclass(frozen=True)
class Leaks(Purifier):
    name = "leaks"
    kept = []

    def purify(self, x, sigma, networks, rng):
        self.kept.append(torch.ones(8 * 2**20))  # 32 MiB
        return x.clamp(0, 1)
"""


def counted(*lives):
    """A cell of whose blocks each process counted some, with these peaks of memory in their order."""
    progress = CellProgress(make_cell(), None, {}, {})
    for worker, peaks in enumerate(lives):
        progress.awaited, progress.tallies = {0: len(peaks) + 1}, {0: Tally({}, {})}
        for k, peak in enumerate(peaks):
            cost = Cost(1, 1, 0.0, 0.0, 0.0, int(peak), "CPU")
            progress.add([Counts(Block(progress.cell.key, 0, "estimate", k, 1), (1, 0), cost, worker=str(worker))])
    return progress.memory_growth()


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_a_leak_is_seen_whatever_the_number_of_workers(workers):
    low, high = counted(*(1 * GIB + (0.9 + 0.02 * w) * 20 * MIB * np.arange(100) for w in range(workers)))
    assert low == GIB and high > 2.5 * GIB


@settings(max_examples=100)
@given(
    st.lists(st.floats(0.5, 8.0), min_size=1, max_size=6),
    st.integers(40, 200),
    st.floats(0.0, 0.4),
)
def test_processes_that_reach_their_peaks_in_the_first_half_of_their_blocks_are_sound(plateaus, blocks, start):
    """However many processes counted the cell, at once or one after the other, and however far apart their peaks."""
    lives = []
    for plateau in plateaus:
        rising = int(start * blocks)
        ramp = np.linspace(0.3, plateau, rising, endpoint=False)
        lives.append(GIB * np.concatenate([ramp, np.full(blocks - rising, plateau)]))
    assert counted(*lives) is None


def test_an_interrupt_and_a_resume_do_not_make_a_sound_purifier_leaky():
    """Blocks of both processes together rise without a pause, those of each do not."""
    lives = [GIB * np.repeat(np.linspace(a, b, 12), [2] * 11 + [30]) for a, b in ((0.5, 1.2), (1.21, 2.0))]
    ramps = np.sort(np.concatenate([life[:22] for life in lives]))
    assert growth(ramps + np.arange(len(ramps)) * MIB) is not None
    assert counted(*lives) is None


def test_little_growth_and_few_blocks_are_no_concern():
    assert growth(GIB + MIB * np.arange(200.0)) is None
    assert growth(GIB + 40 * MIB * np.arange(39.0)) is None
    assert growth(8 * GIB + 5 * MIB * np.arange(200.0)) is None  # an eighth


def test_a_plugin_that_leaks_is_named_and_its_neighbour_is_not(tiny_preset, tmp_path):
    plugin = tmp_path / "leaks.py"
    plugin.write_text(LEAKING)
    path = tiny_preset(purifiers=["none", str(plugin)], images=3, n=200, batch=15, block=5)
    command = [sys.executable, "-m", "bench", "run", str(path), "--no-plots", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "memory kept growing while leaks at sigma = 0.5 was counted, from" in said and "it may leak" in said
    assert said.count("kept growing") == 1
