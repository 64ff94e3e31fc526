"""What goes wrong in a plugin is said by name, and nothing else suffers from it."""

from __future__ import annotations

import pytest
from command import FAILED, OK, REFUSED, run, summary_of

from bench.store.run import read_run


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('out of ideas')", "raised RuntimeError: out of ideas"),
        ("raise KeyError('sigma')", "raised KeyError"),
        ("raise ValueError('[/red] looks like [bold]markup')", "raised ValueError: [/red] looks like [bold]markup"),
        ("networks['edm']", "raised KeyError"),
        ("return x * float('nan')", "values that are not finite"),
        ("return torch.where(x > 0.9, x, float('inf'))", "values that are not finite"),
        ("return x[:, :, :14]", "the shape of its input"),
        ("return x[:-1]", "the shape of its input"),
        ("return x.mean(1)", "the shape of its input"),
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
    body = "self.calls.append(1); return x.clamp(0, 1) if len(self.calls) < 10 else 1 / 0"
    plugin = purifier_file(body, fields="calls = []")
    result = run(cli, tiny_preset(purifiers=[str(plugin)], images=3, batch=24), "--out", tmp_path / "out")
    assert result.exit_code == FAILED
    assert "raised ZeroDivisionError" in result.stdout
    (row,) = summary_of(cli, tmp_path / "out")["rows"]
    assert row["images"] == 0 and row["acr"] is None and len(read_run(tmp_path / "out").blocks)
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


@pytest.mark.parametrize(
    "failure",
    [
        "torch.empty(1 << 50)",
        "raise torch.OutOfMemoryError('CUDA out of memory')",
        "raise RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`')",
        "raise RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED')",
        "raise RuntimeError('CUDA error: out of memory')",
    ],
)
def test_a_plugin_that_needs_too_much_memory_at_once_is_run_in_smaller_batches(
    cli, tiny_preset, tmp_path, purifier_file, failure
):
    greedy = f"if len(x) > 9: {failure}\n        return x.clamp(0, 1)"
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
    assert result.exit_code == REFUSED and "does not fit into memory" in result.stderr and "--block" in result.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('noise ' * 100); return x.clamp(0, 1)", None),
        ("torch.manual_seed(torch.seed()); torch.rand(3); return x.clamp(0, 1)", "torch's global generator"),
        ("torch.set_grad_enabled(True); return x.clamp(0, 1)", "the gradient mode"),
        ("with torch.inference_mode(False): return x.clone().requires_grad_().clamp(0, 1)", None),
        ("return x.clamp_(0, 1)", "writes into its input"),
        ("kept = x.clamp(0, 1); x.fill_(float('nan')); return kept", "writes into its input"),
    ],
)
def test_a_plugin_with_bad_manners_changes_no_count_and_fails_if_it_breaks_the_contract(
    cli, tiny_preset, tmp_path, purifier_file, body, said
):
    """It prints, plays with the global generator, leaves gradients on, writes into what it is given."""
    polite, rude = purifier_file("return x.clamp(0, 1)", name="polite"), purifier_file(body, "rude", "rude.py")
    path = tiny_preset(purifiers=[str(rude), str(polite), "ddpm:steps=2"])
    first = run(cli, path, "--out", tmp_path / "both")
    assert first.exit_code == (FAILED if said else OK), first.output
    errors = read_run(tmp_path / "both").errors.values()
    assert [said in error for error in errors] == ([True] if said else [])
    alone = tiny_preset("alone", purifiers=[str(polite), "ddpm:steps=2"])
    assert run(cli, alone, "--out", tmp_path / "alone").exit_code == OK

    def votes(folder):
        found = read_run(folder)
        names = {key: cell.purifier for key, cell in found.cells.items()}
        rows = found.blocks[["cell", "image", "stage", "first", "votes"]].values.tolist()
        return {(names[cell], *rest): list(counted) for cell, *rest, counted in rows}

    both = votes(tmp_path / "both")
    assert votes(tmp_path / "alone").items() <= both.items()
    names = {name for name, *_ in both}
    assert names == {"polite", "ddpm"} | (set() if said else {"rude"})
    same = [both.get(("rude", *rest)) == counted for (name, *rest), counted in both.items() if name == "polite"]
    assert all(same) if not said else not any(same)


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


def test_memory_that_ends_while_noise_is_made_halves_the_batch_too(cli, tiny_preset, tmp_path, monkeypatch):
    import torch

    from bench.engine.noise import RowRng

    path, normal = tiny_preset(purifiers=["none", "ddpm:steps=2"], batch=40, block=5), RowRng.normal
    assert run(cli, path, "--out", tmp_path / "plenty").exit_code == OK

    failures = []

    def greedy(self, like):
        if len(like) > 9:
            failures.append(len(like))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return normal(self, like)

    monkeypatch.setattr(RowRng, "normal", greedy)
    monkeypatch.setattr("bench.sweep.session.check_plugins", lambda *arguments: None)  # has failures of its own
    assert run(cli, path, "--out", tmp_path / "scarce").exit_code == OK
    plenty, scarce = (read_run(tmp_path / name).blocks for name in ("plenty", "scarce"))
    columns = ["cell", "image", "stage", "first", "draws", "nfe", "classifier_rows"]
    assert plenty[columns].equals(scarce[columns])
    assert plenty["votes"].tolist() == scarce["votes"].tolist()
    assert len(failures) == 2 * 3, "each purifier learns once what fits: 40, 20, 10 do not"
