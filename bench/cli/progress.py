"""The progress display of a sweep in the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.records import Cell, Counts
from bench.summary.names import display_names
from bench.sweep import Observer


class ProgressDisplay(Observer):
    """A bar over the images of all cells, with samples per second, and a line for each cell that ends."""

    def __init__(self, console: Console, families: Mapping[str, str], cells: Sequence[Cell], images: int):
        self.console, self.cells, self.images = console, len(cells), images
        self.names = display_names(cells, families)
        self.ended = 0
        self.samples: dict[str, int] = {}
        self.busy: dict[str, float] = {}
        self.begun = time.monotonic()
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images · {task.fields[rate]} samples/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
        )
        self.task = self.bar.add_task("starting", total=self.cells * images, rate="–")

    def __enter__(self) -> ProgressDisplay:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def cell_started(self, cell: Cell, decided: int) -> None:
        self.samples[cell.key], self.busy[cell.key] = 0, 0.0
        number = min(self.ended + 1, self.cells)
        description = f"cell {number}/{self.cells}  σ {cell.sigma:g}  {self.names[cell.label]}"
        self.bar.update(self.task, advance=decided, description=description)

    def counted(self, cell: Cell, counts: Sequence[Counts], decided: int) -> None:
        self.samples[cell.key] += sum(c.block.draws for c in counts)
        self.busy[cell.key] += sum(c.cost.noise_s + c.cost.purify_s + c.cost.classify_s for c in counts)
        rate = sum(self.samples.values()) / (time.monotonic() - self.begun)
        self.bar.update(self.task, advance=decided, rate=f"{rate:,.0f}")

    def cell_ended(self, cell: Cell, error: str | None) -> None:
        self.ended += 1
        seconds = max(self.busy[cell.key], 1e-9)
        samples = self.samples[cell.key]
        subject = f"sigma {cell.sigma:<4g}  {escape(self.names[cell.label])}"
        if error:
            self.console.print(f"[red]failed[/]  {subject}: {escape(error)}", highlight=False, soft_wrap=True)
        elif samples:
            rate = f"{samples:>9,} samples in {seconds:6.1f} worker-seconds, {samples / seconds:>7,.0f}/s"
            self.console.print(f"[green]done[/]  {rate}  {subject}", highlight=False)
        else:
            self.console.print(f"[green]kept[/]  already counted  {subject}", highlight=False)
