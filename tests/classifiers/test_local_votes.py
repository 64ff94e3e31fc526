"""Local smoothing (DiffSmooth) of every classifier: the formula, independent rows, counted rows, and its identity."""

from __future__ import annotations

import pytest
import torch

from bench.engine.loader import _prepare_classifier
from bench.plugins import plugin_hash, plugin_modules
from bench.plugins.registry import CLASSIFIER, PluginError, create, parameters
from bench.store import read_run
from bench.testing import CLASSIFIER_CHECKS
from classifiers.own import OwnCNN

LOCAL = {"local_votes": "3", "local_noise": "0.25"}  # text, as on the command line
FUNCTION = """
from dataclasses import dataclass
from classifiers.base import Classifier

@dataclass(frozen=True)
class Sums(Classifier):
    name = "sums"
    scale: float = 2.0
    def __post_init__(self):
        if self.scale < 0:
            raise ValueError("scale is negative")
    def load(self, device="cpu"):
        return lambda x: self.scale * x.flatten(1)[:, :10]
"""


@pytest.fixture
def sums(tmp_path):
    (tmp_path / "sums.py").write_text(FUNCTION)
    return str(tmp_path / "sums.py")


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_bundled_classifier_averages_its_confidence_over_fixed_noise(precision):
    x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    plain = create(CLASSIFIER, "cnn", {"precision": precision}).load()
    voting = create(CLASSIFIER, "cnn", {**LOCAL, "precision": precision}).load()
    noise = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(42)) * 0.25  # as DiffSmooth's code
    wanted = sum(plain(x + noise[i]).softmax(1) for i in range(3)) / 3
    assert torch.allclose(voting(x), wanted, atol=1e-6)
    assert not torch.allclose(voting(x), plain(x).softmax(1), atol=1e-3)


@pytest.mark.parametrize("check", CLASSIFIER_CHECKS, ids=lambda check: check.__name__)
def test_a_locally_smoothed_classifier_conforms(check):
    check(create(CLASSIFIER, "cnn", LOCAL), (1, 28, 28))


@torch.inference_mode()
@pytest.mark.parametrize("name", ["cnn", "sums"])
def test_every_copy_counts_as_a_row(name, sums):
    loaded = create(CLASSIFIER, sums if name == "sums" else name, LOCAL).load()
    prepared = _prepare_classifier(loaded, {"rows": 4}, torch.device("cpu"))
    assert len(prepared(torch.rand(6, 1, 28, 28))) == 6
    assert prepared.evaluated == 3 * 6


def test_options_that_are_off_leave_the_identity_as_it_is_and_those_that_are_on_change_it():
    plain = create(CLASSIFIER, "cnn", {})
    for off in ({"local_votes": 1}, {"local_noise": "0"}, {"local_votes": "1", "local_noise": "0.0"}):
        classifier = create(CLASSIFIER, "cnn", off)
        assert type(classifier) is OwnCNN and classifier == plain
    on = create(CLASSIFIER, "cnn", LOCAL)
    assert isinstance(on, OwnCNN) and on.identity() == plain.identity()
    assert parameters(on) == {"path": "mnist5k/classifier", "local_votes": 3, "local_noise": 0.25}
    assert plugin_hash(type(on)) != plugin_hash(OwnCNN)
    assert {path.name for path in plugin_modules(type(on))} >= {"own.py", "local_votes.py"}
    assert "local_votes.py" not in {path.name for path in plugin_modules(OwnCNN)}


def test_a_plugin_of_a_user_has_the_options_and_keeps_its_own_checks(sums):
    assert parameters(create(CLASSIFIER, sums, {**LOCAL, "scale": "3"})) == {
        "scale": 3.0,
        "local_votes": 3,
        "local_noise": 0.25,
    }
    with pytest.raises(PluginError, match="scale is negative"):
        create(CLASSIFIER, sums, {**LOCAL, "scale": -1})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"local_votes": 5}, "identical"),
        ({"local_votes": 0}, "at least 1"),
        ({"local_noise": -1}, "at least 0"),
        ({"local_noise": "nan"}, "at least 0"),
        ({"local_vote": 5}, "unknown parameter"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, reason):
    with pytest.raises(PluginError, match=reason):
        create(CLASSIFIER, "cnn", options)


def test_a_run_counts_the_rows_of_all_copies(tiny_preset, cli, tmp_path):
    preset, folder = tiny_preset(purifiers=["none"], sigmas=[0.5]), tmp_path / "run"
    before = cli("run", preset, "--out", tmp_path / "plain", "--no-plots")
    path = read_run(tmp_path / "plain").manifest["preset"]["classifier"]["path"]
    done = cli(
        "run", preset, "--classifier", f"cnn:path={path}:local_votes=3:local_noise=0.1", "--out", folder, "--no-plots"
    )
    assert before.exit_code == done.exit_code == 0, done.stdout + done.stderr
    rows = [read_run(where).blocks["classifier_rows"].sum() for where in (tmp_path / "plain", folder)]
    assert rows[1] == 3 * rows[0] > 0
