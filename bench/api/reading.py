"""Answers from runs, and the lists of plugins and presets, for the public API. Importing it loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api.runs import Run

if TYPE_CHECKING:
    import pandas as pd

    from bench.analysis import Comparison, Recommendation
    from bench.store import Examples
    from bench.store.attacks import Attacks
    from bench.store.quality import Metrics
    from bench.store.races import Race
    from bench.summary import Summary
    from bench.sweep import Preset
    from bench.verify import Verification
    from classifiers.base import Classifier
    from purifiers.base import Purifier

_Runs = Run | Sequence[Run]


def summary_of(runs: _Runs) -> Summary:
    """The summary of one run or several; cells that several of them have are in it once."""
    from bench.summary import summarise
    from bench.summary.merge import merged

    return runs.summary if isinstance(runs, Run) else summarise(merged([run.stored for run in runs]))


def _by_name(runs: _Runs) -> dict[str, Run]:
    """The runs by their names in the summary, in the same order."""
    from bench.summary import run_names

    runs = [runs] if isinstance(runs, Run) else runs
    return dict(zip(run_names([run.stored for run in runs]), runs, strict=True))


def _folders_of(runs: _Runs) -> dict[str, Path]:
    """The folder of each run by its name, without runs in memory."""
    return {name: run.folder for name, run in _by_name(runs).items() if run.folder}


def _examples_of(runs: _Runs) -> dict[str, Examples]:
    """Example images by run, for the runs that have some."""
    from bench.store import read_examples

    return {name: found for name, folder in _folders_of(runs).items() if (found := read_examples(folder)) is not None}


def _metrics_of(runs: _Runs) -> dict[str, Metrics]:
    """Metrics of purification quality by run, for the runs that have some."""
    from bench.store import quality

    return quality.metrics_of(_folders_of(runs))


def _attacks_of(runs: _Runs) -> dict[str, Attacks]:
    """Attacks on certificates by run, for the runs that have some."""
    from bench.store import attacks

    return attacks.attacks_of(_folders_of(runs))


def _races_of(runs: _Runs) -> dict[str, Race]:
    """Races by run, for the runs that raced."""
    from bench.store.races import race_of

    found = {name: race_of(run.stored.manifest) for name, run in _by_name(runs).items()}
    return {name: race for name, race in found.items() if race is not None and race.rounds}


def recommend(
    runs: _Runs,
    radius: float,
    max_nfe: float | None = None,
    max_ms: float | None = None,
    max_gflops: float | None = None,
    max_joint_ms: float | None = None,
) -> Recommendation:
    """The purifier to use at a radius and within a budget, and how sure that is. It prints as the command does.

    Parameters:
        radius: L2, in [0,1] pixel units.
        max_nfe, max_ms: most network evaluations and most milliseconds per purified image.
        max_gflops, max_joint_ms: most 10^9 floating-point operations and most milliseconds per vote, of purifier and
            classifier together.

    Raises:
        ValueError: the radius or a budget is negative or not finite.

    Examples:
        >>> print(pb.recommend(run, radius=0.5, max_nfe=2))
    """
    from bench.analysis import recommendation
    from bench.api.answers import PrintedRecommendation

    found = recommendation.recommend(summary_of(runs), radius, max_nfe, max_ms, max_gflops, max_joint_ms)
    return PrintedRecommendation(**vars(found))


def compare(before: Run, after: Run, radius: float | None = None) -> Comparison:
    """The changes between two runs of the same purifiers, image by image. It prints as the command does.

    Parameters:
        radius: L2, in [0,1] pixel units; a radius near half of each sigma by default.

    Raises:
        ValueError: the runs have nothing in common, or the radius is negative or not finite.

    Examples:
        >>> print(pb.compare(pb.load("results/runs/before"), pb.load("results/runs/after")))
    """
    from bench.analysis import comparison
    from bench.api.answers import PrintedComparison
    from bench.errors import InputError
    from bench.summary import summarise

    if radius is not None and not 0 <= radius < float("inf"):
        raise InputError(f"the radius must be a number of at least 0, got {radius:g}")
    both = [before, after]
    first, second = _by_name(both)
    found = comparison.compare(summarise([run.stored for run in both]), first, second, radius)
    return PrintedComparison(**vars(found))


def choose(chosen_on: Run, read_on: Run, radii: Sequence[float] | None = None) -> pd.DataFrame:
    """Sigma and purifier chosen on the images of one run, and what they certify on those of another one.

    A row for each radius and purifier, and one for any purifier; see `bench.analysis.choice.choices` for the columns.

    Parameters:
        chosen_on: on validation images.
        read_on: of the same preset, on test images.
        radii: L2, in [0,1] pixel units, instead of those of the preset.

    Raises:
        ValueError: both runs are on the same images, or have no row in common.

    Examples:
        >>> pb.choose(pb.load("results/runs/val"), pb.load("results/embedded"))
    """
    from bench.analysis.choice import choices

    return choices(chosen_on.summary, read_on.summary, radii)


def plot(
    runs: _Runs,
    out: str | Path,
    formats: Sequence[str] = ("png", "svg"),
    against: str | None = None,
    radius: float | None = None,
    published: bool = False,
) -> list[Path]:
    """Draw the fronts, curves and image grids of runs; or, with `against`, the paired gains over that purifier.

    Parameters:
        out: folder of the pictures, made if it is missing.
        formats: of png, svg and pdf.
        radius: with `against`: gains of certified accuracy at this L2 radius, instead of average certified radius.
        published: draw certified accuracy beside published figures of the same data set, too (docs/protocols.md).

    Returns:
        the files, in the order in which to look at them.

    Raises:
        ValueError: an unknown format or purifier.

    Examples:
        >>> pb.plot(run, "out")
    """
    from bench import plots
    from bench.store.checksums import list_written

    kinds, folder = plots.formats_of(",".join(formats)), Path(out)
    if against is not None:
        written = plots.draw_gains(summary_of(runs), against, radius, folder, kinds)
    else:
        examples = next(iter(_examples_of(runs).values()), None)
        more = _metrics_of(runs), _attacks_of(runs), _races_of(runs)
        summary = summary_of(runs)
        written = plots.draw_all(summary, examples, folder, kinds, *more)
        if published:
            from bench.published import read_figures
            from bench.published.picture import draw_published

            written += draw_published(summary, read_figures(), folder, kinds)
    list_written(written)
    return written


def report(runs: _Runs, path: str | Path, published: bool = True) -> Path:
    """Write one self-contained HTML page about runs; returns its path.

    Parameters:
        published: show published figures of the same data set, if there are some (docs/protocols.md).

    Examples:
        >>> pb.report([run], "report.html")
    """
    from bench.published import read_figures
    from bench.report import write_report
    from bench.store.checksums import list_written

    manifests = {name: run.stored.manifest for name, run in _by_name(runs).items()}
    more = _metrics_of(runs), _attacks_of(runs), read_figures() if published else ()
    page = write_report(summary_of(runs), manifests, _examples_of(runs), Path(path), *more)
    list_written([page])
    return page


def verify(
    run: Run | str | Path, share: float = 0.01, *, seed: int | None = None, counts: bool = True, **options: Any
) -> Verification:
    """Check a run without trusting it: its figures against its counts, and a random share of its counts again.

    Parameters:
        run: a run in a folder, its path, or a bundle; what is checked are the files.
        share: of the blocks of each cell that are counted again, at least one block of each.
        seed: chooses the blocks; without one a new random seed is drawn.
        counts: False checks only that the figures follow from the counts, without torch.
        options: `device`, `workers`, `data`, `networks` (role -> network), `purifiers` and `classifier` (Python files),
            where this machine differs from the one of the run; `notify`, called with messages about the way.

    Raises:
        ValueError: the run is in memory only, or the share or the seed is out of range.
        StoreError, BundleError: the run cannot be read.

    Examples:
        >>> print(pb.verify("results/embedded", share=0.02, seed=7))
    """
    from bench.verify import verify as verify_files

    return verify_files(_folder_of(run), share, seed, counts, **options)


def bundle(run: Run | str | Path, path: str | Path) -> str:
    """Write a run as one zip that a reviewer can check with `verify`; returns its SHA-256.

    Raises:
        BundleError: the run has not ended, or its files contradict its counts.
    """
    from bench.verify import write_bundle

    return write_bundle(_folder_of(run), Path(path))


def _folder_of(run: Run | str | Path) -> Path:
    """The path of a run's files; raises InputError if it has none."""
    from bench.errors import InputError

    path = run.folder if isinstance(run, Run) else Path(run)
    if path is None:
        raise InputError("the run is in memory only; give `out=` to pb.certify to keep it, and modules that files name")
    return path


def purifiers() -> dict[str, type[Purifier]]:
    """The purifiers by name: those of the project and those of installed packages.

    Raises:
        PluginError: a plugin cannot be imported, or two have the same name.
    """
    from bench.plugins import PURIFIER, discover

    return discover(PURIFIER)


def classifiers() -> dict[str, type[Classifier]]:
    """The classifier plugins by name; raises as `purifiers`."""
    from bench.plugins import CLASSIFIER, discover

    return discover(CLASSIFIER)


def presets() -> dict[str, Preset]:
    """The presets of the project by name."""
    from bench.sweep import preset

    return {name: preset.load_preset(name, {}) for name in preset.names()}
