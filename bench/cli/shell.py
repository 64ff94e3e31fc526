"""The application, its console and its error messages: shared by all commands."""

from __future__ import annotations

import sys
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from bench.errors import InputError, PurifyBenchError, TimeOver
from bench.executors.streams import tolerant_streams
from classifiers.base import ClassifierError
from purifiers.nets.hub.cards import WeightsError

if TYPE_CHECKING:
    from bench.sweep import Preset

REFERENCE = Path("results") / "embedded"
FAILED, REFUSED, TIME_OVER, INTERRUPTED = 1, 2, 75, 130  # 75 is EX_TEMPFAIL: try again later
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N (the run's).")]
WorkersOption = Annotated[int | None, typer.Option(help="Processes; 0 is one per core, or per GPU (the run's).")]
DataOption = Annotated[str | None, typer.Option(help="Folder of the data set's files, instead of the hub.")]
PurifiersOption = Annotated[
    str | None,
    typer.Option(help="Comma-separated Python files of the run's purifiers: results run no code by themselves."),
]
ClassifierOption = Annotated[str | None, typer.Option(help="The Python file of its classifier, or several.")]

_EXPECTED = (PurifyBenchError, ClassifierError, WeightsError)  # plugin packages do not import bench


_LIMITS = {  # words of the system and of libraries, in lower case -> the limit that was met, and the remedy
    "too many open files": "too many open files; allow more (`ulimit -n 1024`), or give fewer --workers",
    "no space left": "the disk is full; make room",
    "start new thread": "no more threads or processes are allowed (`ulimit -u`); give fewer --workers",
    "resource temporarily unavailable": "no more threads or processes are allowed (`ulimit -u`); give fewer --workers",
    **dict.fromkeys(
        ("allocate memory", "out of memory", "not enough memory", "failed to map segment", "bad_alloc"),
        "memory ran out, or its limit is too low (`ulimit -v`, the memory of a container or a job); allow more, or "
        "give fewer --workers",
    ),
}
_LEAST_ADDRESSES = 1 << 29  # bytes of virtual memory; with fewer, OpenBLAS waits for memory without end


_PAGES = {  # class of an error -> the page of docs/ that explains its subject
    **dict.fromkeys(("PluginFault", "PluginError", "ClassifierError", "ScaffoldError"), "own.md"),
    **dict.fromkeys(("DataError", "PixelError"), "own.md"),
    **dict.fromkeys(("LoadError", "WeightsError"), "networks.md"),
    **dict.fromkeys(("PresetError", "PlanError"), "run.md"),
    **dict.fromkeys(("ReplayError", "BundleError", "AttackError"), "trust.md"),
    **dict.fromkeys(("CheckpointError", "Refused"), "zoo.md"),
    **dict.fromkeys(("WorkerDied", "WorkerMismatch"), "cluster.md"),
    "StoreError": "faults.md",
    "PublishedError": "decide.md",
    "MetricsError": "report.md",
    "CompareError": "decide.md",
    "FiguresError": "protocols.md",
    "BoardError": "submitting.md",
}

EXAMPLES = {  # of every command, in the order of the help
    "run": "bench run embedded --images 100 --out results/runs/small",
    "recommend": "bench recommend results/embedded --radius 0.5 --max-nfe 2",
    "race": "bench race embedded --radius 0.5 --minutes 10",
    "report": "bench report results/embedded --out report.html",
    "summary": "bench summary results/embedded --against onestep-edm",
    "choose": "bench choose results/runs/embedded-val results/embedded",
    "compare": "bench compare results/runs/before results/runs/after",
    "plot": "bench plot results/embedded --out pictures",
    "tables": "bench tables results/embedded --out tables",
    "metrics": "bench metrics results/runs/small --only perceptual,l2",
    "attack": "bench attack results/runs/small --images 20",
    "verify": "bench verify results/embedded --share 0.01",
    "bundle": "bench bundle results/embedded",
    "board": "bench board results/embedded results/cifar10-fair --out site/board",
    "export-hub": "bench export-hub results/embedded --out embedded-dataset",
    "reproduce": "bench reproduce cifar10-paper --images 20",
    "checksums": "bench checksums results/runs/old",
    "list": "bench list",
    "doctor": "bench doctor",
    "new-purifier": "bench new-purifier my-purifier",
    "new-classifier": "bench new-classifier my-classifier",
    "new-attack": "bench new-attack my-attack",
    "new-package": "bench new-package my-package",
    "train": "bench train --dataset mnist5k --stages edm --scale 0.01 --out results/runs/zoo",
    "gpu": "bench gpu check",
    "import": 'bench import log.tsv --sigma 0.5 --name "Cohen 2019" --dataset cifar10 --n 100000',
    "arena": "bench arena cohen-0.25.tsv cohen-0.50.tsv --sigma 0.25,0.5",
    "boundaries": "bench boundaries --sigma 0.5 --radii 0.25,0.5",
    "rebuild-data": "bench rebuild-data --out data/cifar10-jpeg",
    "check-data": "bench check-data results/cifar10-fair --data data/cifar10-jpeg",
}


class _Commands(TyperGroup):
    """The commands. An expected error becomes a message and exit status 2; any other keeps its traceback.

    A time limit is no error: its message goes to stdout, and the exit status is 75. Output that cannot be written ends
    no command: its work is finished first, and the status is 2 unless the reader of a pipe has gone (`| head`).
    """

    def list_commands(self, ctx: Any) -> list[str]:
        order = list(EXAMPLES)
        return sorted(super().list_commands(ctx), key=lambda name: order.index(name) if name in order else len(order))

    def get_command(self, ctx: Any, name: str) -> Any:
        command = super().get_command(ctx, name)
        if command is not None and name in EXAMPLES:
            command.epilog = f"Example: {EXAMPLES[name]}"
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with tolerant_streams() as failure:
            try:
                return super().main(*args, **kwargs)
            except SystemExit as end:
                error = failure()
                if error is None or isinstance(error, BrokenPipeError):
                    raise
                refuse(
                    f"the output could not be written ({error.strerror or error}); files of this command are complete"
                )
                raise SystemExit(end.code or REFUSED) from error

    def invoke(self, ctx: Any) -> Any:
        try:
            _refuse_little_memory()
            return super().invoke(ctx)
        except TimeOver as over:
            say(over)
            raise typer.Exit(TIME_OVER) from over
        except _EXPECTED as error:
            raise refuse(error, _page(error)) from error
        except (OSError, ImportError, MemoryError, RuntimeError) as error:
            if (limit := limit_of(error)) is None:
                raise
            raise refuse(f"{limit}. Counts that are stored are kept, and the same command continues") from error


def limit_of(error: Exception) -> str | None:
    """The limit of the system that an error met, and the remedy; None if it met none."""
    if isinstance(error, MemoryError):
        return _LIMITS["out of memory"]
    text = str(error).lower()
    return next((limit for words, limit in _LIMITS.items() if words in text), None)


def _refuse_little_memory() -> None:
    """Raise InputError if the limit of virtual memory is too low for numpy to start."""
    if find_spec("resource") is None:  # Windows
        return
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= limit < _LEAST_ADDRESSES:
        raise InputError(
            f"the limit of virtual memory, {limit >> 10} KiB, is too low for numpy; allow at least "
            f"{_LEAST_ADDRESSES >> 10} KiB (`ulimit -v`), and about 8 GiB for networks"
        )


app = typer.Typer(
    name="bench",
    cls=_Commands,
    help="Which diffusion purifier for this radius and this budget, and how sure are we?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(width=None if sys.stdout and sys.stdout.isatty() else 124)  # 80 columns would cut the lines of a log


def _show_version(wanted: bool) -> None:
    if wanted:
        import bench

        say(f"purifybench {bench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Which diffusion purifier for this radius and this budget, and how sure are we?"""


def numbers(name: str, text: str) -> list[float]:
    """Comma-separated numbers of an option; raises InputError."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{name} must be comma-separated numbers, got {text!r}") from None


def page_of(kind: type[BaseException]) -> str | None:
    """The page that explains an error, or None: `docs/own.md`."""
    return next((f"docs/{_PAGES[cls.__name__]}" for cls in kind.__mro__ if cls.__name__ in _PAGES), None)


def _page(error: BaseException) -> str | None:
    """The page that explains an error; of a plan that a network or a classifier prevents, the page of that."""
    cause = error.__cause__ if isinstance(error, PurifyBenchError) else None
    if type(error).__name__ == "PlanError" and cause is not None and (page := page_of(type(cause))):
        return page
    return page_of(type(error))


def refuse(message: object, page: str | None = None) -> typer.Exit:
    """Print an error message, and the page that explains it; returns the exit to raise."""
    text = f"[red]error:[/] {escape(str(message))}" + (f"\n[dim]explained in {page}[/]" if page else "")
    Console(stderr=True, soft_wrap=True).print(text, highlight=False)
    return typer.Exit(REFUSED)


def notice(*words: object) -> None:
    """Print a line on stderr, apart from the results on stdout."""
    Console(stderr=True).print(*words, markup=False, highlight=False, soft_wrap=True)


def say(*words: object) -> None:
    """Print a line without interpreting markup, which names and paths may resemble."""
    console.print(*words, markup=False, highlight=False, soft_wrap=True)


def announce(file: Path, preset: Preset, overridden: Collection[str]) -> None:
    """Name the Python files that are about to run, and the files that a preset reads from outside its folder.

    Parameters:
        file: the file that holds the preset: a TOML file or the manifest of a run. A bundled preset has no suffix.
        overridden: fields that the user gave on the command line.
    """
    from bench.plugins.trust import files_outside

    plugins = (preset.classifier, *preset.purifiers, *preset.classifiers)
    for name in dict.fromkeys(plugin.name for plugin in plugins if plugin.name.endswith(".py")):
        notice(f"runs code of {name}")
    outside = list(files_outside(file, preset.model_dump(), overridden)) if file.suffix else []
    if outside:
        notice(f"{file} reads files outside of its folder: {', '.join(map(str, outside))}")
    data = Path(preset.data).resolve() if preset.data and file.suffix == ".toml" and "data" not in overridden else None
    if data and data.exists() and not data.is_relative_to(file.parent.resolve()):
        notice(f"images of {data}: there are none at that place beside {file}")
