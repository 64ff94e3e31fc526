"""The command line: refusals come at once and name the remedy."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest
from command import OK, refused, run
from conftest import ROOT

NO_TORCH = """
import sys
from typer.testing import CliRunner
from bench.__main__ import app
for line in sys.stdin.read().splitlines():
    status, _, words = line.partition(" ")
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == int(status), (words, result.exit_code, result.output, result.exception)
    for heavy in ("torch", "diffusers", "matplotlib", *(() if words.startswith("summary") else ("pandas",))):
        assert heavy not in sys.modules, f"`{words}` imports {heavy}"
"""


def test_help_list_refusals_and_summaries_load_no_torch(tiny_preset, tmp_path):
    """All but summaries do without pandas, too."""
    from bench.store.store import Store

    with Store(tmp_path / "run"):
        pass
    preset = tiny_preset()
    commands = [
        "0 --help",
        "0 run --help",
        "0 list",
        "2 run embeded",
        f"2 run {preset} --purifiers onestep-edn",
        f"2 run {preset} --purifiers pf-ode:step=4",
        f"2 run {preset} --purifiers pf-ode:steps=0",
        f"2 run {preset} --purifiers absent.py",
        f"2 run {preset} --classifier cn",
        f"2 run {tiny_preset('other-data', dataset='mnist')}",
        f"2 run {tiny_preset('other-field', purifier='none')}",
        f"2 run {tiny_preset('no-weights', networks={'edm': 'absent'})}",
        *(f"2 run {preset} --{field}={value}" for field in ("images", "n0", "n") for value in (0, -1)),
        *(f"2 run {preset} --sigmas={value}" for value in ("0", "-0.5", "0.5,0")),
        *(f"2 run {preset} --alpha={value}" for value in (0, 1, -1, 2)),
        "2 new-purifier none",
        "2 import log.tsv --sigma 0 --name x",
        "2 train --scale 0",
        "2 summry",
        f"2 summary {tmp_path / 'absent'}",
        f"0 summary {tmp_path / 'run'}",
        f"0 summary {tmp_path / 'run'} --json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH], input="\n".join(commands), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_module_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "bench", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == OK
    reading = ("plot", "summary", "recommend", "compare", "tables")
    for command in ("run", *reading, "import", "list", "train", "doctor", "new-purifier", "new-classifier"):
        assert f" {command} " in done.stdout


def test_every_command_has_an_example_in_its_help_that_it_accepts():
    import typer

    from bench.__main__ import app
    from bench.cli.shell import EXAMPLES

    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="bench")
    assert group.list_commands(context) == list(EXAMPLES)
    for name, example in EXAMPLES.items():
        command = group.get_command(context, name)
        assert command.epilog == f"Example: {example}"
        words = shlex.split(example)
        assert words[:2] == ["bench", name]
        if not hasattr(command, "list_commands"):
            command.make_context(name, words[2:], resilient_parsing=False)  # raises for what it does not take


def test_the_version_is_printed(cli):
    import bench

    result = cli("--version")
    assert result.exit_code == OK and result.stdout == f"purifybench {bench.__version__}\n"


def test_a_run_has_an_option_with_a_help_text_for_every_field_of_a_preset(cli):
    from bench.sweep.preset import Preset

    told = "".join(character for character in cli("run", "--help").stdout if character not in " │\n")
    for name, field in Preset.model_fields.items():
        assert f"--{name.replace('_', '-')}" in told
        assert "".join(field.description.split()) in told, name


def test_options_reach_every_kind_of_field(cli, tiny_preset, tiny_zoo, tmp_path):
    from bench.store.run import read_run

    given = ["--block", 5, "--timeout", 99.5, "--radius-digits", 3, "--every", 7, "--title", "Other", "--images", 2]
    given += ["--networks", f"edm={tiny_zoo / 'edm-ft.safetensors'}", "--networks", "cm=mnist5k/cm"]
    assert run(cli, tiny_preset(), *given, "--out", tmp_path / "out").exit_code == OK
    recorded = read_run(tmp_path / "out").manifest["preset"]
    assert (recorded["block"], recorded["timeout"], recorded["radius_digits"], recorded["every"]) == (5, 99.5, 3, 7)
    assert (recorded["title"], recorded["networks"]["edm"]) == ("Other", str(tiny_zoo / "edm-ft.safetensors"))
    assert recorded["networks"]["ddpm"] == str(tiny_zoo / "ddpm.safetensors")  # roles that are not named stay
    assert set(read_run(tmp_path / "out").blocks["image"]) == {0, 7}


def test_an_error_of_the_program_keeps_its_traceback(cli, monkeypatch):
    def broken(*_):
        raise ValueError("a mistake in the code")

    monkeypatch.setattr("bench.sweep.load_preset", broken)
    with pytest.raises(ValueError, match="a mistake in the code"):
        cli("run")


def test_list_names_every_purifier_network_classifier_data_set_and_preset(cli):
    from bench import data
    from bench.plugins import registry as plugins
    from bench.sweep import preset
    from purifiers.nets.hub.known import NETWORKS

    result = cli("list")
    assert result.exit_code == OK
    known = {
        *plugins.discover(plugins.PURIFIER),
        *plugins.discover(plugins.CLASSIFIER),
        *NETWORKS,
        "mnist5k/cm-ft",
        *data.DATASETS,
        *preset.names(),
    }
    for name in known:
        assert name in result.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--purifiers", "onestep-edn"), ("purifier 'onestep-edn'", "Did you mean 'onestep-edm'?", "pf-ode", "none")),
        (("--purifiers", "none,zzzzz"), ("purifier 'zzzzz'", "Known: ", "onestep-edm")),
        (("--purifiers", "pf-ode:step=4"), ("purifier 'pf-ode'", "parameter 'step'", "Did you mean 'steps'?")),
        (("--purifiers", "none:steps=4"), ("purifier 'none'", "parameter 'steps'", "(none)")),
        (("--purifiers", "pf-ode:steps=0"), ("purifier 'pf-ode'", "steps", "at least 1", "0")),
        (("--purifiers", "pf-ode:steps=many"), ("purifier 'pf-ode'", "steps", "integer")),
        (("--purifiers", "absent.py"), ("absent.py is not a file", "bench list")),
        (("--classifier", "cmn"), ("classifier 'cmn'", "Did you mean 'cnn'?")),
        (("--classifier", "cnn:paht=x"), ("classifier 'cnn'", "Did you mean 'path'?")),
        (("--classifier", "cnn:path=absent/weights"), ("classifier 'cnn'", "absent/weights", "missing", "bench train")),
        (("--sigmas", "0"), ("sigmas", "greater than or equal to 0.0001")),
        (("--alpha", "1"), ("alpha", "less than 1")),
        (("--n0", "0"), ("n0", "greater than or equal to 1")),
        (("--n", "-3"), ("n: ", "greater than or equal to 1", "-3")),
        (("--images", "0"), ("images", "greater than or equal to 1")),
        (("--images", "501"), ("images", "between 1 and 500", "501")),
        (("--device", "tpu"), ("device", "'tpu'")),
        (("--precision", "int8"), ("precision", "'fp32'", "'bf16'")),
        (("--purifiers", "none,none"), ("same purifier", "twice")),
        (("--networks", "edm"), ("networks", "ROLE=NETWORK", "'edm'")),
        (("--block", "0"), ("block", "greater than or equal to 1")),
    ],
)
def test_a_refusal_names_what_is_wrong_and_the_remedy_and_makes_no_folder(cli, tiny_preset, tmp_path, arguments, parts):
    said = refused(run(cli, tiny_preset(), "--out", tmp_path / "out", *arguments))
    for part in parts:
        assert part in said
    assert not (tmp_path / "out").exists()


def test_an_unknown_data_set_answers_with_the_nearest_name_and_the_list(cli, tiny_preset):
    said = refused(run(cli, tiny_preset(dataset="mnist5")))
    assert "unknown dataset 'mnist5'. Did you mean 'mnist5k'? Known: cifar10, cifar10-jpeg, " in said


def test_a_role_that_the_preset_does_not_name_says_where_to_add_it(cli, tiny_preset):
    said = refused(run(cli, tiny_preset(networks={"ddpm": "mnist5k/ddpm"})))
    assert "purifier 'onestep-edm' asks for the network 'edm'" in said
    assert "under [networks]" in said


def test_a_device_that_is_not_there_is_refused(cli, tiny_preset, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    said = refused(run(cli, tiny_preset(), "--device", "cuda", "--out", tmp_path / "out"))
    assert "--device cpu" in said


def test_a_folder_that_cannot_be_made_is_refused(cli, tiny_preset, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "give another --out" in refused(run(cli, tiny_preset(), "--out", tmp_path / "file" / "out"))


def test_a_message_is_shown_as_it_is_even_where_it_looks_like_markup(cli, tmp_path):
    strange = tmp_path / "[bold]x[" / "red]y.toml"
    assert str(strange) in refused(run(cli, strange))
    closing = tmp_path / "a[" / "b].toml"
    assert str(closing) in refused(run(cli, closing))


def test_data_that_cannot_be_had_says_what_works_offline(cli, tiny_preset, tmp_path, monkeypatch):
    monkeypatch.setenv("PURIFYBENCH_DATA", str(tmp_path))
    said = refused(run(cli, tiny_preset(dataset="cifar10"), "--out", tmp_path / "out"))
    assert str(tmp_path / "cifar10" / "test.parquet") in said and "is missing" in said


def test_a_hub_that_cannot_be_reached_says_what_works_offline(cli, tiny_preset, tmp_path, monkeypatch):
    from importlib.machinery import ModuleSpec
    from types import SimpleNamespace

    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.delenv("PURIFYBENCH_DATA", raising=False)
    monkeypatch.setitem(
        sys.modules, "datasets", SimpleNamespace(load_dataset=unreachable, __spec__=ModuleSpec("datasets", None))
    )
    said = refused(run(cli, tiny_preset(dataset="cifar10"), "--out", tmp_path / "out"))
    for part in ("uoft-cs/cifar10", "no route to host", "Offline", "--data", "PURIFYBENCH_DATA", "mnist5k"):
        assert part in said


def test_a_hub_without_its_library_names_the_extra(cli, tiny_preset, tmp_path, monkeypatch):
    monkeypatch.delenv("PURIFYBENCH_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install purifybench[hub]" in refused(
        run(cli, tiny_preset(dataset="cifar10"), "--out", tmp_path / "out")
    )
