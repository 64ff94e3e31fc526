"""Published figures as tables for a paper and for the report. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from bench.analysis.tables import EPSILON, Entry, PaperTable
from bench.published.beside import READING, beside
from bench.published.figures import Figure
from bench.summary import Summary
from bench.summary.format import percent_interval


def published_table(summary: Summary, figures: Iterable[Figure]) -> list[PaperTable]:
    """A table of the published figures of each data set of the summary's test images: a row for each series.

    It is named `published`, or `published-DATASET` if there are several.
    """
    found = beside(summary, figures)
    several = len(found) > 1
    return [_of_data_set(f"published-{name}" if several else "published", name, own) for name, own in found.items()]


def chart_marks(figures: Iterable[Figure], sigmas: Iterable[float]) -> list[dict[str, object]]:
    """The figures of single noise levels as a chart of the report takes them: shares and intervals in percent."""
    levels = set(sigmas)
    marks = []
    for figure in figures:
        if figure.value is not None and figure.sigma in levels:
            low, high = (round(100 * end, 1) for end in figure.interval) if figure.interval else (None, None)
            place = {"sigma": f"{figure.sigma:g}", "radius": figure.radius, "y": round(100 * figure.value, 4)}
            marks.append({**place, "low": low, "high": high, "label": figure.label})
    return marks


def _of_data_set(name: str, dataset: str, figures: list[Figure]) -> PaperTable:
    radii = sorted({figure.radius for figure in figures})
    by_label: dict[str, dict[float, Figure]] = {}
    for figure in figures:
        by_label.setdefault(figure.label, {})[figure.radius] = figure
    rows = []
    for series in by_label.values():
        first = next(iter(series.values()))
        facts = (
            f"{first.source}, {first.method}",
            first.sigma_words.removeprefix("σ "),
            "not stated" if first.images is None else f"{first.images:,}",
            "not stated" if first.n is None else f"{first.n:,}",
            "not stated" if first.alpha is None else f"{first.alpha:g}",
            first.read,
        )
        rows.append((*map(Entry, facts), *(Entry(_words(series.get(radius))) for radius in radii)))
    notes = (READING, *(f"{source}: {url}" for source, url in {f.source: f.url for f in figures}.items()))
    head = ("Published", "σ", "images", "N", "alpha", "read in", *(f"{EPSILON}{radius:g}" for radius in radii))
    caption = f"Published certified accuracy (%) on {dataset} at radius ε."
    return PaperTable(name, caption, head, tuple(rows), notes)


def _words(figure: Figure | None) -> str:
    """`60.0 [55.6, 64.2]`, with the decimals of the source; a dash for no figure."""
    if figure is None or figure.value is None:
        return "–"
    value = f"{100 * figure.value:.{max(figure.decimals - 2, 0)}f}"
    return value if figure.interval is None else f"{value} {percent_interval(*figure.interval)}"
