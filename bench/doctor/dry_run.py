"""The size of a sweep before it runs: cells, bounds on draws, bytes and hours, for `bench run --dry-run`."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench import data
from bench.certify import rules
from bench.doctor.duration import seconds_per_draw, span
from bench.doctor.requirements import describe, megabytes, needs
from bench.sweep import Preset
from bench.sweep.draws import draw_bounds, sweep_bounds
from bench.sweep.plan import images_of

# Bytes of a block in run.sqlite, measured over 20,000 blocks by `nox -s perf -- -k driver`: 171 (10 classes, 100
# draws), 224 (1,000 classes, 100 draws), 245 (1,000 classes, 1,000 draws). Votes spread over 50 classes take 700.
_BYTES_PER_BLOCK = 250


def describe_dry_run(preset: Preset, folder: Path) -> list[str]:
    """Sentences on the size of a sweep; loads networks to measure their speed only if all of them are present.

    Parameters:
        folder: results folder, whose disk must hold the counts.

    Raises:
        PlanError, PluginError, DataError, InputError, LoadError, PluginFault: as the run itself would raise them.
    """
    from bench.engine.devices import choose_devices
    from bench.sweep import resolve

    resolved = resolve(preset)
    purifiers = resolved.purifiers
    sigmas = len(preset.sigmas)
    fewest, most = (len(purifiers) * draws for draws in sweep_bounds(preset))
    sequential = preset.certifier in rules.SEQUENTIAL
    blocks = len(purifiers) * preset.images * sum(_most_blocks(preset, sigma) for sigma in preset.sigmas)
    disk = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    required = list(needs(preset, resolved))
    if required[0].present:  # the data
        images_of(preset, data.load(preset.dataset, preset.split, preset.data, preset.size))
    rate = seconds_per_draw(preset, resolved, required, choose_devices(preset.device, preset.workers))
    lines = [
        f"{len(purifiers) * sigmas} cells: {len(purifiers)} purifiers at {sigmas} noise levels, "
        f"{preset.images:,} images each",
        f"draws: {f'{fewest:,} to {most:,} (the rule {preset.certifier} stops early)' if sequential else f'{most:,}'}",
        f"counts on disk: {'at most ' if sequential else ''}about {megabytes(_BYTES_PER_BLOCK * blocks)}; "
        f"{megabytes(shutil.disk_usage(disk).free)} are free in {disk}",
        f"needs: {describe(required)}",
    ]
    if rate is None:
        lines.append("time: unknown; `bench run --images 1` shows the speed of these networks")
    else:
        seconds, source = rate
        bounds = span(fewest / len(purifiers) * seconds), span(most / len(purifiers) * seconds)
        lines.append(f"time: {' to '.join(bounds if sequential else bounds[1:])} ({source})")
    if folder.is_dir() and any(folder.iterdir()):
        lines.append(f"blocks that are already stored in {folder} are not counted again")
    return lines


def _most_blocks(preset: Preset, sigma: float) -> int:
    """The most blocks of one image at one sigma; a block crosses neither the end of the selection nor a look."""
    n0, (_, most) = preset.n0, draw_bounds(preset, sigma)
    looks = [most - n0]
    if preset.certifier in rules.SEQUENTIAL:
        looks = list(rules.of_sweep(preset.model_dump(), sigma).constants.looks)  # type: ignore[attr-defined]
    parts = (n0, *(look - before for before, look in zip([0, *looks], looks, strict=False)))
    return sum(-(-draws // preset.block) for draws in parts)
