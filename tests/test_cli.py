"""The command line: refusals come at once and name the remedy, overrides replace, runs continue, figures are JSON."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys

import pytest
from conftest import ROOT

from bench.database import DATABASE
from bench.results import read_run

OK, FAILED, REFUSED = 0, 1, 2

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


def refused(result) -> str:
    """What a refused command said."""
    assert result.exit_code == REFUSED, result.output
    assert not result.stdout.strip()
    assert "Traceback" not in result.stderr
    return result.stderr


def run(cli, *arguments):
    return cli("run", *arguments, "--no-plots")


def counts_of(folder):
    """Votes by everything that names a block."""
    blocks = read_run(folder).blocks
    where = zip(blocks["cell"], blocks["image"], blocks["stage"], blocks["first"], strict=True)
    return dict(zip(where, map(tuple, blocks["votes"]), strict=True))


def rows_of(folder):
    """Every row of the database's blocks, seconds and all."""
    db = sqlite3.connect(folder / DATABASE)
    rows = db.execute("SELECT * FROM blocks").fetchall()
    db.close()
    return rows


def test_help_list_refusals_and_summaries_load_no_torch(tiny_preset, tmp_path):
    """All but summaries do without pandas, too."""
    from bench.store import Store

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
    for command in ("run", *reading, "import", "list", "train", "doctor", "new-purifier"):
        assert f" {command} " in done.stdout


def test_list_names_every_purifier_network_classifier_data_set_and_preset(cli):
    from bench import data, plugins, preset
    from purifiers.nets.known import NETWORKS

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
        (("--sigmas", "0"), ("sigmas", "greater than 0")),
        (("--alpha", "1"), ("alpha", "less than 1")),
        (("--n0", "0"), ("n0", "greater than or equal to 1")),
        (("--n", "-3"), ("n: ", "greater than or equal to 1", "-3")),
        (("--images", "0"), ("images", "greater than or equal to 1")),
        (("--images", "501"), ("images", "between 1 and 500", "501")),
        (("--device", "tpu"), ("device", "'tpu'")),
        (("--precision", "int8"), ("precision", "'fp32'", "'bf16'")),
        (("--purifiers", "none,none"), ("same purifier", "twice")),
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


def test_a_run_tells_its_figures_and_a_second_one_changes_no_count(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    first = run(cli, tiny_preset(), "--out", out)
    assert first.exit_code == OK, first.output
    assert "onestep-edm" in first.stdout
    before = rows_of(out)
    assert len(before) == 2 * 3 * 3  # cells, images, blocks of 4 and twice 10 draws
    exported = (out / "counts.parquet").read_bytes()

    second = run(cli, tiny_preset(), "--out", out)
    assert second.exit_code == OK
    assert second.stdout.count("already counted") == 2
    assert rows_of(out) == before
    assert (out / "counts.parquet").read_bytes() == exported


def test_more_draws_keep_the_earlier_ones(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(), "--out", out)
    before = rows_of(out)
    assert run(cli, tiny_preset(), "--out", out, "--n", 35, "--n0", 8).exit_code == OK
    after = rows_of(out)
    assert set(before) < set(after)
    assert {row[4] for row in set(after) - set(before)} == {10, 5, 4}
    run(cli, tiny_preset(), "--out", tmp_path / "at once", "--n", 35, "--n0", 8)

    def totals(folder):
        added = {}
        for (cell, image, stage, _), votes in counts_of(folder).items():
            added[cell, image, stage] = tuple(
                map(sum, zip(added.get((cell, image, stage), [0] * 10), votes, strict=True))
            )
        return added

    assert totals(out) == totals(tmp_path / "at once")


def test_fewer_draws_are_read_from_what_is_there(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(), "--out", out)
    before = rows_of(out)
    assert run(cli, tiny_preset(), "--out", out, "--n", 10).exit_code == OK
    assert rows_of(out) == before
    assert {row["rule"] for row in summary_of(cli, out)["rows"]} == {"cohen (N0 = 4, N = 10, alpha = 0.001)"}


def test_a_number_of_draws_that_cuts_a_block_is_refused_and_harms_nothing(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(), "--out", out)
    before = summary_of(cli, out)
    result = run(cli, tiny_preset(), "--out", out, "--n", 15)
    assert result.exit_code == REFUSED
    assert "ask for 20, or give another --out" in result.stderr
    assert summary_of(cli, out) == before


def test_a_rule_is_fixed_before_the_first_draw(cli, tiny_preset, tmp_path):
    """Another rule, other radii or more draws at most would be a second chance: the folder keeps the first."""
    path, folder = tiny_preset(purifiers=["none"], radii=[0.0, 0.1]), tmp_path / "run"
    begun = ("--certifier", "tight", "--n-max", "200", "--out", folder)
    assert run(cli, path, *begun).exit_code == OK
    before = rows_of(folder)
    for changed in (
        ("--certifier", "tight", "--n-max", "400"),
        ("--certifier", "fast", "--n-max", "200"),
        ("--certifier", "tight", "--n-max", "200", "--radii", "0,0.2"),
        ("--certifier", "tight", "--n-max", "200", "--alpha", "0.01"),
        ("--certifier", "tight", "--n-max", "200", "--label-aware"),
        ("--certifier", "cohen", "--n", "400"),
    ):
        said = refused(run(cli, path, *changed, "--out", folder))
        for part in ("another stopping rule", "fixed before the first draw", "--out", "--seed", "anytime"):
            assert part in said
    assert rows_of(folder) == before
    assert run(cli, path, *begun).exit_code == OK
    assert rows_of(folder) == before
    assert run(cli, path, *begun[:-2], "--seed", "1", "--out", folder).exit_code == OK


def test_counts_of_a_fixed_number_of_draws_are_read_by_other_bounds(cli, tiny_preset, tmp_path):
    path, folder = tiny_preset(purifiers=["none"]), tmp_path / "run"
    assert run(cli, path, "--out", folder).exit_code == OK
    before = rows_of(folder)
    for bound in ("two-sided", "multi-class", "randomised", "anytime"):
        result = run(cli, path, "--certifier", bound, "--out", folder)
        assert result.exit_code == OK and f"by {bound} (N0 = 4, N = 20" in result.stdout
        assert rows_of(folder) == before
    assert run(cli, path, "--certifier", "anytime", "--n", "40", "--out", folder).exit_code == OK
    assert set(before) < set(rows_of(folder))


def test_a_label_aware_run_says_so(cli, tiny_preset, tmp_path):
    path, folder = tiny_preset(purifiers=["none"], images=10, radii=[0.0, 0.1]), tmp_path / "run"
    result = run(cli, path, "--certifier", "fast", "--n-max", "300", "--label-aware", "--out", folder)
    assert result.exit_code == OK and "label-aware: images whose selected class is wrong" in result.stdout
    blind = tmp_path / "blind"
    assert run(cli, path, "--certifier", "fast", "--n-max", "300", "--out", blind).exit_code == OK
    aware, other = (json.loads(cli("summary", f, "--json").stdout)["rows"][0] for f in (folder, blind))
    assert "label-aware" in aware["rule"] and aware["counted_draws"] < other["counted_draws"]
    assert all(aware[f"acc@{r}"] == other[f"acc@{r}"] for r in (0, 0.1))


def test_the_boundaries_of_a_rule_are_printed_for_anyone_to_check(cli):
    asked = ("boundaries", "--sigma", "0.5", "--radii", "0,0.25,3", "--alpha", "0.01", "--n-max", "500")
    table = cli(*asked)
    assert table.exit_code == OK and "never" in table.stdout
    for certifier in ("tight", "acr"):
        record = json.loads(cli(*asked, "--certifier", certifier, "--json").stdout)
        assert record["looks"][-1] == record["constants"]["n_max"] == 500
        assert max(record["crossing"]) <= 0.01 and record["alive"][-1] is False
        assert len(record["upper"]) == len(record["radii"]) == len(record["give_up"])
    assert len(record["radii"]) > 200  # the fine family of the rule for average radii
    assert "Did you mean 'tight'" in refused(cli(*asked, "--certifier", "tigth"))


def test_other_alphas_and_radii_need_no_new_draws(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(), "--out", out)
    before = rows_of(out)
    assert run(cli, tiny_preset(), "--out", out, "--alpha", 0.4, "--radii", "0,0.1,2").exit_code == OK
    assert rows_of(out) == before
    found = summary_of(cli, out)
    assert found["radii"] == [0, 0.1, 2]
    assert all("alpha = 0.4" in row["rule"] for row in found["rows"])


def test_another_seed_gives_other_counts_and_the_same_seed_the_same(cli, tiny_preset, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(cli, tiny_preset(), "--seed", seed, "--out", tmp_path / name).exit_code == OK
    a, b, c = (counts_of(tmp_path / name) for name in "abc")
    assert a == b
    assert [votes for _, votes in sorted(a.items(), key=lambda i: i[0][1:])] != [
        votes for _, votes in sorted(c.items(), key=lambda i: i[0][1:])
    ]


def test_overrides_replace_the_fields_of_the_preset(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    given = ["--purifiers", "none,ddpm:steps=2", "--sigmas", "0.25,1", "--images", 2, "--n0", 3, "--n", 10]
    given += ["--alpha", 0.01, "--seed", 5, "--radii", "0,0.3", "--precision", "bf16", "--batch", 7]
    assert run(cli, tiny_preset(), *given, "--out", out).exit_code == OK
    recorded = read_run(out).manifest["preset"]
    assert {
        k: recorded[k] for k in ("sigmas", "images", "n0", "n", "alpha", "seed", "radii", "precision", "batch")
    } == {
        "sigmas": [0.25, 1],
        "images": 2,
        "n0": 3,
        "n": 10,
        "alpha": 0.01,
        "seed": 5,
        "radii": [0, 0.3],
        "precision": "bf16",
        "batch": 7,
    }
    cells = list(read_run(out).cells.values())
    assert [(c.label, c.sigma) for c in cells] == [
        (label, sigma) for sigma in (0.25, 1.0) for label in ("none", "ddpm(steps=2)")
    ]
    assert {(c.precision, c.seed) for c in cells} == {("bf16", 5)}
    blocks = read_run(out).blocks
    assert set(blocks["image"]) == {0, 1}  # the classes take turns, so the first images are balanced
    assert sorted(set(blocks["draws"])) == [3, 10]


def summary_of(cli, *arguments):
    result = cli("summary", *arguments, "--json")
    assert result.exit_code == OK, result.output
    return json.loads(result.stdout)


def test_the_summary_as_json_has_every_figure_of_every_cell(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(sigmas=[0.25, 0.5], radii=[0.0, 0.25, 0.5], alpha=0.3), "--out", out)
    found = summary_of(cli, out)
    assert found["title"] == "Tiny"
    assert found["radii"] == [0, 0.25, 0.5]
    assert [(row["purifier"], row["sigma"]) for row in found["rows"]] == [
        (purifier, sigma) for sigma in (0.25, 0.5) for purifier in ("none", "onestep-edm")
    ]
    for row in found["rows"]:
        accuracies = [row[f"acc@{radius}"] for radius in ("0", "0.25", "0.5")]
        assert sorted(accuracies, reverse=True) == accuracies
        assert all(row[f"acc_low@{r}"] <= row[f"acc@{r}"] <= row[f"acc_high@{r}"] for r in ("0", "0.25", "0.5"))
        assert 0 <= row["abstained"] <= 1
        assert row["acr_low"] <= row["acr"] <= row["acr_high"] <= row["largest"]
        assert row["nfe"] == (row["purifier"] == "onestep-edm")
        assert row["classifier_rows"] == 1
        assert row["images"] == row["wanted"] == 3
        assert row["counted_draws"] == 3 * 24
        assert min(row["ms_noise"], row["ms_purify"], row["ms_classify"]) > 0
        assert row["source"] == "counts" and row["error"] is None


def test_the_summary_reads_the_radii_that_are_asked_for(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(), "--out", out)
    assert summary_of(cli, out, "--radii", "0.1, 0.2")["radii"] == [0.1, 0.2]
    assert "≥0.15" in cli("summary", out, "--radii", "0.15").stdout


@pytest.mark.parametrize("radii", ["a", "0.1,,b", "-0.1", "nan", "inf"])
def test_radii_that_are_none_are_refused(cli, tiny_preset, tmp_path, radii):
    out = tmp_path / "out"
    run(cli, tiny_preset(images=1, purifiers=["none"]), "--out", out)
    refused(cli("summary", out, "--radii", radii))


def test_the_summary_of_two_runs_names_both(cli, tiny_preset, tmp_path):
    for seed in (1, 2):
        run(cli, tiny_preset(), "--seed", seed, "--out", tmp_path / f"seed-{seed}")
    found = summary_of(cli, tmp_path / "seed-1", tmp_path / "seed-2")
    assert [row["run"] for row in found["rows"]] == ["seed-1", "seed-1", "seed-2", "seed-2"]


def test_a_folder_without_a_run_is_refused(cli, tmp_path):
    for command in ("summary", "plot"):
        assert "there is no run in" in refused(cli(command, tmp_path))


def test_a_run_that_was_killed_before_it_counted_has_a_summary_that_says_so(cli, tiny_preset, tmp_path):
    from bench.plan import manifest, plan
    from bench.preset import load
    from bench.store import Store

    planned = plan(load(str(tiny_preset()), {}), "cpu")
    with Store(tmp_path / "opened"):
        pass
    with Store(tmp_path / "begun") as store:
        store.begin(planned.cells, manifest(planned, ["cpu"]))
    for folder, note in (("opened", "nothing is certified yet"), ("begun", "incomplete: 2 of 2 cells")):
        shown = cli("summary", tmp_path / folder)
        assert shown.exit_code == OK
        assert note in shown.stdout
        assert "failed" not in shown.stdout
        assert any(note in line for line in summary_of(cli, tmp_path / folder)["notes"])


def test_a_damaged_results_folder_is_refused_by_every_command(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / DATABASE).write_bytes(b"not a database at all, " * 100)
    for command in (("run", tiny_preset(), "--out", out, "--no-plots"), ("summary", out), ("plot", out)):
        said = refused(cli(*command))
        assert str(out / DATABASE) in said and "is damaged" in said


def test_a_folder_that_another_run_writes_to_is_refused(cli, tiny_preset, tmp_path):
    from bench.store import Store

    with Store(tmp_path / "out"):
        said = refused(run(cli, tiny_preset(), "--out", tmp_path / "out"))
    assert f"another run is writing to {tmp_path / 'out'}" in said and "--out" in said


def test_an_interrupted_run_says_so_and_the_same_command_continues_it(cli, tiny_preset, tmp_path, monkeypatch):
    from bench.engine import Engine

    out, tasks, count = tmp_path / "out", [], Engine.run

    def interrupted(self, task):
        tasks.append(task)
        if len(tasks) == 3:
            raise KeyboardInterrupt
        return count(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "run", interrupted)
        result = run(cli, tiny_preset(batch=24), "--out", out)
    assert result.exit_code == 130
    assert str(out) in result.stdout and "the same command continues" in result.stdout
    before = rows_of(out)
    assert before
    assert run(cli, tiny_preset(batch=24), "--out", out).exit_code == OK
    run(cli, tiny_preset(batch=24), "--out", tmp_path / "undisturbed")
    assert set(before) < set(rows_of(out))
    assert counts_of(out) == counts_of(tmp_path / "undisturbed")


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
