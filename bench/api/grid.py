"""The one look of all terminal tables of figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

_WORDS = ("", "run", "purifier")  # columns of words, on the left; all others hold figures


def figure_table(
    title: str, columns: Iterable[str], caption: str | None = None, no_wrap: bool = False, **style: Any
) -> Table:
    """An empty table: figures on the right, long names of purifiers folded rather than cut.

    Parameters:
        no_wrap: keep each figure on one line.
        style: further arguments of `rich.table.Table`.
    """
    below = None if caption is None else Text(caption)
    table = Table(title=Text(title), caption=below, caption_justify="left", pad_edge=False, **style)
    for column in columns:
        if column in _WORDS:
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=no_wrap)
    return table
