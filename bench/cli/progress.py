"""What a person sees in the terminal: progress while a sweep runs, its table afterwards."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bench.records import Cell, Counts
from bench.summary.format import percent
from bench.summary.names import display_names
from bench.summary.rows import named
from bench.summary.summary import COUNTED, Summary
from bench.sweep.scheduler import Observer


class ProgressDisplay(Observer):
    """A bar over the images of all cells, with samples per second; a line for each cell that ends."""

    def __init__(self, console: Console, cells: Sequence[Cell], images: int):
        self.console, self.cells, self.images = console, len(cells), images
        self.names = display_names(cells, {})
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
        self.bar.update(self.task, advance=decided, description=self.describe(cell))

    def counted(self, cell: Cell, counts: Sequence[Counts], decided: int) -> None:
        self.samples[cell.key] += sum(c.block.draws for c in counts)
        self.busy[cell.key] += sum(c.cost.noise_s + c.cost.purify_s + c.cost.classify_s for c in counts)
        rate = sum(self.samples.values()) / (time.monotonic() - self.begun)
        self.bar.update(self.task, advance=decided, rate=f"{rate:,.0f}")

    def cell_ended(self, cell: Cell, error: str | None) -> None:
        self.ended += 1
        seconds = max(self.busy[cell.key], 1e-9)
        samples = self.samples[cell.key]
        if error:
            where = f"sigma {cell.sigma:<4g}  {escape(self.names[cell.label])}: {escape(error)}"
            self.console.print(f"[red]failed[/]  {where}", highlight=False, soft_wrap=True)
        elif samples:
            rate = f"{samples:>9,} samples in {seconds:6.1f} worker-seconds, {samples / seconds:>7,.0f}/s"
            where = f"sigma {cell.sigma:<4g}  {escape(self.names[cell.label])}"
            self.console.print(f"[green]done[/]  {rate}  {where}", highlight=False)
        else:
            where = f"sigma {cell.sigma:<4g}  {escape(self.names[cell.label])}"
            self.console.print(f"[green]kept[/]  already counted  {where}", highlight=False)

    def describe(self, cell: Cell) -> str:
        return f"cell {min(self.ended + 1, self.cells)}/{self.cells}  σ {cell.sigma:g}  {self.names[cell.label]}"


def results_table(summary: Summary) -> Table:
    """Certified accuracy at the radii, ACR, abstention, NFE and milliseconds, by sigma and purifier."""
    rules = summary.table["rule"].drop_duplicates()
    table = Table(
        title=Text(f"{summary.title}: certified accuracy (%) at L2 radii"),
        caption=Text("\n".join([*(f"by {rule}" for rule in rules), *summary.notes])),
        caption_justify="left",
        pad_edge=False,
    )
    table.add_column("σ", justify="right")
    table.add_column("purifier", no_wrap=False, overflow="fold")
    for radius in summary.radii:
        table.add_column(f"≥{radius:g}", justify="right")
    for name in ("ACR", "abst.", "NFE", "ms", "images"):
        table.add_column(name, justify="right")
    for sigma, rows in named(summary).groupby("sigma", sort=True):
        table.add_section()
        for _, row in rows.iterrows():
            table.add_row(f"{sigma:g}", escape(row["series"]), *cells_of(row, summary.radii))
    return table


def cells_of(row: pd.Series, radii: Sequence[float]) -> list[str]:
    """One row's figures as text; a radius beyond what its draws could certify is left blank."""
    if not row["images"]:
        return ["" for _ in radii] + ["", "", "", "", "0" if pd.isna(row["error"]) else "failed"]
    at = ["" if pd.isna(share := row[f"acc@{r:g}"]) else f"{100 * share:.1f}" for r in radii]
    ms = f"{row['ms_purify']:.2f}" if row["source"] == COUNTED else ""
    nfe = "" if pd.isna(row["nfe"]) else f"{row['nfe']:.3g}"
    return [*at, f"{row['acr']:.3f}", percent(row["abstained"]), nfe, ms, f"{row['images']:.0f}"]
