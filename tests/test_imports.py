"""Imports run one way, so that each package can be read, tested and replaced without those above it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from conftest import ROOT

GROUND = {"errors", "files", "names", "provenance", "records"}  # modules of `bench` that everybody may import
ALLOWED = {  # package of `bench` -> packages that it may import; the table of docs/architecture.md
    "data": "",
    "certify": "",
    "plugins": "",
    "engine": "plugins",
    "executors": "engine plugins",
    "store": "certify",
    "sweep": "data certify plugins engine executors store",
    "summary": "certify store",
    "analysis": "certify summary",
    "quality": "plugins engine executors store sweep summary",
    "attack": "certify plugins engine executors store sweep quality",
    "racing": "certify store sweep summary",
    "plots": "store summary analysis",
    "published": "summary analysis plots",
    "report": "store summary analysis published",
    "training": "data engine executors",
    "gpu": "training engine executors store sweep",
    "testing": "engine",
    "doctor": "data certify plugins engine sweep",
    "verify": "certify engine executors store summary analysis published report sweep",
    "board": "certify store summary analysis report verify",
    "trackers": "summary sweep",
}
FREE = {"api", "cli", "__main__", "__init__"}  # the public API and the command line import everything
# Nothing here loads a network or a plugin.
READING = ("store", "certify", "summary", "analysis", "plots", "published", "report")
HEAVY = ("torch", "torchvision", "diffusers", "torchdiffeq", "lpips", "matplotlib", "pandas")
COMMANDS = ("shell", "run", "results", "tools", "quality", "trust", "scaffold", "gpu", "arena", "choose", "race")
COMMANDS += ("reproduce", "publish")
LIGHT = ("bench.data", "bench.plugins", "bench.store", "bench.certify", "bench.sweep.preset", "bench.sweep.plan")
LIGHT += (
    "bench.doctor",
    "bench.api.runs",
    "bench.api.reading",
    "bench.api.racing",
    "bench.api.publishing",
    *(f"bench.cli.{name}" for name in COMMANDS),
)
LIGHT += ("purifiers.base", "classifiers.base", "purifiers.nets.hub.sources")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for package in ("bench", "purifiers", "classifiers")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(module: str, top: bool = False) -> set[str]:
    """The modules that a module imports, by absolute name; with `top` only where it is loaded, not in functions."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    tree, found = ast.parse(path.read_text()), set()
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            both = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else source for name in both}
    return found


def inside(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def package_of(module: str) -> str:
    """`bench.engine.noise` -> `engine`."""
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_the_table_allows(package):
    modules = [module for module in MODULES if inside(module, f"bench.{package}")]
    assert modules, f"{package} is in the table and not in bench/"
    allowed = {package, *GROUND, *ALLOWED[package].split(), "__init__"}
    for module in modules:
        beyond = {name for name in imports(module) if inside(name, "bench") and package_of(name) not in allowed}
        assert not beyond, f"{module} imports {', '.join(sorted(beyond))}"


def test_every_package_of_bench_is_in_the_table():
    assert {package_of(module) for module in MODULES if inside(module, "bench")} <= {*ALLOWED, *GROUND, *FREE}


def test_the_page_on_the_architecture_has_this_table():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*)\| [^|]+\|$", page.partition("| package |")[2].partition("\n\n")[0], re.M)
    assert {package: re.findall(r"`(\w+)`", allowed) for package, allowed in rows} == {
        package: allowed.split() for package, allowed in ALLOWED.items()
    }


def test_the_picture_of_the_architecture_shows_every_package():
    picture = (ROOT / "docs" / "architecture.svg").read_text()
    assert all(f">{package}<" in picture for package in ALLOWED)
    assert all(module in picture for module in GROUND)


def test_the_ground_imports_nothing_above_it():
    for module in (f"bench.{name}" for name in GROUND if f"bench.{name}" in MODULES):
        assert {package_of(name) for name in imports(module) if inside(name, "bench")} <= {*GROUND, "__init__"}, module


def test_plugins_know_neither_the_harness_nor_each_other():
    for package, others in (("purifiers", ("bench", "classifiers")), ("classifiers", ("bench", "purifiers"))):
        for module in (module for module in MODULES if inside(module, package)):
            known = imports(module) - {"bench.files"}  # through which every module reads and writes
            assert not [name for name in known if inside(name, *others)], module


def test_the_reading_wing_loads_no_network_and_no_plugin():
    for module in (module for module in MODULES if inside(module, *(f"bench.{name}" for name in READING))):
        assert not [n for n in imports(module) if inside(n, "torch", "purifiers", "classifiers")], module


def test_no_module_imports_in_a_circle():
    """Imports inside functions count, too: they hide a circle and do not mend it."""
    graph = {module: imports(module) & set(MODULES) - {module} for module in MODULES}
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module not in finished:
            for below in sorted(graph[module]):
                visit(below, (*trail, module))
            finished.add(module)

    for module in graph:
        visit(module, ())


def test_modules_that_plan_and_refuse_load_torch_and_pandas_only_inside_functions():
    """`list`, `--help` and refusals answer within a second because of it."""
    for module in (module for module in MODULES if inside(module, *LIGHT)):
        assert not [name for name in imports(module, top=True) if inside(name, *HEAVY)], module


def test_nothing_imports_the_command_line():
    for module in (module for module in MODULES if not inside(module, "bench.cli", "bench.__main__")):
        assert not [name for name in imports(module) if inside(name, "bench.cli")], module
