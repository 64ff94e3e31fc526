"""Files sent to other machines: the same networks, classifiers and plugins, at whatever path they have there."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.engine.devices import prepare_device
from bench.engine.engine import Engine, LoadError
from bench.engine.tuning import cache as speed_cache
from bench.engine.tuning.trials import Trials
from bench.executors.files import Bundle, _has_files, _pack, _private_folder, _relocated_parameters
from bench.executors.ray_worker import RemoteEngine, WorkerMismatch, libraries
from bench.plugins import registry as plugins
from bench.provenance import code_digest
from bench.records import Block, Task
from bench.sweep import preset
from bench.sweep.plan import make_plan
from bench.sweep.settle import settle_options
from classifiers.nets.cnn import CNN
from classifiers.nets.files import save_cnn
from purifiers.nets.hub.sources import Source


def same(value):
    return value


@pytest.fixture
def node(monkeypatch, tmp_path):
    """The temporary folder of another machine."""
    folder = tmp_path / "node"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def far(tmp_path):
    """A folder that the other machine does not have: `far()` takes it away."""
    folder = tmp_path / "far"
    folder.mkdir()
    return folder, lambda: shutil.move(folder, tmp_path / "elsewhere")


def test_files_at_the_same_path_are_used_and_others_are_written_once(node, far):
    folder, leave = far
    (folder / "deep").mkdir()
    (folder / "deep" / "a.bin").write_bytes(bytes(range(256)))
    (folder / "b.txt").write_text("text")
    fetched = []
    file_set = _pack(folder, [folder / "deep" / "a.bin", folder / "b.txt"], same)
    assert file_set.unpack(fetched.append) == folder and not fetched
    leave()

    def get(content):
        fetched.append(len(content))
        return content

    here = file_set.unpack(get)
    assert (here / "deep" / "a.bin").read_bytes() == bytes(range(256)) and (here / "b.txt").read_text() == "text"
    assert here.is_relative_to(node) and node.stat().st_uid == here.stat().st_uid
    assert file_set.unpack(get) == here and fetched == [256, 4]
    (here / "b.txt").unlink()  # as cleaners of temporary folders do
    assert _has_files(file_set.unpack(get), file_set.hashes)


def test_files_that_changed_meanwhile_are_not_taken_for_those_that_were_packed(node, far):
    folder, _ = far
    (folder / "weights").write_bytes(b"old")
    file_set = _pack(folder, [folder / "weights"], same)
    (folder / "weights").write_bytes(b"new")
    assert (file_set.unpack(same) / "weights").read_bytes() == b"old"


def test_a_folder_that_others_can_write_to_is_refused(node):
    _private_folder().chmod(0o777)
    with pytest.raises(PermissionError, match="open to other users; remove it, or set TMPDIR"):
        _private_folder()


PURIFIER = """
from dataclasses import dataclass
from purifiers.base import Purifier
import sys, pathlib
sys.path.insert(0, str(pathlib.Path(__file__).parent))
from plugin_helper import half

@dataclass(frozen=True)
class Mine(Purifier):
    name = "mine"

    def purify(self, x, sigma, networks, rng):
        return half(x).clamp(0, 1)
"""


def test_an_engine_on_unpacked_files_counts_as_the_driver_does(node, far, tiny_zoo, tiny_preset):
    folder, leave = far
    zoo = shutil.copytree(tiny_zoo, folder / "zoo")
    (folder / "mine.py").write_text(PURIFIER)
    (folder / "plugin_helper.py").write_text("def half(x):\n    return x / 2\n")
    classifier = {"name": "cnn", "path": str(zoo / "classifier.safetensors")}
    networks = {role: str(zoo / f"{role}.safetensors") for role in ("ddpm", "edm")}
    shape = {"channels": 1, "classes": 10, "widths": [4], "depths": [1]}
    own = save_cnn(zoo / "own.safetensors", CNN(**shape), shape, {})
    purifiers = ["onestep-edm", "ddpm:steps=2", str(folder / "mine.py"), f"none@cnn:path={own}"]
    path = tiny_preset(purifiers=purifiers, networks=networks, classifier=classifier)
    planned = make_plan(preset.load_preset(str(path), {}), "cpu")
    images = {i: planned.split.images[i] for i in planned.images}
    tasks = [Task(cell, (Block(cell.key, planned.images[1], "estimate", 0, 12),)) for cell in planned.cells]
    engine = Engine(images, planned.weights, prepare_device("cpu"), planned.plugin_files)
    expected = [[(c.block, c.votes, c.cost.nfe) for c in engine.run(task)] for task in tasks]

    cell, remote = planned.cells[0], RemoteEngine()
    voters = [(cell.classifier, cell.classifier_parameters) for cell in planned.cells[-2:]]
    assert voters[0] != voters[1]
    bundle = Bundle.of(planned.weights, planned.plugin_files, voters, same)
    leave()
    del sys.modules["plugin_helper"]  # a worker is a new process, which has not imported it from the driver's folder
    setup = list(images), np.stack(list(images.values())), bundle, same
    assert "thread" in remote.prepare("cpu", code_digest(), libraries(), *setup)
    assert [[(c.block, c.votes, c.cost.nfe) for c in remote.run(task)] for task in tasks] == expected
    noisy, _, _ = remote.show(cell, planned.images[:2])
    assert noisy.shape == (2, 1, 28, 28)


def test_a_worker_tunes_on_unpacked_files_and_counts_the_tuned_cell(node, far, tiny_zoo, tiny_preset, monkeypatch):
    """The classifier's path changes on the worker; its precision is chosen after the files were sent."""
    monkeypatch.setattr(Trials, "seconds", lambda _, name, ways, rows: [2.0 - (w.classifier == "bf16") for w in ways])
    monkeypatch.setattr(Trials, "distance", lambda *_: 0.0)
    folder, leave = far
    zoo = shutil.copytree(tiny_zoo, folder / "zoo")
    fields = {
        "purifiers": ["onestep-edm"],
        "networks": {"edm": str(zoo / "edm.safetensors")},
        "classifier": {"name": "cnn", "path": str(zoo / "classifier.safetensors"), "precision": "auto"},
    }
    planned = make_plan(preset.load_preset(str(tiny_preset(**fields)), {}), "cpu")
    images = {i: planned.split.images[i] for i in planned.images}
    cell, remote = planned.cells[0], RemoteEngine()
    bundle = Bundle.of(planned.weights, planned.plugin_files, [(cell.classifier, cell.classifier_parameters)], same)
    engine = Engine(images, planned.weights, prepare_device("cpu"), planned.plugin_files)
    settled = settle_options(planned, "cpu").cells[0]
    task = Task(settled, (Block(settled.key, planned.images[1], "estimate", 0, 12),))
    (expected,) = engine.run(task)
    leave()
    setup = list(images), np.stack(list(images.values())), bundle, same
    remote.prepare("cpu", code_digest(), libraries(), *setup)
    monkeypatch.setenv(speed_cache._FOLDER, str(node / "speed"))  # this machine measures for itself
    assert settle_options(planned, "cpu", remote.measure).cells == [settled]
    assert settled.classifier_parameters["precision"] == "bf16" and len(list((node / "speed").iterdir())) == 1
    (counts,) = remote.run(task)
    assert (counts.block, counts.votes) == (expected.block, expected.votes)


@pytest.mark.parametrize(
    ("code", "versions", "message"),
    [
        ("0" * 64, {}, "other code of purifybench"),
        (None, {"torch": "1.0"}, r"torch .* \(not 1\.0\)"),
        (None, {"unheard-of": "1.0"}, r"unheard-of missing \(not 1\.0\)"),
    ],
)
def test_a_machine_with_other_code_or_libraries_is_refused(code, versions, message):
    empty = Bundle({}, {}, [("cnn", {}, None)])
    with pytest.raises(
        WorkerMismatch, match=f"the machine .* has {message}; install the driver's versions on every machine"
    ):
        RemoteEngine().prepare("cpu", code or code_digest(), versions, [], np.zeros((0, 1, 2, 2)), empty, same)


def test_a_repository_folder_arrives_with_its_kind_and_label(node, far):
    folder, leave = far
    repository = folder / "ddpm"
    for name in ("config.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/notes.md"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(name)
    bundle = Bundle.of({"ddpm": f"edm:{repository}?label=7"}, {}, [("cnn", {"path": "mnist5k/classifier"})], same)
    assert bundle.unpack(same)[0] == {"ddpm": f"edm:{repository}?label=7"}
    leave()
    weights, _, parameters = bundle.unpack(same)
    source = Source("", "edm", "7", next(node.glob("purifybench-*/*/unet")).parent)
    assert weights == {"ddpm": str(source)} and parameters == {}
    assert sorted(p.name for p in source.path.rglob("*.*")) == [
        *("config.json", "config.json", "diffusion_pytorch_model.safetensors")
    ]


CLASSIFIER = """
from dataclasses import dataclass
from pathlib import Path
from classifiers.base import Classifier, ClassifierError

@dataclass(frozen=True)
class Files(Classifier):
    name = "files"
    folder: str = ""
    which: str = "net"
    fixed: bool = False

    def files(self, download=True):
        path = Path({folder!r} if self.fixed else self.folder) / f"{{self.which}}.bin"
        if not path.is_file():
            raise ClassifierError(f"{{path}} is missing")
        return (path,)
"""


@pytest.mark.parametrize("fixed", [False, True])
def test_the_parameter_that_names_a_classifiers_files_is_found_by_trial(node, far, tmp_path, fixed):
    folder, leave = far
    (folder / "net.bin").write_bytes(b"weights")
    (folder / "net.json").write_text(json.dumps({}))
    plugin = tmp_path / "files.py"
    plugin.write_text(CLASSIFIER.format(folder=str(folder)))
    parameters = {"folder": str(folder), "which": "net", "fixed": fixed}
    files = {plugins.CLASSIFIER.name: {"files": str(plugin)}}
    file_set = Bundle.of({}, files, [("files", parameters)], same).classifiers[0][2]
    assert file_set.hashes.keys() == {"net.bin", "net.json"}
    assert _relocated_parameters(str(plugin), parameters, file_set, same) == {}
    leave()
    if fixed:
        with pytest.raises(
            LoadError, match=r"net\.bin, net\.json\), and none of its parameters accepts .* put them on"
        ):
            _relocated_parameters(str(plugin), parameters, file_set, same)
        return
    found = _relocated_parameters(str(plugin), parameters, file_set, same)
    assert found.keys() == {"folder"} and Path(found["folder"]).is_relative_to(node)


def test_the_bundled_classifier_is_sent_to_a_machine_with_other_weights(node, monkeypatch):
    import classifiers.own

    parameters = {"path": "mnist5k/classifier"}
    file_set = Bundle.of({}, {}, [("cnn", parameters)], same).classifiers[0][2]
    monkeypatch.setattr(classifiers.own, "_WEIGHTS", node)
    found = _relocated_parameters("cnn", parameters, replace(file_set, root=str(node / "absent")), same)
    assert Path(found["path"]).is_relative_to(node) and Path(found["path"]).is_file()
