"""Read results: pictures, tables, reports, recommendations, comparisons."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bench.cli.shell import REFERENCE, RUNS, app, console, refuse, say

if TYPE_CHECKING:
    from bench.summary.summary import Summary

Alpha = Annotated[
    float | None,
    typer.Option(help="Read the counts at this probability of error, instead of the run's (rules of fixed N only)."),
]
PICTURES = "pictures", "give `bench plot` another --out"


@contextmanager
def refusing(output: str, remedy: str = "give another --out") -> Iterator[None]:
    """Turn errors of reading results, and of writing an `output`, into messages of the command line."""
    from bench.store.database import StoreError

    try:
        yield
    except (StoreError, ValueError) as error:
        raise refuse(error) from error
    except OSError as error:
        raise refuse(f"the {output} cannot be written ({error}); {remedy}") from error


def summary_of(runs: list[Path], alpha: float | None, radii: list[float] | None = None) -> Summary:
    """Read and summarise some results folders."""
    from bench.store.run import read_run
    from bench.summary.summary import summarise

    return summarise([read_run(run) for run in runs], radii, alpha)


def draw(runs: list[Path], folder: Path, formats: str | None = None, alpha: float | None = None) -> None:
    """Draw the pictures of some runs into a folder and name them."""
    from bench import plots
    from bench.store.examples import read_examples
    from bench.store.quality import metrics_of
    from bench.store.run import read_run
    from bench.summary.summary import run_names, summarise

    with refusing(*PICTURES):
        kinds = plots.FORMATS if formats is None else plots.formats_of(formats)
        read = [read_run(run) for run in runs]
        summary, metrics = summarise(read, alpha=alpha), metrics_of(dict(zip(run_names(read), runs, strict=True)))
        examples = next((e for e in map(read_examples, runs) if e is not None), None)
        name_pictures(plots.draw_all(summary, examples, folder, kinds, metrics))


def draw_gains(
    runs: list[Path], folder: Path, formats: str | None, against: str, radius: float | None, alpha: float | None = None
) -> None:
    """Draw the gains of all purifiers of some runs over one of them, and name the files."""
    from bench import plots

    with refusing(*PICTURES):
        kinds = plots.FORMATS if formats is None else plots.formats_of(formats)
        name_pictures(plots.draw_gains(summary_of(runs, alpha), against, radius, folder, kinds))


def name_pictures(written: list[Path]) -> None:
    names = ", ".join(path.name for path in written if path.suffix == written[0].suffix)
    say(f"pictures in {written[0].parent}: {names}")


def check_radius(radius: float | None, against: str | None) -> None:
    """Refuse a radius that is not a number of at least 0, or is given without a purifier to compare with."""
    if radius is not None and not (against and 0 <= radius < math.inf):
        raise refuse("--radius is a number of at least 0, and belongs to --against NAME")


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(help="Results folders; several are drawn on the same axes.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures (the first run's).")] = None,
    formats: Annotated[str | None, typer.Option(help="Of png, svg and pdf, instead of png,svg.")] = None,
    against: Annotated[str | None, typer.Option(help="Draw the gains over this purifier instead.")] = None,
    radius: Annotated[float | None, typer.Option(help="Of the gains: accuracy there, instead of ACR.")] = None,
    alpha: Alpha = None,
) -> None:
    """Draw fronts, curves and image grids of runs, from their results alone; or paired gains over one purifier."""
    check_radius(radius, against)
    folder = out or runs[0]
    if against:
        draw_gains(runs, folder, formats, against, radius, alpha)
    else:
        draw(runs, folder, formats, alpha)


@app.command()
def summary(
    runs: Annotated[list[Path], typer.Argument(help="Results folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
    radii: Annotated[str | None, typer.Option(help="Comma-separated L2 radii (those of the preset).")] = None,
    against: Annotated[str | None, typer.Option(help="A purifier to compare with, image by image.")] = None,
    radius: Annotated[float | None, typer.Option(help="Of that comparison: accuracy there, instead of ACR.")] = None,
    alpha: Alpha = None,
) -> None:
    """Print the figures of runs: certified accuracy, ACR, abstention, NFE, milliseconds."""
    check_radius(radius, against)
    from bench.analysis.gains import paired_gains
    from bench.cli.progress import results_table
    from bench.cli.tables import gains_table
    from bench.records import plain
    from bench.summary.pairs import volumes

    with refusing("results"):
        at = [float(r) for r in radii.split(",")] if radii else None
        if at and not all(0 <= r < math.inf for r in at):
            raise ValueError(f"radii must be numbers of at least 0, got {radii}")
        found = summary_of(runs, alpha, at)
        gains = paired_gains(found, against, radius) if against else None
    if not as_json:
        console.print(results_table(found))
        for run, v in volumes(found).items():
            say(f"hypervolume of {run}: {v.value:.3f} [{v.low:.3f}, {v.high:.3f}] (ACR that a budget buys; {v.scale})")
        if gains is not None:
            console.print(gains_table(gains, against, radius))
        return
    rows = json.loads(found.table.to_json(orient="records", double_precision=15))
    record = {"title": found.title, "radii": found.radii, "notes": found.notes, "rows": rows}
    record["hypervolumes"] = plain(volumes(found))
    if gains is not None:
        record["gains"] = json.loads(gains.to_json(orient="records", double_precision=15))
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


RunsArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="Results folders; without one, the newest in results/runs, else results/embedded."),
]


def default_runs() -> list[Path]:
    """The newest run, or the reference run; its name goes to stderr."""
    from bench.store.database import DATABASE
    from bench.store.run import MANIFEST

    written = [path for name in (DATABASE, MANIFEST) for path in RUNS.glob(f"*/{name}")]
    newest = max(written, key=lambda path: path.stat().st_mtime, default=REFERENCE / MANIFEST).parent
    if not newest.is_dir():
        raise refuse(f"there is no run in {RUNS}; make one with `bench run`, or give a results folder")
    Console(stderr=True, soft_wrap=True).print(f"reading {newest}", markup=False, highlight=False)
    return [newest]


@app.command()
def report(
    runs: RunsArgument = None,
    out: Annotated[Path | None, typer.Option(help="The page (report.html in the first run's folder).")] = None,
    alpha: Alpha = None,
) -> None:
    """Write one self-contained HTML page that recommends a purifier and shows all figures."""
    from bench.report import write_report
    from bench.store.examples import read_examples
    from bench.store.quality import metrics_of
    from bench.store.run import read_run
    from bench.summary.summary import run_names, summarise

    folders = runs or default_runs()
    with refusing("report"):
        read = [read_run(folder) for folder in folders]
        names = run_names(read)
        kept = {name: read_examples(folder) for name, folder in zip(names, folders, strict=True)}
        examples = {name: example for name, example in kept.items() if example is not None}
        manifests = {name: run.manifest for name, run in zip(names, read, strict=True)}
        measured = metrics_of(dict(zip(names, folders, strict=True)))
        path = write_report(
            summarise(read, alpha=alpha), manifests, examples, out or folders[0] / "report.html", measured
        )
    say(f"report in {path} ({path.stat().st_size / 1e6:.1f} MB): open it in a browser")


@app.command()
def recommend(
    radius: Annotated[float, typer.Option(help="L2 radius to certify, in [0,1] pixel units.")],
    runs: RunsArgument = None,
    max_nfe: Annotated[float | None, typer.Option(help="Most network evaluations per purified image.")] = None,
    max_ms: Annotated[float | None, typer.Option(help="Most milliseconds per purified image.")] = None,
    alpha: Alpha = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
) -> None:
    """Recommend a purifier for a radius and a budget, and tell how sure that is."""
    from bench.analysis import recommendation as decide
    from bench.cli.tables import candidates_table
    from bench.records import as_json as to_json

    runs = runs or default_runs()
    with refusing("results"):
        found = decide.recommend(summary_of(runs, alpha), radius, max_nfe, max_ms)
    if as_json:
        sys.stdout.write(to_json(found))
        return
    say(found.verdict)
    if found.probability is not None:
        say(f"Probability that no other candidate is better: {found.probability:.2f} (bootstrap over images).")
    if found.standings:
        console.print(candidates_table(found))
    for note in found.notes:
        say(f"note: {note}")


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Results folder: before.")],
    run_b: Annotated[Path, typer.Argument(help="Results folder: after.")],
    radius: Annotated[float | None, typer.Option(help="L2 radius, instead of one near half of each σ.")] = None,
    alpha: Alpha = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
) -> None:
    """Compare two runs of the same purifiers, image by image, and test whether changes are more than chance."""
    from bench.analysis.comparison import compare as compare_runs
    from bench.cli.tables import changes_tables, reading_of
    from bench.records import as_json as to_json
    from bench.store.run import read_run
    from bench.summary.summary import run_names, summarise

    with refusing("results"):
        if radius is not None and not 0 <= radius < math.inf:
            raise ValueError(f"the radius must be a number of at least 0, got {radius:g}")
        both = [read_run(run) for run in (run_a, run_b)]
        before, after = run_names(both)
        found = compare_runs(summarise(both, alpha=alpha), before, after, radius)
    if as_json:
        sys.stdout.write(to_json({"verdict": found.verdict, **vars(found)}))
        return
    say(found.verdict)
    for table in changes_tables(found):
        console.print(table)
    for line in reading_of(found):
        say(line)


@app.command()
def tables(
    runs: RunsArgument = None,
    out: Annotated[Path | None, typer.Option(help="Folder, instead of `tables` in the first run's.")] = None,
    sigma: Annotated[str | None, typer.Option(help="Comma-separated noise levels, instead of all.")] = None,
    alpha: Alpha = None,
) -> None:
    """Write tables for a paper, as Markdown and LaTeX: rows purifiers, columns radii, the best in bold."""
    from bench.analysis import markup
    from bench.analysis import tables as paper

    runs = runs or default_runs()
    folder = out or runs[0] / "tables"
    with refusing("tables"):
        sigmas = [float(s) for s in sigma.split(",")] if sigma else None
        made = paper.tables(summary_of(runs, alpha), sigmas)
        written = markup.write(made, folder)
    if not written:
        raise refuse(f"nothing is certified yet in {', '.join(map(str, runs))}; the same `bench run` continues")
    say(f"tables in {folder}: " + ", ".join(path.name for path in written))
