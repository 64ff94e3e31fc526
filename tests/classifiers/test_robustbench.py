"""Classifiers of RobustBench: called as its version 1.1.1 is, read as tensors only."""

from __future__ import annotations

import sys
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.plugins.registry import CLASSIFIER, create
from classifiers import hub
from classifiers.base import ClassifierError


@pytest.fixture
def fake_robustbench(monkeypatch):
    """The one function of RobustBench that is called, as its version 1.1.1 behaves: it writes, then reads, a file."""
    import os
    from pathlib import Path

    def load_model(model_name, model_dir, dataset, threat_model):
        assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
        if model_name == "Unknown":
            raise KeyError(model_name)
        file = Path(model_dir) / dataset / threat_model / f"{model_name}.pt"
        file.parent.mkdir(parents=True, exist_ok=True)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
        if not file.is_file():
            torch.save(model.state_dict(), file)
        model.load_state_dict(torch.load(file))
        return model

    module = types.ModuleType("robustbench.utils")
    module.load_model = load_model
    monkeypatch.setitem(sys.modules, "robustbench", types.ModuleType("robustbench"))
    monkeypatch.setitem(sys.modules, "robustbench.utils", module)
    monkeypatch.setattr(hub, "find_spec", lambda _: True)
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)


def test_a_model_of_robustbench_takes_images_as_they_are_and_is_read_as_tensors_only(fake_robustbench, tmp_path):
    import os

    classifier = create(CLASSIFIER, "robustbench", {"path": "Standard", "folder": str(tmp_path)})
    with pytest.raises(ClassifierError, match=r"cifar10/L2/Standard\.pt is missing"):
        classifier.files(download=False)
    (file,) = classifier.files()
    assert file == tmp_path / "cifar10" / "L2" / "Standard.pt" and file.is_file()
    x = torch.rand(2, 3, 2, 2)
    state = torch.load(file)
    assert torch.allclose(classifier.load()(x), F.linear(x.flatten(1), state["1.weight"], state["1.bias"]), atol=1e-6)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_a_model_that_robustbench_does_not_have_says_where_to_put_it(fake_robustbench, tmp_path):
    with pytest.raises(ClassifierError, match=r"no model 'Unknown' for cifar10, L2.*cifar10/L2/Unknown\.pt"):
        create(CLASSIFIER, "robustbench", {"path": "Unknown", "folder": str(tmp_path)}).files()
