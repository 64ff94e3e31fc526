"""Nothing that is loaded can run code: no module uses what would, and crafted files of every kind do nothing."""

from __future__ import annotations

import ast
import json
import pickle
import sqlite3
from dataclasses import replace
from pathlib import Path

import foreign
import numpy as np
import pytest
from conftest import ROOT
from stored import PRESET, make_manifest

from bench.records import Block, Cell, Cost, Counts
from bench.store.checksums import list_files
from bench.store.database import DATABASE, StoreError
from bench.store.run import MANIFEST, PARQUET, export, read_run
from bench.store.store import Store

PACKAGES = ("bench", "purifiers", "classifiers")
SAFE_PICKLE = "purifiers/nets/checkpoints/safe_pickle.py"  # refuses every name that is neither a container nor a tensor
CALLS = {"eval", "exec", "compile", "__import__", "torch.hub.load"}
ATTRIBUTES = {  # module -> what of it runs code that lies in a file or a text
    "pickle": {"load", "loads", "Unpickler", "_Unpickler"},
    "os": {"system", "popen"},
    "yaml": {"load", "unsafe_load", "full_load"},
    "pd": {"read_pickle", "eval"},
    "importlib": {"reload"},
}
MODULES = {"marshal", "shelve", "dill", "joblib", "cloudpickle"}


def offences(code: str) -> list[str]:
    """What in some code could run code that comes from elsewhere."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [name for name in names if name.partition(".")[0] in MODULES]
        owner = node.value if isinstance(node, ast.Attribute) else None
        if isinstance(owner, ast.Name) and node.attr in ATTRIBUTES.get(owner.id, ()):
            found.append(f"{owner.id}.{node.attr}")
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in CALLS:
            found.append(name)
        found += [f"{k}={v}" for k, v in given.items() if (k, v) in (("shell", "True"), ("trust_remote_code", "True"))]
        for function, argument, value in (
            ("torch.load", "weights_only", "True"),
            ("torch.hub.load_state_dict_from_url", "weights_only", "True"),
            ("np.load", "allow_pickle", "False"),
            ("jinja2.Environment", "autoescape", "True"),
        ):
            if name == function and given.get(argument) != value:
                found.append(f"{name} without {argument}={value}")
    return found


@pytest.mark.parametrize("path", [p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py"))], ids=str)
def test_no_module_runs_what_it_reads(path):
    allowed = {"pickle._Unpickler"} if path.relative_to(ROOT).as_posix() == SAFE_PICKLE else set()
    assert set(offences(path.read_text())) <= allowed


@pytest.mark.parametrize(
    ("code", "offence"),
    [
        ("eval(text)", "eval"),
        ("import pickle\npickle.load(file)", "pickle.load"),
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "torch.load without weights_only=True"),
        ("np.load(path)", "np.load without allow_pickle=False"),
        ("jinja2.Environment()", "jinja2.Environment without autoescape=True"),
        ("from joblib import load", "joblib"),
        ("run('x', shell=True)", "shell=True"),
    ],
)
def test_the_search_finds_what_it_looks_for(code, offence):
    assert offences(code) == [offence]


CELL = Cell("none", {}, "cnn", {}, "mnist5k", "data", 0.5, 0, "fp32", "cpu", {"noise": "n"})


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A run of which the exports are there alone."""
    with Store(tmp_path) as store:
        store.begin([CELL], make_manifest(CELL))
        store.add([Counts(Block(CELL.key, 0, "estimate", 0, 10), (7, 3), Cost(0, 10, 0, 0, 0, 0, "CPU"))])
    export(read_run(tmp_path))
    (tmp_path / DATABASE).unlink()
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_runs():
    foreign.EXECUTED.clear()
    yield
    assert foreign.EXECUTED == []


HARMFUL = pickle.dumps(foreign.Runs("harm"))


@pytest.mark.parametrize("name", [DATABASE, PARQUET, MANIFEST, "published.csv", "examples.npz"])
def test_a_pickle_in_the_place_of_a_results_file_is_refused(exported, cli, name):
    (exported / name).write_bytes(HARMFUL)
    result = cli("plot", exported, "--formats", "svg")
    assert result.exit_code == 2 and name in result.stderr


def test_a_pickle_inside_of_the_example_images_is_refused(exported, cli):
    np.savez(exported / "examples.npz", format=np.array(1), images=np.array([foreign.Runs("harm")], dtype=object))
    result = cli("plot", exported, "--formats", "svg")
    assert result.exit_code == 2 and "examples.npz" in result.stderr


def test_a_pickle_inside_of_a_table_stays_bytes(exported):
    import pandas as pd

    table = pd.read_parquet(exported / PARQUET)
    table.assign(device=HARMFUL).to_parquet(exported / PARQUET)
    list_files(exported)
    assert read_run(exported).blocks["device"].tolist() == [HARMFUL]


def test_a_database_whose_schema_calls_functions_is_refused(tmp_path):
    """A view in the place of a table, as somebody who sends a results folder could make one."""
    with Store(tmp_path) as store:
        store.begin([CELL], make_manifest(CELL))
    db = sqlite3.connect(tmp_path / DATABASE)
    db.execute("DROP TABLE manifest")
    db.execute("CREATE VIEW manifest AS SELECT load_extension('/tmp/evil.so') AS json, NULL AS crc")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match=r"run\.sqlite"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "a/b", "..", ".hidden"])
def test_a_preset_cannot_name_its_results_folder_out_of_the_results(cli, tiny_preset, name):
    result = cli("run", tiny_preset(name=name))
    assert result.exit_code == 2 and "name" in result.stderr


@pytest.fixture(params=["purifiers", "classifier"])
def sent(request, cli, tiny_preset, tmp_path, purifier_file, classifier_file):
    """A run that somebody sends, whose manifest names code in its own folder; our copy of it, its option, its trace."""
    folder, ran, field = tmp_path / "theirs", tmp_path / "ran", request.param
    if field == "purifiers":
        mine = purifier_file("return x.clamp(0, 1)")
    else:
        mine = classifier_file("return lambda x: x.flatten(1)[:, 300:310]", file="plugin.py")
    mine.write_text(mine.read_text() + f"\nopen({str(ran)!r}, 'w').close()\n")
    given = [f"--{field}", mine]
    assert cli("run", tiny_preset(purifiers=["none"]), *given, "--out", folder, "--no-plots").exit_code == 0
    (folder / "plugin.py").write_text(mine.read_text())
    with Store(folder) as store:
        manifest = store.manifest()
        named = {"name": str(folder / "plugin.py")}
        manifest["preset"][field] = [named] if field == "purifiers" else named
        store.describe(manifest)
    export(read_run(folder))
    ran.unlink()
    return folder, given, ran


def test_metrics_run_no_code_that_a_results_folder_names(sent, cli):
    folder, (option, mine), ran = sent
    for given in ([], [option, mine.with_name("other.py")]):
        result = cli("metrics", folder, "--only", "l2", *given)
        assert result.exit_code == 2 and not ran.exists()
        assert f"would run code of {folder / 'plugin.py'}" in result.stderr and f"{option} FILE" in result.stderr


def test_metrics_run_the_code_that_the_user_names_and_say_so(sent, cli):
    folder, (option, mine), ran = sent
    (folder / "plugin.py").write_text("raise SystemExit('their file was run')")
    result = cli("metrics", folder, "--only", "l2", option, mine)
    assert result.exit_code == 0, result.output
    assert ran.exists() and f"runs code of {mine}" in result.stderr
    ran.unlink()
    unused = cli("metrics", folder, "--only", "l2", option, f"{mine},{mine.with_name('other.py')}")
    assert unused.exit_code == 2 and "other.py" in unused.stderr and not ran.exists()


@pytest.mark.parametrize(
    "command",
    [
        *(["summary"], ["report"], ["tables"], ["plot", "--formats", "svg"], ["recommend", "--radius", 0.25]),
        *(["compare", ""], ["doctor", "--repair"]),
    ],
    ids=lambda command: command[0],
)
def test_no_command_that_reads_results_runs_what_they_name(sent, cli, command):
    folder, _, ran = sent
    result = cli(*(part if part != "" else folder for part in command), folder)
    assert result.exit_code == 0, result.output
    assert not ran.exists()


EVIL = "<script>alert(1)</script></script><img src=x onerror=alert(2)>"


def test_what_a_results_folder_says_is_text_in_a_report_wherever_it_stands(tmp_path, cli):
    """In names, titles, devices, errors, versions, classes: neither markup nor the end of a script."""
    cell = Cell(EVIL, {EVIL: EVIL}, EVIL, {}, EVIL, EVIL, 0.5, 0, EVIL, EVIL, {"noise": EVIL})
    failed = replace(cell, sigma=0.25)
    preset = {**PRESET, "images": 2, "radii": [0.0, 0.1], "title": EVIL}
    manifest = make_manifest(cell, failed, labels={"0": 0, "1": 1}, preset=preset, git=EVIL)
    manifest |= {"families": {EVIL: EVIL}, "classes": [EVIL, EVIL], "libraries": {EVIL: EVIL}, "devices": [EVIL]}
    cost = Cost(1, 1, 0.1, 0.1, 0.1, 1, EVIL)
    with Store(tmp_path) as store:
        store.begin([cell, failed], manifest)
        for image in (0, 1):
            for stage, draws in (("select", 4), ("estimate", 10)):
                store.add([Counts(Block(cell.key, image, stage, 0, draws), (draws, 0), cost)])
        store.fail(failed.key, EVIL)
    assert cli("report", tmp_path).exit_code == 0
    page = (tmp_path / "report.html").read_text()
    assert EVIL not in page and "<img src=x" not in page and "<script>alert" not in page
    (record,) = [part.partition("</script>")[0] for part in page.split('id="record">')[1:]]
    assert json.loads(record)["rows"][0]["name"].startswith(EVIL[:20])  # long names are cut
