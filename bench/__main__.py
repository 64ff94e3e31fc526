"""The command line. Each command imports what it needs when it runs, so that help and refusals come at once."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

app = typer.Typer(
    name="bench",
    help="Which diffusion purifier for this radius and this budget, and how sure are we?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(width=None if sys.stdout.isatty() else 120)  # a log is not cut at 80 columns
RUNS = Path("results") / "runs"
REFERENCE = Path("results") / "embedded"

FAILED, REFUSED, INTERRUPTED = 1, 2, 130


def refuse(message: object) -> typer.Exit:
    """Print an error and what to do; the exit status to raise."""
    Console(stderr=True, soft_wrap=True).print(f"[red]error:[/] {escape(str(message))}", highlight=False)
    return typer.Exit(REFUSED)


def say(*words: object) -> None:
    """Print a line as it is: names and paths may look like markup."""
    console.print(*words, markup=False, highlight=False, soft_wrap=True)


PurifiersOption = Annotated[
    str | None, typer.Option(help="Comma-separated names (`pf-ode:steps=8`) or paths of Python files.")
]


@app.command()
def run(
    preset: Annotated[
        str, typer.Argument(help="A preset from `bench list`, or the path of a .toml file.")
    ] = "embedded",
    purifiers: PurifiersOption = None,
    classifier: Annotated[str | None, typer.Option(help="A classifier, as for --purifiers.")] = None,
    sigmas: Annotated[str | None, typer.Option(help="Comma-separated noise levels, in [0,1] pixel units.")] = None,
    images: Annotated[int | None, typer.Option(help="How many test images, balanced over the classes.")] = None,
    certifier: Annotated[
        str | None,
        typer.Option(
            help="cohen, or a sequential rule: tight, parity, half-point, fast or acr; also anytime, two-sided, "
            "multi-class, randomised."
        ),
    ] = None,
    label_aware: Annotated[
        bool | None, typer.Option("--label-aware", help="Stop images whose selected class is wrong (sequential rules).")
    ] = None,
    n0: Annotated[int | None, typer.Option(help="Draws that choose the class.")] = None,
    n: Annotated[int | None, typer.Option(help="Draws that bound its probability (fixed rules).")] = None,
    n_max: Annotated[int | None, typer.Option(help="Most draws of a sequential rule, instead of its own.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Probability that a certificate is wrong.")] = None,
    radii: Annotated[str | None, typer.Option(help="Comma-separated L2 radii that tables and fronts read.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of the networks: fp32, bf16 or auto.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; 0 is one per core, or per GPU.")] = None,
    batch: Annotated[int | None, typer.Option(help="Draws that go through the networks together.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the data set's files, instead of the hub.")] = None,
    out: Annotated[Path | None, typer.Option(help="Results folder (results/runs/PRESET).")] = None,
    plots: Annotated[bool, typer.Option(help="Draw the pictures afterwards.")] = True,
) -> None:
    """Certify every purifier of a preset, and draw what was found. Run again, it continues where it was."""
    from bench import preset as presets

    overrides = {k: v for k, v in locals().items() if k in presets.Preset.model_fields}
    try:
        chosen = presets.load(preset, overrides)
    except presets.PresetError as error:
        raise refuse(error) from error
    from bench.plan import PlanError, resolve
    from bench.plugins import PluginError

    try:
        resolve(chosen)
    except (PluginError, PlanError) as error:
        raise refuse(error) from error
    from bench import data as images_of
    from bench.display import results_table
    from bench.run import run as run_preset
    from bench.store import StoreError

    folder = out or RUNS / chosen.name
    try:
        found, errors = run_preset(chosen, folder, console)
    except KeyboardInterrupt:
        say(f"interrupted: what was counted is stored in {folder}; the same command continues")
        raise typer.Exit(INTERRUPTED) from None
    except (ValueError, RuntimeError, PlanError, images_of.DataError, StoreError) as error:
        raise refuse(error) from error
    console.print(results_table(found))
    if plots:
        draw([folder], folder)
    if errors:
        raise typer.Exit(FAILED)


def draw(runs: list[Path], folder: Path, formats: str | None = None) -> None:
    """Draw the pictures of some runs into a folder and name them."""
    from bench import plots, store
    from bench.examples_file import read_examples
    from bench.summary import summarise

    try:
        kinds = plots.FORMATS if formats is None else plots.formats_of(formats)
        summary = summarise([store.read_run(run) for run in runs])
        examples = next((e for e in map(read_examples, runs) if e is not None), None)
    except (store.StoreError, ValueError) as error:
        raise refuse(error) from error
    written = plots.draw_all(summary, examples, folder, kinds)
    say(f"pictures in {folder}: " + ", ".join(path.name for path in written if path.suffix == written[0].suffix))


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(help="Results folders; several are drawn on the same axes.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures (the first run's).")] = None,
    formats: Annotated[str | None, typer.Option(help="Of png, svg and pdf, instead of png,svg.")] = None,
) -> None:
    """Draw fronts, curves and image grids of runs, from their results alone."""
    draw(runs, out or runs[0], formats)


@app.command()
def summary(
    runs: Annotated[list[Path], typer.Argument(help="Results folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
    radii: Annotated[str | None, typer.Option(help="Comma-separated L2 radii (those of the preset).")] = None,
    against: Annotated[str | None, typer.Option(help="A purifier to compare ACRs with, image by image.")] = None,
) -> None:
    """Print the figures of runs: certified accuracy, ACR, abstention, NFE, milliseconds."""
    from bench import store
    from bench.analysis.pairs import volumes
    from bench.display import gains_table, results_table
    from bench.records import plain
    from bench.summary import paired_gains, summarise

    try:
        at = [float(r) for r in radii.split(",")] if radii else None
        if at and not all(0 <= r < math.inf for r in at):
            raise ValueError(f"radii must be numbers of at least 0, got {radii}")
        found = summarise([store.read_run(run) for run in runs], at)
        gains = paired_gains(found, against) if against else None
    except (store.StoreError, ValueError) as error:
        raise refuse(error) from error
    if not as_json:
        console.print(results_table(found))
        for run, v in volumes(found).items():
            say(f"hypervolume of {run}: {v.value:.3f} [{v.low:.3f}, {v.high:.3f}] (ACR that a budget buys; {v.scale})")
        if gains is not None:
            console.print(gains_table(found, gains, against))
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
    """The run that was written last, or the reference run; says on stderr which one it is."""
    from bench.store import DATABASE, MANIFEST

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
) -> None:
    """Write one HTML page that answers which purifier, opens from disk, and can be sent to a reviewer."""
    from bench import store
    from bench.examples_file import read_examples
    from bench.report import write_report
    from bench.summary import run_names, summarise

    folders = runs or default_runs()
    try:
        read = [store.read_run(folder) for folder in folders]
        names = run_names(read)
        kept = {name: read_examples(folder) for name, folder in zip(names, folders, strict=True)}
        examples = {name: found for name, found in kept.items() if found is not None}
        manifests = {name: run.manifest for name, run in zip(names, read, strict=True)}
        path = write_report(summarise(read), manifests, examples, out or folders[0] / "report.html")
    except (store.StoreError, ValueError) as error:
        raise refuse(error) from error
    except OSError as error:
        raise refuse(f"the report cannot be written ({error}); give another --out") from error
    say(f"report in {path} ({path.stat().st_size / 1e6:.1f} MB): open it in a browser")


@app.command()
def recommend(
    radius: Annotated[float, typer.Option(help="L2 radius to certify, in [0,1] pixel units.")],
    runs: RunsArgument = None,
    max_nfe: Annotated[float | None, typer.Option(help="Most network evaluations per purified image.")] = None,
    max_ms: Annotated[float | None, typer.Option(help="Most milliseconds per purified image.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
) -> None:
    """Say which purifier to use for a radius and a budget, and how sure that is."""
    from bench import store
    from bench.analysis import decide
    from bench.display_decisions import candidates_table
    from bench.records import as_json as to_json
    from bench.summary import summarise

    runs = runs or default_runs()
    try:
        found = decide.recommend(summarise([store.read_run(run) for run in runs]), radius, max_nfe, max_ms)
    except (store.StoreError, ValueError) as error:
        raise refuse(error) from error
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
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
) -> None:
    """Say what changed between two runs of the same purifiers, image by image, and whether it is more than chance."""
    from bench import store
    from bench.analysis.compare import compare as compare_runs
    from bench.display_decisions import changes_tables, reading_of
    from bench.records import as_json as to_json
    from bench.summary import run_names, summarise

    try:
        if radius is not None and not 0 <= radius < math.inf:
            raise ValueError(f"the radius must be a number of at least 0, got {radius:g}")
        both = [store.read_run(run) for run in (run_a, run_b)]
        before, after = run_names(both)
        found = compare_runs(summarise(both), before, after, radius)
    except (store.StoreError, ValueError) as error:
        raise refuse(error) from error
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
) -> None:
    """Write tables for a paper, as Markdown and LaTeX: rows purifiers, columns radii, the best in bold."""
    from bench import store
    from bench.analysis import markup
    from bench.analysis import tables as paper
    from bench.summary import summarise

    runs = runs or default_runs()
    folder = out or runs[0] / "tables"
    try:
        sigmas = [float(s) for s in sigma.split(",")] if sigma else None
        made = paper.tables(summarise([store.read_run(run) for run in runs]), sigmas)
        written = markup.write(made, folder)
    except (store.StoreError, ValueError, OSError) as error:
        raise refuse(error) from error
    if not written:
        raise refuse(f"nothing is certified yet in {', '.join(map(str, runs))}; the same `bench run` continues")
    say(f"tables in {folder}: " + ", ".join(path.name for path in written))


@app.command("import")
def import_(
    log: Annotated[Path, typer.Argument(help="A log in the format of locuslab/smoothing.")],
    sigma: Annotated[float, typer.Option(help="Noise level that the log was made with.")],
    name: Annotated[str, typer.Option(help="How tables and plots name it.")],
    nfe: Annotated[float | None, typer.Option(help="Network evaluations per image, for the plots.")] = None,
    n: Annotated[int, typer.Option(help="Estimation draws of the log.")] = 100_000,
    alpha: Annotated[float, typer.Option(help="Of the log's bound.")] = 0.001,
    out: Annotated[Path, typer.Option(help="Results folder to add it to.")] = RUNS / "published",
) -> None:
    """Store a published log (radii only) so that it stands in tables and plots beside measured runs."""
    if not 0 < sigma < math.inf or n < 1 or not 0 < alpha < 1 or (nfe is not None and not 0 <= nfe < math.inf):
        raise refuse("sigma must be positive, n at least 1, alpha between 0 and 1 and nfe at least 0")
    from bench.published import PublishedError, import_log

    try:
        repaired = import_log(log, out, name, sigma, nfe, n, alpha)
    except PublishedError as error:
        raise refuse(error) from error
    for line in repaired:
        console.print(f"[yellow]repaired:[/] {line}")
    say(f"stored {name!r} in {out}; `bench summary {out}` shows it")


@app.command()
def boundaries(
    sigma: Annotated[float, typer.Option(help="Noise level, in [0,1] pixel units.")],
    radii: Annotated[str, typer.Option(help="Comma-separated L2 radii that the rule decides.")],
    certifier: Annotated[str, typer.Option(help="tight, parity, half-point, fast or acr.")] = "tight",
    alpha: Annotated[float, typer.Option(help="Probability that a certificate is wrong.")] = 0.001,
    n_max: Annotated[int | None, typer.Option(help="Most draws, instead of the rule's own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All looks and boundaries, as JSON.")] = False,
) -> None:
    """Print a sequential rule's looks, boundaries and exact crossing probabilities, for anyone to check."""
    from dataclasses import asdict

    from rich.table import Table

    from bench import rules
    from bench.names import nearest
    from bench.sequential import Sequential

    if certifier not in rules.SEQUENTIAL:
        raise refuse(nearest("certifier", certifier, rules.SEQUENTIAL))
    try:
        asked = {"radii": [float(r) for r in radii.split(",")], "n0": 100, "block": 100, "alpha": alpha, "n_max": n_max}
        rule = rules.of_sweep({"certifier": certifier, **asked}, sigma)
        assert isinstance(rule, Sequential)
        found = rule.boundaries
    except ValueError as error:
        raise refuse(error) from error
    if as_json:
        record = {"certifier": certifier, "sigma": sigma, "alpha": alpha, "constants": asdict(rule.constants)}
        sys.stdout.write(json.dumps({**record, **found.as_dict()}) + "\n")
        return
    table = Table(title=f"{certifier} at sigma = {sigma:g}, alpha = {alpha:g}: {len(found.looks)} looks")
    for column in (
        "radius",
        "threshold of pA",
        "crossing probability",
        "first look that can certify",
        "hits needed there",
    ):
        table.add_column(column, justify="right")
    for j, radius in enumerate(found.radii):
        possible = [k for k, n in enumerate(found.looks) if found.upper[j, k] <= n]
        first = (str(found.looks[possible[0]]), str(found.upper[j, possible[0]])) if possible else ("never", "")
        table.add_row(f"{radius:g}", f"{found.thresholds[j]:.6f}", f"{found.crossing[j]:.3e}", *first)
    console.print(table)


@app.command("list")
def list_() -> None:
    """List presets, purifiers, classifiers and data sets."""
    import dataclasses

    from rich.table import Table

    from bench import data, plugins, preset

    try:
        purifiers, classifiers = plugins.discover(plugins.PURIFIER), plugins.discover(plugins.CLASSIFIER)
    except plugins.PluginError as error:
        raise refuse(error) from error
    table = Table(title="Purifiers", pad_edge=False)
    for column in ("name", "family", "networks", "parameters", "NFE", "source"):
        table.add_column(column, overflow="fold")
    for name, plugin in sorted(purifiers.items()):
        purifier = plugin()
        parameters = ", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(plugin))
        nfe = purifier.nfe()
        table.add_row(
            name,
            purifier.family,
            ", ".join(purifier.networks),
            parameters,
            "measured" if nfe is None else str(nfe),
            purifier.source,
        )
    console.print(table)
    for title, names in (
        ("Classifiers", sorted(classifiers)),
        ("Data sets", sorted(data.DATASETS)),
        ("Presets", preset.names()),
    ):
        console.print(f"[bold]{title}:[/] {', '.join(names)}")


@app.command()
def train(
    dataset: Annotated[str, typer.Option(help="Data set with a recipe: mnist5k or cifar10.")] = "mnist5k",
    stages: Annotated[str | None, typer.Option(help="Comma-separated stages (all).")] = None,
    loss: Annotated[
        str | None, typer.Option(help="Distance of fine-tuning: perceptual, lpips, features, l1 or l2 (recipe).")
    ] = None,
    scale: Annotated[float, typer.Option(help="Factor on the recipes' lengths; 0.01 for a trial.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipes'.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    bf16: Annotated[bool, typer.Option(help="Train in bfloat16 autocast.")] = True,
    jobs: Annotated[int | None, typer.Option(help="Stages that train side by side (one per core).")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the data set's files, instead of the hub.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the weights (the bundled ones).")] = None,
) -> None:
    """Train the networks of a data set: classifiers, DDPM, EDM, consistency model and both fine-tunings."""
    if scale <= 0:
        raise refuse(f"scale must be positive, got {scale}")
    from bench import training
    from bench.data import DataError

    job = training.Job(dataset, str(out) if out else None, data, loss, scale, seed, device, bf16)
    chosen = [s.strip() for s in stages.split(",")] if stages else None
    try:
        training.train(job, chosen, jobs, console.print)
    except KeyError as error:
        raise refuse(error.args[0]) from error
    except (DataError, OSError, ValueError, FloatingPointError) as error:
        raise refuse(error) from error


@app.command()
def doctor(
    repair: Annotated[
        Path | None, typer.Option(help="A results folder: check its counts, and save those that are whole.")
    ] = None,
) -> None:
    """Check this machine: versions, devices, bundled weights, data sets, presets; or a results folder."""
    if repair is not None:
        from bench.repair import repair as repair_run
        from bench.repair import verdict
        from bench.store import StoreError

        try:
            for line in verdict(repair_run(repair)):
                say(line)
        except StoreError as error:
            raise refuse(error) from error
        return
    from bench.doctor import examine

    problems = 0
    for what, finding, healthy in examine():
        problems += not healthy
        line = escape(f"{what}: {finding}")
        console.print(f"{'[green]ok[/]  ' if healthy else '[red]bad[/] '} {line}", highlight=False, soft_wrap=True)
    if problems:
        raise typer.Exit(FAILED)


@app.command("new-purifier")
def new_purifier(
    name: Annotated[str, typer.Argument(help="Such as `my-purifier`.")],
    folder: Annotated[Path, typer.Option(help="Where the file goes.")] = Path("purifiers"),
    tests: Annotated[Path, typer.Option(help="Where its test goes.")] = Path("tests"),
) -> None:
    """Write a working purifier to start from, and its test."""
    from bench.scaffold import ScaffoldError, write_purifier

    try:
        plugin, test = write_purifier(name, folder, tests)
    except ScaffoldError as error:
        raise refuse(error) from error
    say(f"wrote {plugin} and {test}")
    say(f"try it:  python -m bench run --purifiers none,{plugin} --images 20 --sigmas 0.5 --out results/runs/{name}")


if __name__ == "__main__":
    app()
