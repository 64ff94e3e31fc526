"""How many blocks a second the driver takes: scheduler, certifier and store of a run, with networks that take no time.

The rate that it must reach is that of ImageNet-64 on 64 GPUs (docs/cluster.md): their fastest purifier, all at once.
"""

from __future__ import annotations

import pytest

from bench.doctor.cost_measured import measure

FASTEST = 64 * 4000  # draws a second: 64 GPUs that only classify


@pytest.mark.parametrize(("classes", "block"), [(10, 100), (1000, 100), (1000, 1000)])
def test_blocks_per_second(benchmark, tmp_path, classes, block):
    found = benchmark.pedantic(measure, (classes, 100, 10_000, block, 2000, 10_000, tmp_path), rounds=3)
    needed = FASTEST / block
    benchmark.extra_info.update(blocks_per_s=found.added, needed=needed, bytes_of_a_block=found.stored)
    print(
        f"\n{classes:5} classes, blocks of {block:4}: {found.added:7,.0f} blocks/s through scheduler and store, "
        f"{needed:5,.0f} needed ({found.added / needed:.1f} times); {found.stored:5,.0f} bytes a block"
    )
    assert found.added > needed


def test_a_store_that_has_grown_takes_blocks_as_fast(benchmark, tmp_path):
    small, large = (measure(10, 100, 10_000, 100, 2000, blocks, tmp_path) for blocks in (20_000, 200_000))
    benchmark.extra_info.update(small=small.added, large=large.added)
    benchmark.pedantic(measure, (10, 100, 10_000, 100, 2000, 1000, tmp_path), rounds=1)
    print(f"\nblocks/s over the first 20,000: {small.added:,.0f}; over the first 200,000: {large.added:,.0f}")
    assert large.added > 0.5 * small.added
