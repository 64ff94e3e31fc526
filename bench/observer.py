"""Who is told how a sweep goes. Nothing here imports torch, so that summaries print at once."""

from __future__ import annotations

from collections.abc import Sequence

from bench.types import Cell, Counts


class Observer:
    """Is told how a sweep goes; this one keeps silent."""

    def cell_started(self, cell: Cell, decided: int) -> None:
        """A cell is opened; `decided` of its images need nothing more."""

    def counted(self, cell: Cell, counts: Sequence[Counts], decided: int) -> None:
        """Blocks were stored; `decided` more images have their certificate."""

    def cell_ended(self, cell: Cell, error: str | None) -> None:
        """A cell is complete, or failed."""
