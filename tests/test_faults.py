"""What goes wrong in a plugin is said by name, and nothing else suffers from it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from bench import plugins
from bench.results import read_run

OK, FAILED, REFUSED = 0, 1, 2

PURIFIER = """
from dataclasses import dataclass
import torch
from purifiers.base import Purifier

@dataclass(frozen=True)
class Broken(Purifier):
    name = "{name}"
    family = "other"
    source = "a test"
    {fields}

    def purify(self, x, sigma, networks, rng):
        {body}
"""

CLASSIFIER = """
from dataclasses import dataclass
import torch
from classifiers.base import Classifier

@dataclass(frozen=True)
class Broken(Classifier):
    name = "{name}"
    source = "a test"

    def load(self, device="cpu"):
        {body}
"""


@pytest.fixture
def purifier_file(tmp_path):
    """A factory of files with a purifier whose `purify(x, sigma, networks, rng)` is the given line."""

    def write(body: str, name: str = "broken", file: str = "plugin.py", fields: str = ""):
        path = tmp_path / file
        path.write_text(PURIFIER.format(name=name, body=body, fields=fields))
        return path

    return write


@pytest.fixture
def classifier_file(tmp_path):
    """A factory of files with a classifier whose `load(device)` is the given line."""

    def write(body: str, name: str = "broken", file: str = "classifier_plugin.py"):
        path = tmp_path / file
        path.write_text(CLASSIFIER.format(name=name, body=body))
        return path

    return write


def run(cli, *arguments):
    return cli("run", *arguments, "--no-plots")


def summary_of(cli, folder):
    result = cli("summary", folder, "--json")
    assert result.exit_code == OK, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('out of ideas')", "raised RuntimeError: out of ideas"),
        ("raise KeyError('sigma')", "raised KeyError"),
        ("raise ValueError('[/red] looks like [bold]markup')", "raised ValueError: [/red] looks like [bold]markup"),
        ("networks['edm']", "raised KeyError"),
        ("return x * float('nan')", "values that are not finite"),
        ("return torch.where(x > 0.9, x, float('inf'))", "values that are not finite"),
        ("return x[:, :, :14]", "the shape it was given"),
        ("return x[:-1]", "the shape it was given"),
        ("return x.mean(1)", "the shape it was given"),
        ("return None", "returned NoneType"),
        ("return x.numpy()", "returned ndarray"),
        ("return x.clamp(0, 1) * 255", "images must lie in [0,1]"),
        ("return x.clamp(0, 1) * 2 - 1", "images must lie in [0,1]"),
    ],
)
def test_a_purifier_that_misbehaves_fails_its_cell_by_name_and_the_others_go_on(
    cli, tiny_preset, tmp_path, purifier_file, body, said
):
    plugin = purifier_file(body)
    result = run(cli, tiny_preset(purifiers=["none", str(plugin), "onestep-edm"]), "--out", tmp_path / "out")
    assert result.exit_code == FAILED
    assert "purifier 'broken' at sigma = 0.5" in result.stdout
    assert said in result.stdout

    found = summary_of(cli, tmp_path / "out")
    none, broken, edm = found["rows"]
    assert (none["images"], broken["images"], edm["images"]) == (3, 0, 3)
    assert "purifier 'broken' at sigma = 0.5" in broken["error"] and said in broken["error"]
    assert none["error"] is None and edm["error"] is None
    assert "1 of 3 cells failed: broken" in found["notes"]
    shown = cli("summary", tmp_path / "out").stdout
    assert "1 of 3 cells failed: broken" in shown and shown.count("failed") == 2


def test_a_plugin_that_fails_at_one_sigma_is_still_measured_at_the_other(cli, tiny_preset, tmp_path, purifier_file):
    plugin = purifier_file("return x.clamp(0, 1) / (sigma < 0.4)")
    result = run(cli, tiny_preset(purifiers=[str(plugin)], sigmas=[0.5, 0.25]), "--out", tmp_path / "out")
    assert result.exit_code == FAILED
    at_half, at_quarter = summary_of(cli, tmp_path / "out")["rows"]
    assert at_half["error"] and not at_half["images"]
    assert at_quarter["error"] is None and at_quarter["images"] == 3


def test_a_plugin_that_fails_late_keeps_what_was_counted_and_is_not_called_complete(
    cli, tiny_preset, tmp_path, purifier_file
):
    body = "self.calls.append(1); return x.clamp(0, 1) if len(self.calls) < 4 else 1 / 0"
    plugin = purifier_file(body, fields="calls = []")
    result = run(cli, tiny_preset(purifiers=[str(plugin)], images=3, batch=24), "--out", tmp_path / "out")
    assert result.exit_code == FAILED
    assert "raised ZeroDivisionError" in result.stdout
    (row,) = summary_of(cli, tmp_path / "out")["rows"]
    assert 0 < row["images"] < 3
    assert "ZeroDivisionError" in row["error"]


def test_a_run_in_which_everything_fails_still_ends_well(cli, tiny_preset, tmp_path, purifier_file):
    result = run(cli, tiny_preset(purifiers=[str(purifier_file("return None"))]), "--out", tmp_path / "out")
    assert result.exit_code == FAILED
    assert summary_of(cli, tmp_path / "out")["notes"] == ["1 of 1 cells failed: broken"]


def test_a_mended_plugin_is_measured_by_the_same_command(cli, tiny_preset, tmp_path, purifier_file):
    preset = tiny_preset(purifiers=["none", str(purifier_file("return None"))])
    assert run(cli, preset, "--out", tmp_path / "out").exit_code == FAILED
    purifier_file("return x.clamp(0, 1)")
    assert run(cli, preset, "--out", tmp_path / "out").exit_code == OK
    found = summary_of(cli, tmp_path / "out")
    assert [row["images"] for row in found["rows"]] == [3, 3]
    assert not any("failed" in note for note in found["notes"])


def test_a_plugin_that_needs_too_much_memory_at_once_is_run_in_smaller_batches(
    cli, tiny_preset, tmp_path, purifier_file
):
    greedy = "if len(x) > 9: raise torch.OutOfMemoryError('CUDA out of memory')\n        return x.clamp(0, 1)"
    plain, small = purifier_file("return x.clamp(0, 1)", name="plain"), purifier_file(greedy, "greedy", "greedy.py")
    path = tiny_preset(purifiers=[str(plain), str(small)], batch=30, block=5)
    assert run(cli, path, "--out", tmp_path / "out").exit_code == OK
    blocks = read_run(tmp_path / "out").blocks
    cells = {c.purifier: key for key, c in read_run(tmp_path / "out").cells.items()}
    votes = [
        sorted(map(str, blocks[blocks["cell"] == cells[name]][["image", "stage", "first", "votes"]].values.tolist()))
        for name in ("plain", "greedy")
    ]
    assert votes[0] == votes[1]
    path = tiny_preset("large", purifiers=[str(small)], batch=30, block=20)
    result = run(cli, path, "--out", tmp_path / "large")
    assert result.exit_code == REFUSED and "does not fit into memory" in result.stderr and "`block`" in result.stderr


@pytest.mark.parametrize(
    "body",
    [
        "print('noise ' * 100); return x.clamp(0, 1)",
        "torch.manual_seed(torch.seed()); torch.rand(3); return x.clamp(0, 1)",
        "torch.set_grad_enabled(True); return x.clamp(0, 1)",
        "with torch.inference_mode(False): return x.clone().requires_grad_().clamp(0, 1)",
        "return x.clamp_(0, 1)",
        "kept = x.clamp(0, 1); x.fill_(float('nan')); return kept",
    ],
)
def test_a_plugin_with_bad_manners_changes_no_count_of_its_own_or_of_others(
    cli, tiny_preset, tmp_path, purifier_file, body
):
    """It prints, plays with the global generator, leaves gradients on, writes into what it is given."""
    polite, rude = purifier_file("return x.clamp(0, 1)", name="polite"), purifier_file(body, "rude", "rude.py")
    path = tiny_preset(purifiers=[str(rude), str(polite), "ddpm:steps=2"])
    first = run(cli, path, "--out", tmp_path / "both")
    assert first.exit_code == OK, first.output
    alone = tiny_preset("alone", purifiers=[str(polite), "ddpm:steps=2"])
    assert run(cli, alone, "--out", tmp_path / "alone").exit_code == OK

    def votes(folder):
        found = read_run(folder)
        names = {key: cell.purifier for key, cell in found.cells.items()}
        rows = found.blocks[["cell", "image", "stage", "first", "votes"]].values.tolist()
        return {(names[cell], *rest): list(counted) for cell, *rest, counted in rows}

    both = votes(tmp_path / "both")
    assert votes(tmp_path / "alone").items() <= both.items()
    assert all(both[("rude", *rest)] == counted for (name, *rest), counted in both.items() if name == "polite")


def test_a_fault_of_the_moment_is_gone_at_the_next_attempt(cli, tiny_preset, tmp_path, purifier_file):
    flag = tmp_path / "flag"
    body = f"from pathlib import Path; assert Path({str(flag)!r}).exists(), 'the disk is away'; return x.clamp(0, 1)"
    preset = tiny_preset(purifiers=[str(purifier_file(body))])
    assert run(cli, preset, "--out", tmp_path / "out").exit_code == FAILED
    flag.touch()
    assert run(cli, preset, "--out", tmp_path / "out").exit_code == OK
    (row,) = summary_of(cli, tmp_path / "out")["rows"]
    assert row["error"] is None and row["images"] == 3


def test_slack_of_rounding_is_forgiven_and_plain_smoothing_is_not_bounded(cli, tiny_preset, tmp_path, purifier_file):
    slack = purifier_file("return x.clamp(-0.01, 1.01)", name="slack", file="slack.py")
    free = purifier_file("return 3 * x", name="free", file="free.py", fields="bounded = False")
    result = run(cli, tiny_preset(purifiers=[str(slack), str(free)]), "--out", tmp_path / "out")
    assert result.exit_code == OK, result.output


def test_a_sigma_that_a_network_was_not_trained_for_fails_its_cell_with_the_level(cli, tiny_preset, tmp_path):
    result = run(cli, tiny_preset(sigmas=[0.5, 4.0]), "--out", tmp_path / "out")
    assert result.exit_code == FAILED
    assert "'onestep-edm' at sigma = 4" in result.stdout and "above t_max" in result.stdout
    errors = [row["error"] for row in summary_of(cli, tmp_path / "out")["rows"]]
    assert [bool(error) for error in errors] == [False, False, False, True]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return lambda x: 1 / 0", "raised ZeroDivisionError"),
        ("return lambda x: x.flatten(1)[:, :10] * float('nan')", "not finite"),
        ("return lambda x: x.flatten(1)[:-1]", "it must return"),
        ("return lambda x: x", "it must return"),
        ("return lambda x: None", "it must return"),
        ("return lambda x: [[0.0] * 10] * len(x)", "it must return"),
        ("return 3", "not callable"),
    ],
)
def test_a_classifier_that_misbehaves_fails_its_cells_by_name(cli, tiny_preset, tmp_path, classifier_file, body, said):
    result = run(cli, tiny_preset(), "--classifier", classifier_file(body), "--out", tmp_path / "out")
    assert result.exit_code == FAILED
    assert "classifier 'broken'" in result.stdout and said in result.stdout
    assert all("classifier 'broken'" in row["error"] for row in summary_of(cli, tmp_path / "out")["rows"])


def test_a_classifier_that_cannot_be_loaded_ends_the_run_by_name(cli, tiny_preset, tmp_path, classifier_file):
    plugin = classifier_file("raise OSError('the model hub is away')")
    result = run(cli, tiny_preset(), "--classifier", plugin, "--out", tmp_path / "out")
    assert result.exit_code == REFUSED
    assert "classifier 'broken'" in result.stderr and "the model hub is away" in result.stderr


def test_plugins_given_by_path_take_their_parameters_from_text(cli, tiny_preset, tmp_path, purifier_file):
    plugin = purifier_file("return (self.gain * x).clamp(0, 1)", fields="gain: float = 1.0", name="gain")
    result = run(cli, tiny_preset(), "--purifiers", f"{plugin}:gain=0.5,{plugin}", "--out", tmp_path / "out")
    assert result.exit_code == OK, result.output
    assert [c.label for c in read_run(tmp_path / "out").cells.values()] == ["gain(gain=0.5)", "gain(gain=1.0)"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module", "no_such_module"),
        ("def (", "SyntaxError"),
        ("raise SystemError('no')", "SystemError: no"),
        ("x = 1", "must define exactly one Purifier"),
        (
            PURIFIER.format(name="a", body="pass", fields="")
            + PURIFIER.format(name="b", body="pass", fields="").replace("class Broken", "class Other"),
            "must define exactly one Purifier",
        ),
    ],
)
def test_a_file_that_is_no_plugin_is_refused_by_its_path(cli, tiny_preset, tmp_path, text, said):
    (tmp_path / "mine.py").write_text(text)
    result = run(cli, tiny_preset(purifiers=[str(tmp_path / "mine.py")]), "--out", tmp_path / "out")
    assert result.exit_code == REFUSED
    assert str(tmp_path / "mine.py") in result.stderr and said in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "body", ["raise ValueError('steps and order clash')", "raise TypeError('steps and order clash')"]
)
def test_parameters_that_a_plugin_refuses_are_refused_in_its_words(cli, tiny_preset, purifier_file, body):
    fields = f"steps: int = 4\n\n    def __post_init__(self):\n        {body}"
    result = run(cli, tiny_preset(purifiers=[str(purifier_file("return x", fields=fields))]))
    assert result.exit_code == REFUSED
    assert "refuses its parameters" in result.stderr and "steps and order clash" in result.stderr


def entry_point(thing, name="theirs"):
    def load():
        if isinstance(thing, Exception):
            raise thing
        return thing

    return SimpleNamespace(name=name, value="their_package.purifier", load=load)


@pytest.fixture
def install(monkeypatch):
    """Make things look installed as purifiers of third parties."""

    def as_entry_points(*things):
        points = {"purifybench.purifiers": [entry_point(thing) for thing in things]}
        monkeypatch.setattr(plugins, "entry_points", lambda group: points.get(group, []))

    return as_entry_points


def test_an_installed_plugin_is_found_as_a_class_and_as_a_module(install, purifier_file):
    as_class = plugins.from_path(plugins.PURIFIER, purifier_file("return x", name="as-class", file="one.py"))
    in_module = plugins.from_path(plugins.PURIFIER, purifier_file("return x", name="in-module", file="two.py"))
    import sys

    install(as_class, sys.modules[in_module.__module__])
    found = plugins.discover(plugins.PURIFIER)
    assert found["as-class"] is as_class and found["in-module"] is in_module and "onestep-edm" in found
    assert "as-class" not in plugins.discover(plugins.CLASSIFIER)


@pytest.mark.parametrize(
    "thing",
    [ImportError("no module named their_dependency"), RuntimeError("their_dependency is old"), object, 3, dict],
)
def test_a_broken_installed_plugin_is_named_with_its_package_by_every_command(cli, tiny_preset, install, thing):
    install(thing)
    for command in (("run", tiny_preset()), ("list",), ("new-purifier", "my-purifier")):
        result = cli(*command)
        assert result.exit_code == REFUSED
        assert "'theirs' of their_package.purifier" in result.stderr
        assert "mend or uninstall its package" in result.stderr


def test_a_broken_file_in_the_package_is_named(monkeypatch, tmp_path):
    import purifiers

    (tmp_path / "half_written.py").write_text("from purifiers.base import Purifyer\n")
    monkeypatch.setattr(purifiers, "__path__", [*purifiers.__path__, str(tmp_path)])
    with pytest.raises(plugins.PluginError, match=r"half_written.*cannot be imported.*Purifyer"):
        plugins.discover(plugins.PURIFIER)


def test_two_installed_plugins_of_one_name_are_refused_with_both_files(install, purifier_file):
    one, two = (plugins.from_path(plugins.PURIFIER, purifier_file("return x", file=f"{n}.py")) for n in ("one", "two"))
    install(one, two)
    with pytest.raises(plugins.PluginError, match=r"two purifiers are called 'broken': .*one\.py and .*two\.py"):
        plugins.discover(plugins.PURIFIER)


def test_an_installed_plugin_cannot_take_the_name_of_ours(install, purifier_file):
    install(plugins.from_path(plugins.PURIFIER, purifier_file("return x", name="none")))
    with pytest.raises(plugins.PluginError, match=r"two purifiers are called 'none': .*none\.py and .*plugin\.py"):
        plugins.discover(plugins.PURIFIER)


def test_a_plugin_given_by_path_cannot_take_the_name_of_a_known_one(cli, tiny_preset, tmp_path, purifier_file):
    plugin = purifier_file("return x.clamp(0, 1)", name="onestep-edm")
    for purifiers in ([str(plugin)], ["onestep-edm", str(plugin)]):
        result = run(cli, tiny_preset(purifiers=purifiers), "--out", tmp_path / "out")
        assert result.exit_code == REFUSED
        assert "'onestep-edm'" in result.stderr and str(plugin) in result.stderr and "rename" in result.stderr


def test_two_plugins_given_by_path_cannot_share_a_name(cli, tiny_preset, tmp_path, purifier_file):
    one = purifier_file("return x.clamp(0, 1)", name="mine", file="one.py")
    two = purifier_file("return 1 - x.clamp(0, 1)", name="mine", file="two.py")
    result = run(cli, tiny_preset(purifiers=[str(one), str(two)]), "--out", tmp_path / "out")
    assert result.exit_code == REFUSED
    for part in ("'mine'", str(one), str(two), "rename"):
        assert part in result.stderr


def test_a_purifier_and_a_classifier_given_by_path_may_share_a_name(
    cli, tiny_preset, tmp_path, purifier_file, classifier_file
):
    purifier = purifier_file("return x.clamp(0, 1)", name="mine")
    classifier = classifier_file("return lambda x: x.flatten(1)[:, :10]", name="mine")
    preset = tiny_preset(purifiers=[str(purifier), "none"], classifier={"name": str(classifier)})
    result = run(cli, preset, "--out", tmp_path / "out")
    assert result.exit_code == OK, result.output


def test_memory_that_ends_while_noise_is_made_halves_the_batch_too(cli, tiny_preset, tmp_path, monkeypatch):
    import torch

    from bench.noise import RowRng

    path, normal = tiny_preset(purifiers=["none", "ddpm:steps=2"], batch=40, block=5), RowRng.normal
    assert run(cli, path, "--out", tmp_path / "plenty").exit_code == OK

    failures = []

    def greedy(self, like):
        if len(like) > 9:
            failures.append(len(like))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return normal(self, like)

    monkeypatch.setattr(RowRng, "normal", greedy)
    assert run(cli, path, "--out", tmp_path / "scarce").exit_code == OK
    plenty, scarce = (read_run(tmp_path / name).blocks for name in ("plenty", "scarce"))
    columns = ["cell", "image", "stage", "first", "draws", "nfe", "classifier_rows"]
    assert plenty[columns].equals(scarce[columns])
    assert plenty["votes"].tolist() == scarce["votes"].tolist()
    assert len(failures) == 2 * 3, "each purifier learns once what fits: 40, 20, 10 do not"
