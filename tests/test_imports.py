"""Imports run one way, so that each part can be read, tested and replaced without the parts above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGES = ("bench", "purifiers", "classifiers")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imported_names(module: str, code: str, is_package: bool = False) -> Iterator[str]:
    """Every module that the code imports, at any depth of it, as an absolute dotted name."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: None if is_package else -1]
            base = parents[: len(parents) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                both = f"{source}.{alias.name}"
                yield both if both in MODULES else source


def imports(module: str) -> set[str]:
    path = MODULES[module]
    return set(imported_names(module, path.read_text(), path.name == "__init__.py"))


def inside(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def of_bench(module: str) -> set[str]:
    return {name for name in imports(module) if inside(name, "bench")}


def modules_of(*packages: str) -> list[str]:
    found = [module for module in MODULES if inside(module, *packages)]
    assert found, packages
    return found


def test_the_reader_of_imports_sees_every_form():
    code = (
        "import bench.store as s\nfrom bench import summary, nothing\nfrom .certify import Tally\nfrom . import types\n"
        "def f():\n    from bench.executors.local import InProcess\n    import torch.nn, classifiers\n"
    )
    assert set(imported_names("bench.example", code)) == {
        "bench.store",
        "bench.summary",
        "bench",
        "bench.certify",
        "bench.types",
        "bench.executors.local",
        "torch.nn",
        "classifiers",
    }
    code = "from .local import x\nfrom ..types import y"
    assert set(imported_names("bench.executors", code, is_package=True)) == {"bench.executors.local", "bench.types"}


@pytest.mark.parametrize(
    ("package", "others"), [("purifiers", ("bench", "classifiers")), ("classifiers", ("bench", "purifiers"))]
)
def test_plugins_know_neither_the_harness_nor_each_other(package, others):
    for module in modules_of(package):
        assert not [name for name in imports(module) if inside(name, *others)], module


BASE = {"bench.types", "bench.names", "bench.certify"}
CERTIFIERS = {"bench.certify", "bench.fixed"}
ANALYSIS = {"bench.summary", "bench.analysis.pairs", "bench.analysis.statistics", "bench.analysis.fronts"}
ALLOWED = {
    "bench.types": set(),
    "bench.names": set(),
    "bench.data": {"bench.data.hub", "bench.data.sets", "bench.data.split"},
    "bench.data.pixels": set(),
    "bench.data.split": {"bench.data.pixels"},
    "bench.data.files": {"bench.data.pixels", "bench.data.split"},
    "bench.data.hub": {"bench.data.pixels", "bench.data.split"},
    "bench.data.sets": {*BASE, *(f"bench.data.{name}" for name in ("files", "hub", "pixels", "split"))},
    "bench.identity": set(),
    "bench.loaded": BASE,
    "bench.compute": set(),
    "bench.loader": {*BASE, *(f"bench.{name}" for name in ("compute", "identity", "loaded", "meter", "plugins"))},
    "bench.noise": BASE,
    "bench.meter": BASE,
    "bench.certify": BASE,
    "bench.votes": set(),
    "bench.journal": set(),
    "bench.database": {"bench.journal", "bench.types", "bench.votes"},
    "bench.results": {*BASE, "bench.database"},
    "bench.store": {*BASE, "bench.database", "bench.results", "bench.votes"},
    "bench.reach": set(),
    "bench.preset": {*BASE, "bench.reach", "bench.rules"},
    "bench.plugins": BASE,
    "bench.bounds": set(),
    "bench.fixed": {*BASE, "bench.bounds"},
    "bench.rules": {*BASE, "bench.boundaries", "bench.fixed", "bench.sequential"},
    "bench.boundaries": set(),
    "bench.sequential": {*BASE, "bench.boundaries"},
    "bench.analysis.statistics": set(),
    "bench.leaks": {*BASE, "bench.results"},
    "bench.notes": {*BASE, "bench.leaks", "bench.results"},
    "bench.summary": {*BASE, "bench.notes", "bench.results", "bench.rules", "bench.analysis.statistics"},
    "bench.analysis.fronts": {"bench.analysis.statistics"},
    "bench.analysis.gains": {"bench.summary", "bench.analysis.pairs", "bench.analysis.statistics"},
    "bench.analysis.pairs": {
        "bench.summary",
        "bench.shorten",
        "bench.analysis.statistics",
        "bench.analysis.fronts",
        "bench.types",
    },
    "bench.analysis.shortlist": {*ANALYSIS, "bench.fixed"},
    "bench.analysis.standings": ANALYSIS,
    "bench.analysis.verdict": {*ANALYSIS, *CERTIFIERS, "bench.analysis.standings"},
    "bench.analysis.decide": {
        *ANALYSIS,
        "bench.analysis.shortlist",
        "bench.analysis.standings",
        "bench.analysis.verdict",
    },
    "bench.analysis.changes": {*ANALYSIS, "bench.shorten"},
    "bench.analysis.compare": {*ANALYSIS, "bench.analysis.changes", "bench.shorten"},
    "bench.analysis.tables": ANALYSIS,
    "bench.analysis.markup": {"bench.analysis.tables"},
    "bench.metrics.file": set(),
    "bench.metrics.measures": set(),
    "bench.metrics.judges": {"bench.names", "bench.metrics.file", "bench.metrics.measures"},
    "bench.records": set(),
}


@pytest.mark.parametrize("module", ALLOWED)
def test_the_lower_layers_of_the_harness_import_only_what_lies_below(module):
    assert of_bench(module) <= ALLOWED[module]


def test_the_engine_knows_nothing_of_what_drives_it():
    drivers = (
        "executors",
        "sweep",
        "plan",
        "preset",
        "summary",
        "store",
        "results",
        "plots",
        "display",
        "examples",
        "report",
    )
    assert not [name for name in of_bench("bench.engine") if inside(name, *(f"bench.{d}" for d in drivers))]


def test_executors_know_nothing_of_stores_and_sweeps():
    for module in modules_of("bench.executors"):
        assert not [
            name
            for name in of_bench(module)
            if inside(name, "bench.store", "bench.results", "bench.sweep", "bench.plan")
        ], module


def test_pictures_are_made_from_summaries_alone():
    pictures = [m for m in MODULES if inside(m, "bench.plots", "bench.examples_file", "bench.report")]
    assert "bench.examples_file" in pictures
    for module in pictures:
        deciding = (
            ("bench.analysis.pairs", "bench.analysis.decide", "bench.analysis.standings")
            if inside(module, "bench.report")
            else ()
        )
        allowed = (
            *deciding,
            "bench.report",
            "bench.notes",
            "bench.summary",
            "bench.analysis.statistics",
            "bench.analysis.fronts",
            "bench.analysis.gains",
            "bench.types",
            "bench.examples_file",
            "bench.metrics.file",
            "bench.plots",
            "bench.shorten",
        )
        assert not [name for name in of_bench(module) if not inside(name, *allowed)], module
        assert not [name for name in imports(module) if inside(name, "torch", "purifiers", "classifiers")], module


def test_nothing_imports_the_command_line():
    for module in MODULES:
        assert not [name for name in imports(module) if inside(name, "bench.__main__")], module


def test_no_imports_go_in_a_circle_when_modules_are_loaded():
    """Imports at the top of modules, where a circle would fail; those inside functions are free of it."""
    graph = {}
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text())
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        graph[module] = set(imported_names(module, ast.unparse(tree), path.name == "__init__.py")) & set(MODULES)
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module not in finished:
            for below in graph[module] - {module}:
                visit(below, (*trail, module))
            finished.add(module)

    for module in graph:
        visit(module, ())


def test_what_plans_and_refuses_imports_torch_only_inside_functions():
    """`list`, `--help` and refusals answer within a second because of it."""
    light = ["bench.__main__", "bench.plan", "bench.preset", "bench.plugins", "bench.data", "bench.certify"]
    light += [
        "bench.database",
        "bench.results",
        "bench.store",
        "bench.types",
        "bench.names",
        "bench.doctor",
        "bench.scaffold",
        "purifiers.nets.cards",
    ]
    light += ["bench.metrics", "bench.metrics.file"]
    light += ["bench.readiness", *(m for m in MODULES if inside(m, "bench.commands"))]
    light += [m for m in MODULES if inside(m, "bench.data")]
    light += ["purifiers.base", "classifiers.base", "classifiers.own"]
    light += [f"purifiers.nets.{name}" for name in ("sources", "known", "download")]
    light += [m for m in MODULES if m.count(".") == 1 and inside(m, "purifiers", "classifiers")]
    for module in light:
        tree = ast.parse(MODULES[module].read_text())
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        heavy = ("torch", "torchvision", "diffusers", "torchdiffeq", "lpips", "matplotlib", "pandas")
        assert not [name for name in imported_names(module, ast.unparse(tree)) if inside(name, *heavy)], module
