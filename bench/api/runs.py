"""Runs of the public API, which users import as `purifybench`: load, run, certify. Importing it loads no torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from bench.records import Cell
    from bench.store import Run as StoredRun
    from bench.summary import Summary
    from bench.sweep import Observer, Preset
    from bench.trackers import Callback
    from purifiers.base import Purifier

RUNS = Path("results") / "runs"


class Run:
    """A run: its counts, and the certificates that its rule reads from them.

    Attributes:
        folder: the results folder; None for a run in memory.
        stored: the manifest, cells and blocks of votes, as they were read.

    Examples:
        >>> run = pb.load("results/embedded")
        >>> run.table[["name", "sigma", "acc@0.5"]]
    """

    def __init__(self, stored: StoredRun, folder: Path | None):
        self.stored, self.folder = stored, folder

    @cached_property
    def summary(self) -> Summary:
        """Table, certificates, radii and notes; see `bench.summary.summary.Summary`."""
        from bench.summary import summarise

        return summarise([self.stored])

    @property
    def table(self) -> pd.DataFrame:
        """A row for each purifier and sigma.

        Columns: `acc@R` (share of images certified at the L2 radius R, in [0,1] pixel units) with its 95 % interval
        `acc_low@R` to `acc_high@R`, `acr` (average certified radius), `abstained` (share), `nfe` (network evaluations
        per purified image), `ms_purify` (milliseconds per purified image), `gflops` and `ms_joint` (per vote, with the
        classifier) and the facts of the row.
        """
        return self.summary.table

    @property
    def best(self) -> pd.DataFrame:
        """A row for each radius and purifier, at the sigma that certifies the most there, the best first.

        Certified accuracy with its interval and its split-half figure, the distance to the best, and the gain over the
        one step of the same network; see `bench.analysis.best.best_sigmas` for the columns.
        """
        from bench.analysis import best_sigmas

        return best_sigmas(self.summary)

    def gains(self, against: str | None = None, radius: float | None = None) -> pd.DataFrame:
        """The gain of each row over a purifier at its sigma, image by image; without one, over its network's one step.

        Of average certified radius, or of certified accuracy at an L2 radius; see `bench.analysis.gains.paired_gains`.

        Raises:
            ValueError: no purifier, or several, have the name `against`.
        """
        from bench.analysis import paired_gains

        return paired_gains(self.summary, against, radius)

    @property
    def certificates(self) -> pd.DataFrame:
        """A row for each image of each row of the table: label (true class), predicted (-1: abstained), radius, ..."""
        return self.summary.certificates

    @property
    def errors(self) -> dict[str, str]:
        """Messages of the cells that failed, by cell key."""
        return dict(self.stored.errors)

    def at(self, *, alpha: float) -> Run:
        """The same counts, read at another alpha: the probability that a certificate is wrong.

        Certificates of imported logs stay as they are.

        Raises:
            ValueError: alpha is not between 0 and 1, or the rule is sequential, which fixes alpha before it counts;
                certify with the rule `anytime` to choose alpha afterwards.
        """
        from bench.summary import preset_at

        manifest = {**self.stored.manifest, "preset": preset_at(self.stored, alpha)}
        return Run(replace(self.stored, manifest=manifest), self.folder)

    def __repr__(self) -> str:
        preset, cells = self.stored.manifest.get("preset", {}), self.stored.cells.values()
        parts = [f"{len({cell.label for cell in cells})} purifiers", f"{len({cell.sigma for cell in cells})} sigmas"]
        parts += [
            f"{len(self.stored.manifest.get('labels', ()))} images",
            str(preset.get("certifier", "cohen" if cells else "imported")),
        ]
        parts += [f"{len(self.errors)} failed"] if self.errors else []
        return f"<Run {self.folder or 'in memory'}: {', '.join(parts)}>"


def load(folder: str | Path) -> Run:
    """Read a results folder: its database, or its exports.

    Raises:
        StoreError: there is no run in the folder, or its files are damaged.
    """
    from bench.store import read_run

    return Run(read_run(Path(folder)), Path(folder))


def run(
    preset: str | Path,
    out: str | Path | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    track: str | None = None,
    **fields: Any,
) -> Run:
    """Certify every purifier of a preset, as `bench run` does; continues the run that is in the folder.

    Parameters:
        preset: a name from `presets()`, or the path of a TOML file.
        out: results folder; results/runs/NAME by default.
        callbacks: receive each block, each cell and the end of the run; see `Callback`. One that fails is told by a
            warning, and ends no run.
        track: mlflow, wandb or trackio: tells this tracker the progress and the figures.
        fields: fields of the preset to replace, as values or as text: `images=50, sigmas=[0.5], purifiers="none"`.

    Raises:
        PurifyBenchError: the preset or a field is refused, data or weights are missing, or the run cannot go on. A
            purifier that fails does not raise: see `Run.errors`.

    Examples:
        >>> run = pb.run("embedded", images=50, sigmas=[0.5], out="results/runs/mine")
    """
    from bench.sweep import load_preset
    from bench.trackers import Callback

    if strangers := [callback for callback in callbacks if not isinstance(callback, Callback)]:
        raise InputError(f"callbacks must be objects of classes derived from pb.Callback, got {strangers[0]!r}")
    chosen = load_preset(str(preset), fields)
    folder = Path(out) if out else RUNS / chosen.name
    told = [*callbacks, *trackers_of(track, folder, chosen)]
    return run_into(folder, chosen, callbacks=told, warn=partial(warnings.warn, stacklevel=2))


def trackers_of(track: str | None, folder: Path, preset: Preset) -> list[Callback]:
    """The callback of a tracker that is named, or none; raises InputError as `bench.trackers.tracker`."""
    from bench.trackers import tracker

    return [tracker(track, folder.name, preset.model_dump(mode="json"))] if track else []


def run_into(
    folder: Path,
    preset: Preset,
    observe: Callable[[Sequence[Cell], int], AbstractContextManager[Observer]] | None = None,
    notify: Callable[[str], object] = lambda message: None,
    minutes: float | None = None,
    callbacks: Sequence[Callback] = (),
    warn: Callable[[str], object] | None = None,
    **drive: Any,
) -> Run:
    """Run a preset into a folder and write its `summary.csv`; parameters and errors as `bench.sweep.run.run_sweep`.

    Parameters:
        callbacks: whose errors are told through `warn`, or else `notify`, and end no run.
    """
    from bench.files import write_file
    from bench.store.checksums import relisted
    from bench.sweep import Observer, run_sweep, writing_into
    from bench.trackers import reporting

    observe = observe or (lambda cells, images: nullcontext(Observer()))
    with reporting(callbacks, warn or notify) as reports:
        run_sweep(preset, folder, reports.observed(observe), notify, minutes, **drive)
        finished = load(folder)
        with writing_into(folder), relisted(folder, "summary.csv"):
            write_file(folder / "summary.csv", finished.table.to_csv(index=False))
        reports.end(finished.summary)
    return finished


def certify(
    classifier: Callable[[Tensor], Tensor],
    images: Tensor | np.ndarray,
    labels: Tensor | np.ndarray | Sequence[int],
    *,
    sigma: float,
    purifier: str | Purifier = "none",
    networks: Mapping[str, Any] | None = None,
    n0: int = 100,
    n: int = 1000,
    alpha: float = 0.001,
    certifier: str = "cohen",
    radii: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    seed: int = 0,
    noise: str = "gaussian",
    indices: Sequence[int] | None = None,
    precision: str = "fp32",
    batch: int = 500,
    device: str = "auto",
    audit: float = 0.01,
    out: str | Path | None = None,
) -> Run:
    """Certify images with a classifier and networks that are in memory.

    The radii are those of `bench run` for the same images: the same engine, rules, and noise by (seed, image, draw).
    Modules are copied and evaluated in eval mode.

    Parameters:
        classifier: a module or function, images `[B,C,H,W]` in [0,1] -> logits `[B,K]`, rows independent. Without a
            purifier it sees the noisy images unclipped.
        images: `[N,C,H,W]` in [0,1].
        labels: true classes, `[N]` whole numbers.
        sigma: standard deviation of the noise, in [0,1] pixel units.
        purifier: a name with its parameters (`pf-ode:steps=4`), the path of a Python file, or a `Purifier`.
        networks: role -> denoiser. A denoiser is the name or path of a network, an object of `purifiers.nets`, or a
            function `D(u, t)` of `u [B,C,H,W]` (images in [-1,1] plus noise of level `t [B]`) that returns the clean
            images `[B,C,H,W]`; its attributes `t_min`, `t_max` and `levels`, if any, are respected.
        n0: draws of the selection.
        n: draws of the estimation (rules of fixed N; sequential rules stop by themselves).
        alpha: probability that a certificate is wrong.
        certifier: a rule, as of `bench run`.
        radii: L2 radii of the table; a sequential rule decides only these.
        seed: of the noise.
        noise: gaussian, or discrete for images of 8 bits (docs/certifiers.md, "Floating point").
        indices: number of each image, which selects its noise; 0 to N-1 by default.
        precision: of the networks: fp32, tf32, bf16, fp16 or auto.
        batch: draws that go through the networks together; it does not change the counts.
        device: auto, cpu, cuda or cuda:N.
        audit: share of the blocks that are counted again in other batches, at least 20; 0 switches it off, which the
            table's notes say.
        out: folder to store the run in; nothing is kept by default. It must not hold a run.

    Raises:
        ValueError: an argument has the wrong shape, range or name.
        PluginFault: the classifier or the purifier raised (the cause is attached), returned unusable values, or looks
            at more than an image and its noise.

    Examples:
        >>> pb.certify(model, images, labels, sigma=0.5, purifier="onestep-edm", networks={"edm": denoiser}).table
    """
    from bench.api.memory import certify as certify_in_memory

    settings = {"n0": n0, "n": n, "alpha": alpha, "certifier": certifier, "radii": list(radii), "seed": seed}
    settings |= {"noise": noise, "precision": precision, "batch": batch, "device": device, "sigmas": [sigma]}
    settings |= {"audit": audit}
    folder = Path(out) if out is not None else None
    run = certify_in_memory(classifier, images, labels, purifier, networks or {}, indices, folder, **settings)
    return Run(run, folder)
