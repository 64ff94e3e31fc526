"""The public API: the figures of the command line, from folders, presets and modules in memory."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from command import OK, run
from conftest import ROOT

import purifybench as pb
from bench import data
from bench.api import answers
from bench.cli import shell
from bench.engine.checks import PluginFault

EMBEDDED = ROOT / "results" / "embedded"
FIGURES = ["image", "label", "predicted", "draws", "p_lower", "radius"]


@pytest.fixture(scope="module")
def embedded():
    return pb.load(EMBEDDED)


def in_memory(tiny_zoo, indices, **changes):
    """Certify some test digits with the tiny classifier and the tiny EDM network, both loaded by hand."""
    import torch

    from classifiers.nets.files import load_cnn
    from purifiers.nets import load

    split = data.load("mnist5k", "test")
    settings = {"purifier": "onestep-edm", "sigma": 0.5, "n0": 4, "n": 20, "device": "cpu", **changes}
    return pb.certify(
        load_cnn(tiny_zoo / "classifier.safetensors"),
        torch.from_numpy(np.stack([split.images[i] for i in indices])),
        torch.from_numpy(split.labels[indices]),
        networks={"edm": load(tiny_zoo / "edm.safetensors")},
        indices=indices,
        **settings,
    )


def test_importing_the_api_loads_no_heavy_library_and_takes_less_than_a_fifth_of_a_second():
    code = (
        "import sys, time; begun = time.perf_counter(); import purifybench as pb; took = time.perf_counter() - begun\n"
        "assert took < 0.2, took\n"
        "pb.presets(), pb.purifiers(), pb.classifiers()\n"
        "assert not {'torch', 'pandas', 'matplotlib', 'diffusers'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_exists_and_an_unknown_one_is_an_attribute_error():
    assert all(getattr(pb, name) is not None for name in pb.__all__)
    assert set(pb.__all__) == set(dir(pb))
    with pytest.raises(AttributeError, match="certifi"):
        pb.certifi  # noqa: B018


def test_plugins_and_presets_are_listed_by_name():
    assert {"none", "onestep-edm", "pf-ode"} <= set(pb.purifiers())
    assert {"cnn", "hf"} <= set(pb.classifiers())
    assert pb.presets()["embedded"].images == 500


def test_a_certificate_in_memory_is_the_one_of_the_command(cli, tiny_preset, tiny_zoo, tmp_path):
    """Whatever the batch and the order of the images: noise is fixed by (seed, image, draw)."""
    assert run(cli, tiny_preset(), "--purifiers", "onestep-edm", "--out", tmp_path / "run").exit_code == OK
    expected = pb.load(tmp_path / "run").certificates[FIGURES].sort_values("image").to_numpy()
    images = [int(i) for i in expected[:, 0]]
    for order, batch in ((images, 500), (images[::-1], 7)):
        certified = in_memory(tiny_zoo, order, batch=batch)
        assert np.array_equal(certified.certificates[FIGURES].sort_values("image").to_numpy(), expected)
    renumbered = in_memory(tiny_zoo, [400, 401, 402])
    assert not np.array_equal(renumbered.certificates["p_lower"], expected[:, 4])


def test_a_run_in_memory_is_written_only_if_asked_and_never_continued(tiny_zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert in_memory(tiny_zoo, [0, 1]).folder is None
    assert not list(tmp_path.iterdir())
    kept = in_memory(tiny_zoo, [0, 1], out=tmp_path / "kept")
    assert pb.load(tmp_path / "kept").table["acr"].tolist() == kept.table["acr"].tolist()
    with pytest.raises(ValueError, match="holds a run already"):
        in_memory(tiny_zoo, [0, 1], out=tmp_path / "kept")


def test_certify_leaves_modules_and_settings_of_torch_as_they_were(tiny_zoo):
    import torch

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(48, 3)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.set_num_threads(2)
    try:
        pb.certify(network, torch.rand(2, 3, 4, 4), [0, 1], sigma=0.25, n0=4, n=20, device="cpu")
        assert torch.get_num_threads() == 2 and not torch.is_inference_mode_enabled()
    finally:
        torch.set_num_threads(1)
    assert network.training and all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_that_is_missing_is_an_error_of_the_package(tmp_path):
    images, path = np.zeros((1, 1, 28, 28), np.float32), str(tmp_path / "edm.safetensors")
    with pytest.raises(pb.PurifyBenchError, match=r"network 'edm': .*edm\.safetensors"):
        pb.certify(lambda x: x, images, [0], purifier="onestep-edm", networks={"edm": path}, sigma=0.5, device="cpu")


def test_a_plain_function_is_a_denoiser_and_a_classifier():
    """The denoiser gives the sign of the true pixel, so every draw votes for the true class."""
    import torch

    images = torch.zeros(2, 1, 2, 2)
    images[1] = 1.0
    seen = []

    def denoise(u, t):
        seen.append((tuple(u.shape[1:]), t.unique().tolist()))
        return u.mean((1, 2, 3), keepdim=True).sign().expand_as(u)

    def classify(x):
        brightness = x.mean((1, 2, 3))
        return torch.stack([1 - brightness, brightness], 1)

    certified = pb.certify(
        classify, images, [0, 1], sigma=0.1, purifier="onestep-edm", networks={"edm": denoise}, device="cpu"
    )
    assert certified.certificates["correct"].all() and certified.table["nfe"].tolist() == [1.0]
    assert {shape for shape, _ in seen} == {(1, 2, 2)}
    assert all(levels == [pytest.approx(0.2)] for _, levels in seen)  # t = 2 sigma
    assert certified.certificates["radius"].min() == pytest.approx(certified.table["largest"].item())
    tight = pb.certify(classify, images, [0, 1], sigma=0.1, certifier="tight", radii=[0, 0.1], device="cpu")
    with pytest.raises(ValueError, match="anytime"):
        tight.at(alpha=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": 0}, "sigmas"),
        ({"alpha": 2}, "alpha"),
        ({"certifier": "cohn"}, "Did you mean 'cohen'"),
        ({"purifier": "onestep-edn"}, "Did you mean 'onestep-edm'"),
        ({"purifier": "ddpm"}, r"needs networks=\{'ddpm': ...\}"),
        ({"precision": "int8"}, "precision"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(tiny_zoo, changes, message):
    with pytest.raises(pb.PurifyBenchError, match=message):
        in_memory(tiny_zoo, [0, 1], **changes)


@pytest.mark.parametrize(
    ("images", "labels", "indices", "message"),
    [
        (np.zeros((2, 4, 4)), [0, 1], None, r"\[N,C,H,W\]"),
        (np.full((2, 1, 4, 4), 1.5), [0, 1], None, r"\[0,1\]"),
        (np.full((2, 1, 4, 4), np.nan), [0, 1], None, r"\[0,1\]"),
        (np.zeros((2, 1, 4, 4)), [0], None, "labels"),
        (np.zeros((2, 1, 4, 4)), [0.5, 1], None, "labels"),
        (np.zeros((2, 1, 4, 4)), [0, 7], None, "label 7"),
        (np.zeros((2, 1, 4, 4)), [0, 1], [3, 3], "indices"),
    ],
)
def test_wrong_images_and_labels_are_refused(images, labels, indices, message):
    def classify(x):
        return x.flatten(1)[:, :2]

    with pytest.raises(ValueError, match=message):
        pb.certify(classify, images, labels, sigma=0.5, n0=2, n=4, indices=indices, device="cpu")


def test_a_classifier_that_raises_is_named_and_its_exception_is_the_cause():
    def classify(x):
        raise KeyError("mistake")

    with pytest.raises(PluginFault, match="classifier 'classify' raised KeyError") as fault:
        pb.certify(classify, np.zeros((1, 1, 4, 4)), [0], sigma=0.5, n0=2, n=4, device="cpu")
    assert isinstance(fault.value.__cause__, KeyError)


def test_counts_are_read_at_another_alpha_and_nothing_is_drawn(embedded):
    loose = embedded.at(alpha=0.01)
    assert (loose.table["acr"] >= embedded.table["acr"]).all() and loose.table["acr"].sum() > embedded.table[
        "acr"
    ].sum()
    assert loose.table["rule"].str.contains("alpha = 0.01").all()
    assert embedded.at(alpha=0.001).table.equals(embedded.table)
    with pytest.raises(ValueError, match="between 0 and 1"):
        embedded.at(alpha=1)


def test_answers_print_as_the_commands_do(cli, embedded, monkeypatch):
    monkeypatch.setattr(shell.console, "width", answers._WIDTH)  # tables of both are folded alike
    printed = str(pb.recommend(embedded, radius=0.5, max_nfe=1))
    told = cli("recommend", EMBEDDED, "--radius", 0.5, "--max-nfe", 1).stdout
    assert [line.rstrip() for line in printed.splitlines()] == [line.rstrip() for line in told.splitlines()]
    compared = str(pb.compare(embedded, embedded))
    assert "".join(compared.split()) == "".join(cli("compare", EMBEDDED, EMBEDDED).stdout.split())


def test_a_run_from_a_preset_is_the_one_of_the_command(cli, tiny_preset, tmp_path):
    made = pb.run(tiny_preset(), tmp_path / "api", purifiers="none", sigmas=[0.25], images=2)
    given = ("--purifiers", "none", "--sigmas", "0.25", "--images", 2, "--out", tmp_path / "cli")
    assert run(cli, tiny_preset(), *given).exit_code == OK
    assert made.certificates[FIGURES].equals(pb.load(tmp_path / "cli").certificates[FIGURES])
    assert (tmp_path / "api" / "summary.csv").is_file() and not made.errors
    assert "1 purifiers, 1 sigmas, 2 images, cohen" in repr(made)
    assert pb.report([made], tmp_path / "page.html").stat().st_size > 1000
    with pytest.raises(pb.PurifyBenchError, match="Did you mean 'images'"):
        pb.run(tiny_preset(), tmp_path / "api", imags=2)


def test_a_purifier_of_a_class_in_memory_is_certified_as_the_named_one(tiny_zoo):
    """As in a notebook, whose classes are in no file."""
    from purifiers.onestep_edm import OneStepEDM

    made = dataclasses.make_dataclass("Mine", [], bases=(OneStepEDM,), frozen=True, namespace={"name": "mine"})()
    mine, named = (in_memory(tiny_zoo, [0, 5], purifier=purifier) for purifier in (made, "onestep-edm"))
    assert mine.table["name"].tolist() == ["mine"]
    assert mine.certificates[FIGURES].equals(named.certificates[FIGURES])
