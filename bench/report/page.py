"""The page: the values of its template, with scripts and styles inside one file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import pandas as pd
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from bench.analysis import Recommendation
from bench.published import Figure, beside, chart_marks, published_table
from bench.report.attack import attacks_section
from bench.report.data import STAGES, record, times
from bench.report.decisions import budgets, candidates, decisions
from bench.report.figures import UNKNOWN, known, short
from bench.report.pictures import grids
from bench.report.quality import quality
from bench.report.reading import reading
from bench.report.runs import describe
from bench.store import Examples
from bench.store.attacks import Attacks
from bench.store.quality import Metrics
from bench.summary import Summary
from bench.summary.format import p_text, percent, percent_interval
from bench.summary.notes import shared_times
from bench.summary.palette import FAMILIES
from bench.summary.rows import conditions, drawable
from bench.summary.statistics import CONFIDENCE

_LIBRARIES = ("vendor/d3.min.js", "vendor/plot.umd.min.js")
_LICENCES = "vendor/LICENSES.txt"
_OWN = ("parts.js", "choose.js", "places.js", "front.js", "curves.js", "quality.js", "report.js")


def render(
    summary: Summary,
    manifests: Mapping[str, Mapping[str, Any]],
    examples: Mapping[str, Examples],
    metrics: Mapping[str, Metrics],
    attacks: Mapping[str, Attacks] | None = None,
    published: Sequence[Figure] = (),
) -> str:
    """The whole page as HTML; texts from results are escaped. Parameters as `bench.report.write_report` takes them."""
    table, facts = drawable(summary), record(summary)
    templates = _environment()
    answer = templates.get_template("answer.html")
    offered = budgets(summary.table)
    choices, answers = decisions(
        summary, offered, lambda advice: answer.render(a=advice, candidates=candidates(advice), level=1 - CONFIDENCE)
    )
    rows = facts["rows"]
    facts["quality"] = quality(table, rows, metrics) | {"sigma": facts["opening"]["sigma"]}
    facts["shared"] = shared_times(table) if len(table) else ""
    quoted = [figure for own in beside(summary, published).values() for figure in own]
    if marks := chart_marks(quoted, (sigma["value"] for sigma in facts["sigmas"])):
        facts["published"] = marks
    facts |= {"choices": choices, "uses": [_used(advice, rows) for advice in answers.values()]}
    opening = choices[summary.radii.index(facts["opening"]["radius"])][0]
    if (use := facts["uses"][opening]) is not None:
        facts["opening"]["sigma"] = rows[use]["sigma"]["value"]
    scripts = [f"/*\n{_read(_LICENCES)}*/", *map(_read, _LIBRARIES), "\n".join(map(_read, _OWN))]
    rules = sorted({row["certifier"] for row in rows})
    pictures, pictures_shown = grids(summary, examples)
    return templates.get_template("template.html").render(
        title=summary.title,
        conditions=conditions(table),
        notes=summary.notes,
        record=facts,
        record_json=htmlsafe_json_dumps(facts, allow_nan=False, separators=(",", ":")),
        budgets=list(enumerate(offered)),
        answers=list(map(Markup, answers)),
        opening=opening,
        palette=FAMILIES,
        certifiers="; ".join(rules),
        several_certifiers=len(rules) > 1,
        several_runs=len(manifests) > 1,
        attacks=attacks_section(table, attacks or {}),
        reading=reading(summary, table),
        published=published_table(summary, quoted),
        grids=pictures,
        pictures_shown=pictures_shown,
        stages=STAGES,
        times=times(table),
        timed=len(table) > 0 and table["ms_joint"].notna().any() and not summary.untimed,
        counted_flops=len(table) > 0 and table["gflops"].notna().any(),
        classifier_gflops=_classifier_gflops(table),
        several_devices=len(table) > 0 and table["device"].nunique() > 1,
        runs=list(describe(summary, manifests)),
        version=next((m["purifybench"] for m in manifests.values() if "purifybench" in m), UNKNOWN),
        css=Markup(_read("report.css")),
        scripts=[Markup(text) for text in scripts],
        hashes=Markup(" ".join(f"'sha256-{_digest(text)}'" for text in scripts)),
    )


@cache
def _environment() -> jinja2.Environment:
    """The templates of the page; they escape every value, and a value that is not defined is an error."""
    loader = jinja2.PackageLoader("bench.report", "static")
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    made.globals |= {"g": lambda value: f"{value:g}", "percent_interval": percent_interval}
    made.filters |= {"percent": percent, "p_text": p_text, "short": short, "known": known}
    return made


def _classifier_gflops(table: pd.DataFrame) -> list[str]:
    """GFLOPs of one row through the classifiers of a table."""
    if table.empty:
        return []
    each = (table["gflops"] - table["gflops_purify"]) / table["classifier_rows"]
    return list(dict.fromkeys(short(value) for value in each.dropna()))


def _used(advice: Recommendation, rows: Sequence[dict[str, Any]]) -> int | None:
    """The row that a recommendation chooses."""
    if (chosen := advice.chosen) is None:
        return None
    return next((row["id"] for row in rows if (row["run"], row["cell"]) == (chosen.run, chosen.cell)), None)


def _read(name: str) -> str:
    return resources.files("bench.report").joinpath("static", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The hash of a script in the page's content security policy: no other script runs."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
