"""Pickles are read for what they hold, and nothing in them runs."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import pickle
import pickletools
import tracemalloc
import zipfile

import foreign
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from purifiers.nets import load
from purifiers.nets.checkpoints.safe_pickle import _Record, read_pickle
from purifiers.nets.checkpoints.tensor_file import read_torch
from purifiers.nets.hub.cards import WeightsError


@pytest.fixture(autouse=True)
def nothing_runs():
    foreign.EXECUTED.clear()
    yield
    assert foreign.EXECUTED == []


@pytest.fixture
def pickled(tmp_path, monkeypatch):
    """A file as EDM publishes its networks."""
    foreign.edm_modules(monkeypatch)
    return foreign.edm_pickle(tmp_path / "network.pkl", foreign.song_state(), foreign.SONG)


@pytest.fixture
def dangerous(tmp_path):
    """A factory of files that pickle an object: `dangerous(thing, "x.pkl", protocol)`."""

    def write(content, name="network.pkl", protocol=4):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(content, protocol))
        return path

    return write


def test_the_files_of_these_tests_would_run_if_they_were_unpickled(dangerous):
    pickle.loads(dangerous(foreign.Runs("yes")).read_bytes())
    assert foreign.EXECUTED == ["yes"]
    foreign.EXECUTED.clear()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_an_edm_pickle_gives_its_state_and_arguments(tmp_path, monkeypatch, protocol):
    foreign.edm_modules(monkeypatch)
    state = foreign.song_state()
    arguments, found = read_pickle(foreign.edm_pickle(tmp_path / "network.pkl", state, foreign.SONG, protocol))
    assert arguments == foreign.SONG
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


@torch.no_grad()
def test_an_edm_pickle_is_the_network_of_its_state_dict(pickled, tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"constructor_kwargs": foreign.SONG}))
    save_file(foreign.song_state(), folder / "weights.safetensors")
    u = torch.randn(2, 3, 8, 8)
    assert torch.equal(load(pickled).denoise(u, 0.7), load(folder).denoise(u, 0.7))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["network.pkl", "network.pt", "weights.bin"])
def test_a_pickle_that_runs_code_is_refused_by_the_name_of_what_it_would_run(dangerous, name, protocol):
    path = dangerous({"ema": foreign.Runs("x")}, name, protocol)
    with pytest.raises(WeightsError, match=r"'foreign\.run'.*refused, and nothing was executed"):
        load(path)


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("true",), r"(posix|nt)\.system"),
        (builtins.eval, ("1",), r"builtins\.eval"),
        (builtins.exec, ("1",), r"builtins\.exec"),
        (builtins.getattr, (1, "real"), r"builtins\.getattr"),
        (builtins.__import__, ("os",), r"builtins\.__import__"),
        (torch.load, ("x",), r"torch\.serialization\.load"),
        (pickle.loads, (b"",), r"pickle\.loads"),
        (torch.hub.load_state_dict_from_url, ("http://localhost",), r"torch\.hub"),
    ],
)
def test_functions_of_the_standard_library_and_torch_are_refused_by_name(dangerous, function, arguments, named):
    for content in (foreign.Runs(*arguments, function=function), [foreign.Runs(*arguments, function=function)]):
        with pytest.raises(WeightsError, match=named):
            load(dangerous(content))


def test_a_class_of_no_listed_name_is_refused_even_where_nothing_calls_it(dangerous):
    with pytest.raises(WeightsError, match=r"fractions\.Fraction"):
        load(dangerous({"weight": __import__("fractions").Fraction(1, 2)}))


def test_code_that_hides_in_the_bytes_of_a_storage_is_refused(dangerous):
    """torch's own function for these bytes would unpickle them without a limit."""
    inner = pickle.dumps(foreign.Runs("inner"))
    storage = foreign.Runs(inner, function=torch.storage._load_from_bytes)
    tensor = foreign.Runs(storage, 0, (1,), (1,), False, {}, function=torch._utils._rebuild_tensor_v2)
    with pytest.raises(WeightsError):
        load(dangerous({"ema": {"weight": tensor}}))


def test_code_in_a_torch_file_is_refused_by_name(tmp_path):
    for zipped in (True, False):
        path = tmp_path / f"weights-{zipped}.pt"
        content = {"weight": torch.ones(2), "more": foreign.Runs("x")}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(WeightsError, match=r"refused, and nothing was executed"):
            load(path)
    with pytest.raises(WeightsError, match=r"foreign\.run"):
        load(tmp_path / "weights-True.pt")


def test_a_pickle_that_refers_outside_of_itself_is_refused(tmp_path):
    class Refers(pickle.Pickler):
        def persistent_id(self, thing):
            return "elsewhere" if isinstance(thing, complex) else None

    path = tmp_path / "network.pkl"
    with path.open("wb") as file:
        Refers(file).dump({"ema": 1j})
    with pytest.raises(WeightsError, match="outside of the file"):
        load(path)


@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(0, (9,), (1,)), (7, (2,), (1,)), (0, (2,), (100,)), (-1, (2,), (1,))]
)
def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(dangerous, offset, size, stride):
    import io

    stream = io.BytesIO()
    torch.save(torch.ones(8).storage(), stream, _use_new_zipfile_serialization=False)
    storage = foreign.Runs(stream.getvalue(), function=torch.storage._load_from_bytes)
    tensor = foreign.Runs(storage, offset, size, stride, False, {}, function=torch._utils._rebuild_tensor_v2)
    with pytest.raises(WeightsError, match="damaged"):
        read_pickle(dangerous({"weight": tensor}))


@pytest.mark.parametrize("content", [{}, [], 3, {"weight": "text"}, {"ema": None}, {"weight": [1.0]}])
def test_a_pickle_without_a_network_is_refused(dangerous, content):
    with pytest.raises(WeightsError):
        load(dangerous(content))


@pytest.mark.parametrize("called", ["VPPrecond", "iDDPMPrecond"])
def test_another_preconditioning_is_refused_by_its_name(tmp_path, monkeypatch, called):
    foreign.edm_modules(monkeypatch)
    path = foreign.edm_pickle(tmp_path / "network.pkl", foreign.song_state(), foreign.SONG, called=called)
    with pytest.raises(WeightsError, match=called):
        load(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_pickle_that_is_cut_off_is_refused(pickled, part):
    content = pickled.read_bytes()
    pickled.write_bytes(content[: int(part * len(content))])
    with pytest.raises(WeightsError, match="cut off or damaged"):
        load(pickled)


def test_a_file_cannot_change_how_the_next_one_is_read(pickled, tmp_path):
    """BUILD with a pair sets attributes, even of a class; the classes that a file gets are its own."""
    name = b"torch_utils.persistence\n_reconstruct_persistent_obj\n"
    attribute = b"\x8c\x06origin\x8c\x01xs"  # origin = "x"
    stream = b"\x80\x04c" + name + b"N}" + attribute + b"\x86b."
    assert [op.name for op, _, _ in pickletools.genops(stream)][-3:] == ["TUPLE2", "BUILD", "STOP"]
    path = tmp_path / "bends.pkl"
    path.write_bytes(stream)
    with pytest.raises(WeightsError):
        load(path)
    assert _Record.origin == ""
    load(pickled)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_pickle_is_read_or_refused_and_nothing_else(tmp_path_factory, damage):
    """Some bytes of it, at these parts of its length, are others."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        foreign.edm_modules(monkeypatch)
        path = tmp_path_factory.mktemp("damage") / "n.pkl"
        content = bytearray(foreign.edm_pickle(path, {"model.enc.x": torch.ones(3)}, {}).read_bytes())
        for part, byte in damage:
            content[int(part * len(content))] = byte
        path.write_bytes(content)
        with contextlib.suppress(WeightsError):
            read_pickle(path)
        assert foreign.EXECUTED == []


def test_a_zip_file_that_is_no_torch_file_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(WeightsError, match="cut off or damaged"):
        load(path)


def test_a_memo_index_takes_no_memory(tmp_path):
    """Python's reader in C makes a table as long as the largest index: two gigabytes of a file of nine bytes."""
    path = tmp_path / "memo.pkl"
    path.write_bytes(b"\x80\x04}r" + (2**27).to_bytes(4, "little") + b".")
    tracemalloc.start()
    with pytest.raises(WeightsError, match="neither an EDM network nor a state dict"):
        read_pickle(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_a_compressed_file_of_tensors_is_refused_before_it_is_unpacked(tmp_path):
    whole, packed = tmp_path / "whole.pt", tmp_path / "packed.pt"
    torch.save({"weight": torch.zeros(1000, 1000)}, whole)
    assert len(read_torch(whole)) == 1
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(WeightsError, match="it is compressed"):
        read_torch(packed)
