"""Read results: pictures, tables, reports, recommendations, comparisons."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bench.api import reading
from bench.api import runs as api
from bench.cli.shell import REFERENCE, app, console, notice, numbers, say
from bench.errors import InputError
from bench.files import make_subfolder

_Alpha = Annotated[
    float | None,
    typer.Option(help="Read the counts at this probability of error, instead of the run's (rules of fixed N only)."),
]
_Published = Annotated[
    bool, typer.Option("--published/--no-published", help="Show published figures of the same data set.")
]
_RunsArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="Results folders; without one, the newest in results/runs, else results/embedded."),
]


def _loaded(folders: Sequence[Path], alpha: float | None = None) -> list[api.Run]:
    """The runs of some folders, read at another alpha if one is given."""
    runs = [api.load(folder) for folder in folders]
    return runs if alpha is None else [run.at(alpha=alpha) for run in runs]


def _default_folders() -> list[Path]:
    """The newest run, or the reference run; its name goes to stderr."""
    from bench.store import MANIFEST
    from bench.store.database import DATABASE

    written = [path for name in (DATABASE, MANIFEST) for path in api.RUNS.glob(f"*/{name}")]
    newest = max(written, key=lambda path: path.stat().st_mtime, default=REFERENCE / MANIFEST).parent
    if not newest.is_dir():
        raise InputError(f"there is no run in {api.RUNS}; make one with `bench run`, or give a results folder")
    notice(f"reading {newest}")
    return [newest]


@contextmanager
def _writing(subject: str, remedy: str = "give another --out") -> Iterator[None]:
    """Turn an error of the system into a message."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{subject} cannot be written ({error}); {remedy}") from error


def draw(runs: Sequence[api.Run], folder: Path, formats: str | None = None, **options: Any) -> None:
    """Draw the pictures of some runs into a folder, or the gains over one purifier, and name the files.

    Parameters:
        options: `against`, `radius` and `published` of `bench.api.reading.plot`.
    """
    from bench.plots import FORMATS

    kinds = formats.split(",") if formats is not None else FORMATS
    with _writing("the pictures", "give `bench plot` another --out"):
        written = reading.plot(runs, folder, kinds, **options)
    names = ", ".join(path.name for path in written if path.suffix == written[0].suffix)
    say(f"pictures in {written[0].parent}: {names}")
    if options.get("published") and not any(path.stem.startswith("published") for path in written):
        say("published: none, for no published figure is about the test images of these data sets (docs/protocols.md)")


def _folder_for(folders: Sequence[Path], out: Path | None) -> Path:
    """Where to write about some runs: the folder of a single one, or `--out`, so that none of several gets it."""
    if out is None and len(folders) > 1:
        raise InputError("several runs are read together; say --out where to write, so that none of them gets it")
    return out or folders[0]


def _check_radius(radius: float | None, against: str | None) -> None:
    """Refuse a radius that is not a number of at least 0, or is given without a purifier to compare with."""
    if radius is not None and not (against and 0 <= radius < math.inf):
        raise InputError("--radius is a number of at least 0, and belongs to --against NAME")


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(help="Results folders; several are drawn on the same axes.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures (the run's).")] = None,
    formats: Annotated[str | None, typer.Option(help="Of png, svg and pdf, instead of png,svg.")] = None,
    against: Annotated[str | None, typer.Option(help="Draw the gains over this purifier instead.")] = None,
    radius: Annotated[float | None, typer.Option(help="Of the gains: accuracy there, instead of ACR.")] = None,
    published: _Published = False,
    alpha: _Alpha = None,
) -> None:
    """Draw fronts, curves and image grids of runs, from their results alone; or paired gains over one purifier."""
    _check_radius(radius, against)
    if published and against:
        raise InputError("--published draws certified accuracy, and --against gains: give one of them")
    draw(_loaded(runs, alpha), _folder_for(runs, out), formats, against=against, radius=radius, published=published)


@app.command()
def summary(
    runs: Annotated[list[Path], typer.Argument(help="Results folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
    radii: Annotated[str | None, typer.Option(help="Comma-separated L2 radii (those of the preset).")] = None,
    against: Annotated[str | None, typer.Option(help="A purifier to compare with, image by image.")] = None,
    radius: Annotated[float | None, typer.Option(help="Of that comparison: accuracy there, instead of ACR.")] = None,
    alpha: _Alpha = None,
) -> None:
    """Print the figures of runs: each purifier at its best σ and at each σ, its gains and losses, its cost."""
    _check_radius(radius, against)
    from bench.analysis import best_sigmas, gain_sentences, paired_gains
    from bench.api.answers import show
    from bench.cli.tables import gains_table, summary_parts
    from bench.records import plain
    from bench.summary import summarise
    from bench.summary.merge import merged
    from bench.summary.pairs import volumes

    at = numbers("radii", radii) if radii else None
    if at and not all(0 <= r < math.inf for r in at):
        raise InputError(f"radii must be numbers of at least 0, got {radii}")
    found = summarise(merged([run.stored for run in _loaded(runs, alpha)]), at)
    gains = paired_gains(found, against, radius) if against else None
    if not as_json:
        show(summary_parts(found), console)
        for run, v in volumes(found).items():
            say(f"hypervolume of {run}: {v.value:.3f} [{v.low:.3f}, {v.high:.3f}] (ACR that a budget buys; {v.scale})")
        if gains is not None:
            console.print(gains_table(gains, against, radius))
            show(iter(gain_sentences(gains, str(against))), console)
        return
    record: dict[str, Any] = {"title": found.title, "radii": found.radii, "notes": found.notes}
    record["evidence"] = found.evidence
    frames = {"best": best_sigmas(found), "rows": found.table, "own_gains": paired_gains(found)}
    frames |= {} if gains is None else {"gains": gains}
    record |= {name: json.loads(f.to_json(orient="records", double_precision=15)) for name, f in frames.items()}
    record["hypervolumes"] = plain(volumes(found))
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


@app.command()
def report(
    runs: _RunsArgument = None,
    out: Annotated[Path | None, typer.Option(help="The page (report.html in the run's folder).")] = None,
    published: _Published = True,
    alpha: _Alpha = None,
) -> None:
    """Write one HTML page that answers which purifier, opens from disk, and can be sent to a reviewer."""
    folders = runs or _default_folders()
    page = out or _folder_for(folders, out) / "report.html"
    with _writing("the report"):
        path = reading.report(_loaded(folders, alpha), page, published)
    say(f"report in {path} ({path.stat().st_size / 1e6:.1f} MB): open it in a browser")


def _show(parts: Iterator[str | Table], record: object, as_json: bool) -> None:
    """Print an answer, or its record as JSON."""
    from bench.api.answers import show
    from bench.records import as_json as to_json

    if as_json:
        sys.stdout.write(to_json(record))
    else:
        show(parts, console)


@app.command()
def recommend(
    radius: Annotated[float, typer.Option(help="L2 radius to certify, in [0,1] pixel units.")],
    runs: _RunsArgument = None,
    max_nfe: Annotated[float | None, typer.Option(help="Most network evaluations per purified image.")] = None,
    max_ms: Annotated[float | None, typer.Option(help="Most milliseconds per purified image.")] = None,
    max_gflops: Annotated[float | None, typer.Option(help="Most GFLOPs per vote, of purifier and classifier.")] = None,
    max_joint_ms: Annotated[float | None, typer.Option(help="Most milliseconds per vote, of both.")] = None,
    alpha: _Alpha = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
) -> None:
    """Recommend a purifier for a radius and a budget, and tell how sure that is."""
    from bench.api.answers import recommendation_parts

    budgets = max_nfe, max_ms, max_gflops, max_joint_ms
    found = reading.recommend(_loaded(runs or _default_folders(), alpha), radius, *budgets)
    _show(recommendation_parts(found), found, as_json)


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Results folder: before.")],
    run_b: Annotated[Path, typer.Argument(help="Results folder: after.")],
    radius: Annotated[float | None, typer.Option(help="L2 radius, instead of one near half of each σ.")] = None,
    alpha: _Alpha = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
) -> None:
    """Compare two runs of the same purifiers, image by image, and test whether changes are more than chance."""
    from bench.api.answers import comparison_parts

    before, after = _loaded([run_a, run_b], alpha)
    found = reading.compare(before, after, radius)
    _show(comparison_parts(found), {"verdict": found.verdict, **vars(found)}, as_json)


@app.command()
def tables(
    runs: _RunsArgument = None,
    out: Annotated[Path | None, typer.Option(help="Folder, instead of `tables` in the run's.")] = None,
    sigma: Annotated[str | None, typer.Option(help="Comma-separated noise levels, instead of all.")] = None,
    published: _Published = True,
    alpha: _Alpha = None,
) -> None:
    """Write tables for a paper, as Markdown and LaTeX: rows purifiers, columns radii, the best in bold."""
    from bench.analysis import markup
    from bench.analysis import tables as paper
    from bench.published import published_table, read_figures
    from bench.store.checksums import list_written

    folders = runs or _default_folders()
    sigmas = numbers("sigma", sigma) if sigma else None
    summary = reading.summary_of(_loaded(folders, alpha))
    made = paper.tables(summary, sigmas)
    made += published_table(summary, read_figures()) if published and made else []
    beside = _folder_for(folders, out)
    with _writing("the tables"):
        folder = out or make_subfolder(beside, "tables")
        written = markup.write(made, folder)
        list_written(written)
    if not written:
        raise InputError(f"nothing is certified yet in {', '.join(map(str, folders))}; the same `bench run` continues")
    say(f"tables in {folder}: " + ", ".join(path.name for path in written))
