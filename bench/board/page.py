"""The pages of a board: an overview, and a page for each benchmark. Text from runs is escaped and cannot turn lines."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from bench import __version__
from bench.board.benchmark import Benchmark
from bench.board.evidence import evidence
from bench.board.picture import picture
from bench.board.ranking import Budget, Ranking, budgets, radii_of, ranking
from bench.report.figures import known, short
from bench.summary.format import p_text, percent, percent_interval
from bench.summary.headline import headline
from bench.summary.notes import shared_times
from bench.summary.palette import FAMILIES
from bench.summary.rows import drawable

_KEPT = "\n\t\u200d"  # of the signs without a form: those that do no harm


def benchmark_page(benchmark: Benchmark) -> str:
    """The page of a benchmark: a ranking for every radius and budget, and the evidence of its submissions."""
    summary, offered, radii = benchmark.summary, budgets(benchmark), radii_of(benchmark)
    environment = _environment()
    template = environment.get_template("ranking.html")
    runs = {name: evidence(name, submission, summary) for name, submission in benchmark.runs.items()}
    answers: dict[str, int] = {}
    choices = []
    for radius in radii:
        texts = [_ranking_text(template, ranking(benchmark, radius, budget), runs) for budget in offered]
        choices.append([answers.setdefault(text, len(answers)) for text in texts])
    first, table = _opening_radius(benchmark, radii), summary.table
    script = _source(environment, "board.js")
    apart = tuple(f"{name}: " for name in runs)  # each run shows its own; a board shows no average certified radius
    notes = [*benchmark.contradictions, *(n for n in summary.notes if "ACR" not in n and not n.startswith(apart))]
    notes = [note for note in notes if not summary.untimed or summary.untimed not in note]  # said beside the budgets
    return environment.get_template("benchmark.html").render(
        **_frame(environment, script),
        benchmark=benchmark,
        title=_title(benchmark),
        conditions=_conditions(benchmark),
        radii=list(enumerate(radii)),
        opening_radius=first,
        budgets=list(enumerate(offered)),
        kinds=list(dict.fromkeys(b.kind for b in offered if b.kind)),
        untimed=benchmark.summary.untimed,
        answers=[Markup(text) for text in answers],
        opening=choices[first][0],
        choices=htmlsafe_json_dumps(choices, separators=(",", ":")),
        runs=list(runs.values()),
        notes=notes,
        shared=shared_times(table),
        classifiers=sorted({cell.classifier_text for cell in summary.cells.values()}),
    )


def overview(found: Sequence[Benchmark]) -> str:
    """The first page: for each benchmark, who leads at each radius and how many are tied with it."""
    environment = _environment()
    cards, titles = [], Counter(map(_title, found))
    for benchmark in found:
        any_cost = Budget("nfe", "any cost")
        answers = [(at, ranking(benchmark, radius, any_cost)) for at, radius in enumerate(radii_of(benchmark))]
        runs = [evidence(name, s, benchmark.summary) for name, s in benchmark.runs.items()]
        title = (
            _title(benchmark)
            if titles[_title(benchmark)] == 1
            else f"{_title(benchmark)}: {next(iter(benchmark.runs))}"
        )
        cards.append({"benchmark": benchmark, "title": title, "answers": answers, "runs": runs})
        cards[-1] |= {"conditions": _conditions(benchmark), "timed": not benchmark.summary.untimed}
    return environment.get_template("index.html").render(**_frame(environment), cards=cards, file_of=page_name)


def page_name(benchmark: Benchmark) -> str:
    """The file of a benchmark's page: `mnist5k-1a2b3c4d.html`."""
    slug = re.sub(r"[^a-z0-9]+", "-", benchmark.dataset.lower()).strip("-")[:40]
    return f"{slug or 'benchmark'}-{benchmark.key}.html"


def _title(benchmark: Benchmark) -> str:
    return benchmark.data if benchmark.part == "test" else f"{benchmark.data}, {benchmark.part} images"


def _conditions(benchmark: Benchmark) -> str:
    """All that must be equal, in words; weights by the first digits of their hash, because paths say little."""
    weights = f" with weights {benchmark.weights[:8]}" if benchmark.weights else ""
    parts = [f"{benchmark.images:,} images", f"{benchmark.classifier}{weights}" or "a classifier for each row"]
    parts += [benchmark.rule, *([] if benchmark.noise == "gaussian" else [f"{benchmark.noise} noise"])]
    return " · ".join(parts)


def _ranking_text(template: jinja2.Template, found: Ranking, runs: dict[str, dict[str, Any]]) -> str:
    """The ranking as HTML; rankings with equal text are shown by one copy of it."""
    return template.render(r=found, a=found.advice, picture=picture(found), runs=runs)


def _opening_radius(benchmark: Benchmark, radii: Sequence[float]) -> int:
    """The position of the radius that separates the purifiers best, which the page shows first."""
    table = drawable(benchmark.summary)
    if table.empty:
        return 0
    _, metrics = headline(table, radii)
    return next((radii.index(metric.radius) for metric in metrics if metric.percent and metric.radius in radii), 0)


def _frame(environment: jinja2.Environment, script: str = "") -> dict[str, Any]:
    """The values that every page needs. A script runs only if its hash is in the policy of the page."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {
        "palette": FAMILIES,
        "css": Markup(_source(environment, "report.css") + _source(environment, "board.css")),
        "script": Markup(script),
        "policy": Markup(f"'sha256-{digest}'" if script else "'none'"),
        "version": __version__,
    }


@cache
def _environment() -> jinja2.Environment:
    """The templates; they escape every value, and a value that is not defined is an error."""
    places = [jinja2.PackageLoader(package, "static") for package in ("bench.board", "bench.report")]
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader(places),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_controls,
    )
    made.globals |= {"g": lambda value: f"{value:g}", "percent_interval": percent_interval}
    made.filters |= {"percent": percent, "p_text": p_text, "short": short, "known": known}
    return made


def _without_controls(value: Any) -> Any:
    """Text without control signs, and without those that turn the direction of what follows: names are strangers'."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(sign for sign in value if sign in _KEPT or unicodedata.category(sign) not in ("Cc", "Cf", "Cs"))


def _source(environment: jinja2.Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
