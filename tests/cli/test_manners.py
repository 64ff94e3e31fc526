"""A classifier with bad manners changes neither counts nor what is shown and measured of purified images."""

from __future__ import annotations

import pytest
from command import FAILED, OK, run

from bench.store.examples import read_examples
from bench.store.quality import read_metrics
from bench.store.run import read_run

VOTE = """def vote(x):
            logits = x.flatten(1)[:, 300:310].clone()
            {manners}
            return logits
        return vote"""


def votes(folder):
    """Votes by purifier and block."""
    found = read_run(folder)
    names = {key: cell.purifier for key, cell in found.cells.items()}
    rows = found.blocks[["cell", "image", "stage", "first", "votes"]].values.tolist()
    return {(names[cell], *rest): list(counted) for cell, *rest, counted in rows}


def panels(folder):
    """The example images of a run, and the classes that they were given."""
    shown = read_examples(folder).panels
    return [(p.cell, p.noisy.tolist(), p.purified.tolist(), p.predicted.tolist()) for p in shown]


def distances(folder):
    """The distances of a run's purified images to clean ones."""
    return [(cell.label, cell.values) for cell in read_metrics(folder).cells]


@pytest.mark.parametrize(
    ("manners", "said"),
    [
        ("torch.manual_seed(torch.seed()); torch.rand(3)", "torch's global generator"),
        ("torch.set_grad_enabled(True)", "the gradient mode"),
        ("x.mul_(0)", "writes into its input"),
        ("x.fill_(float('nan'))", "writes into its input"),
    ],
)
def test_a_classifier_that_breaks_the_contract_fails_every_cell(
    cli, tiny_preset, tmp_path, classifier_file, manners, said
):
    named = "--classifier", classifier_file(VOTE.format(manners=manners))
    result = run(cli, tiny_preset(purifiers=["none", "onestep-edm"]), *named, "--out", tmp_path / "run")
    assert result.exit_code == FAILED, result.output
    errors = read_run(tmp_path / "run").errors.values()
    assert len(errors) == 2 and all(said in error for error in errors) and not votes(tmp_path / "run")


@pytest.mark.parametrize(
    "manners",
    [
        "print('noise ' * 100)",
        "logits = torch.inference_mode(False)(lambda: logits.clone().requires_grad_())()",
    ],
)
def test_a_classifier_with_bad_manners_changes_no_count_and_no_picture(
    cli, tiny_preset, tmp_path, classifier_file, manners
):
    """It prints, or returns logits with gradients."""
    path = tiny_preset(purifiers=["none", "onestep-edm", "ddpm:steps=2"])
    polite, rude = tmp_path / "polite", tmp_path / "rude"
    for folder, does in ((polite, "pass"), (rude, manners)):
        named = "--classifier", classifier_file(VOTE.format(manners=does))
        result = run(cli, path, *named, "--out", folder)
        assert result.exit_code == OK, result.output
        assert cli("metrics", folder, "--only", "l2,frechet", *named).exit_code == OK
    assert votes(rude) == votes(polite)
    assert panels(rude) == panels(polite)
    assert distances(rude) == distances(polite)
