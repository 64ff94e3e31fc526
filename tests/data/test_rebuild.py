"""The tables of CIFAR-10 (JPEG) are made from their public source as the reference runs used them, or not at all."""

from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from forging import forge
from PIL import Image

from bench.data import DataError, Split, load, rebuild

EACH = 2  # images of a class in the small repository
ORDER = [(7 * i + 3) % (10 * EACH) for i in range(10 * EACH)]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A small repository in the layout of the source, whose files and pixels are the expected ones."""
    draw, written = np.random.default_rng(0), {}
    for part in ("train", "test"):
        for name in rebuild._CLASSES:
            (tmp_path / f"clone/{part}/{name}").mkdir(parents=True)
            for k in range(EACH):
                buffer = io.BytesIO()
                Image.fromarray(draw.integers(0, 255, (32, 32, 3), np.uint8)).save(buffer, "JPEG")
                written[f"{part}/{name}/{k:04d}.jpg"] = buffer.getvalue()
                (tmp_path / f"clone/{part}/{name}/{k:04d}.jpg").write_bytes(buffer.getvalue())
        files = [written[path] for path in sorted(p for p in written if p.startswith(part))]
        rows = [files[i] for i in ORDER]
        digests = b"".join(hashlib.sha256(data).digest() for data in rows)
        monkeypatch.setitem(rebuild.FILE_HASHES, part, hashlib.sha256(digests).hexdigest())
        pixels = [np.asarray(Image.open(io.BytesIO(data)), np.float32).transpose(2, 0, 1) / 255 for data in rows]
        text = "".join(hashlib.sha256(repr(x.shape).encode() + x.tobytes()).hexdigest()[:16] for x in pixels)
        monkeypatch.setitem(rebuild.PIXEL_HASHES, part, hashlib.sha256(text.encode()).hexdigest())
    monkeypatch.setattr(rebuild, "_orders", lambda: {"train": ORDER, "test": ORDER})
    return tmp_path / "clone"


@pytest.fixture
def archive(clone, tmp_path):
    """The same as GitHub packs it, below a folder of the revision."""
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as file:
        file.writestr("CIFAR-10-images-0123/README.md", "")
        for path in sorted(clone.rglob("*.jpg")):
            file.write(path, f"CIFAR-10-images-0123/{path.relative_to(clone)}")
    return tmp_path / "source.zip"


def test_the_stored_order_is_a_permutation_that_starts_with_known_files():
    orders = rebuild._orders()
    assert sorted(orders["train"]) == list(range(50_000)) and sorted(orders["test"]) == list(range(10_000))
    paths = rebuild._paths("test", 10_000)
    assert [paths[i] for i in orders["test"][:2]] == ["test/automobile/0037.jpg", "test/bird/0726.jpg"]


def test_a_clone_an_archive_and_a_download_give_the_same_tables(clone, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild, "_ARCHIVE", archive.as_uri())
    for name, source in (("a", clone), ("b", archive), ("c", None)):
        rebuild.rebuild(tmp_path / name, source, lambda message: None)
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["test.parquet", "train.parquet"]
    tables = [pq.read_table(tmp_path / name / "test.parquet").to_pylist() for name in "abc"]
    assert tables[0] == tables[1] == tables[2]
    for row, position in zip(tables[0], ORDER, strict=True):
        assert row["label"] == position // EACH
        assert row["img"]["path"] == f"test/{rebuild._CLASSES[position // EACH]}/{position % EACH:04d}.jpg"
        assert row["img"]["bytes"] == (clone / row["img"]["path"]).read_bytes()
    split = load("cifar10", "test", str(tmp_path / "a"))
    assert split.dataset == "cifar10-jpeg" and split.labels.tolist() == [i // EACH for i in ORDER]


def test_another_file_is_refused_and_nothing_is_written(clone, tmp_path):
    (clone / "test/ship/0001.jpg").write_bytes((clone / "test/ship/0000.jpg").read_bytes())
    with pytest.raises(DataError, match="the test images of the source are not those"):
        rebuild.rebuild(tmp_path / "out", clone)
    (clone / "test/ship/0001.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks a file.*git clone"):
        rebuild.rebuild(tmp_path / "out", clone)
    assert not (tmp_path / "out").exists()


def test_a_machine_that_decodes_to_other_pixels_is_told_so(clone, tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild, "decode", lambda encoded: np.zeros((len(encoded), 3, 32, 32), np.float32))
    with pytest.raises(DataError, match="decodes them to other pixels: install Pillow"):
        rebuild.rebuild(tmp_path / "out", clone)


def test_without_a_connection_the_error_says_how_to_do_it_by_hand(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild, "_ARCHIVE", (tmp_path / "nothing.zip").as_uri())
    refused = cli("rebuild-data", "--out", tmp_path / "out")
    assert refused.exit_code == 2
    for part in (rebuild.REPOSITORY, rebuild.REVISION[:12], "git clone", "--source"):
        assert part in refused.stderr
    (tmp_path / "text.zip").write_text("no archive")
    refused = cli("rebuild-data", "--source", tmp_path / "text.zip", "--out", tmp_path / "out")
    assert refused.exit_code == 2 and "neither a folder nor a zip archive" in refused.stderr


def test_a_download_is_bounded(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild, "_ARCHIVE", archive.as_uri())
    monkeypatch.setattr(rebuild, "_MOST_BYTES", 100)
    with pytest.raises(DataError, match="larger than 100 bytes"):
        rebuild.rebuild(tmp_path / "out")


def test_the_files_and_pixels_of_the_reference_data_have_the_stated_hashes(shared_data):
    table = pq.read_table(shared_data / "cifar10-jpeg" / "test.parquet")
    rows = table["img"].to_pylist()
    paths = rebuild._paths("test", len(rows))
    assert [row["path"] for row in rows] == [paths[i] for i in rebuild._orders()["test"]]
    rebuild._refuse_others("test", [row["bytes"] for row in rows], table["label"].to_numpy())


def test_images_that_differ_in_pixels_or_label_are_named():
    images = np.random.default_rng(0).random((6, 1, 4, 4), np.float32)
    split = Split("digits", images, np.arange(6), tuple("012345"))
    labels, pixels = {str(i): i for i in range(0, 6, 2)}, {str(i): split.pixel_hash(i) for i in range(0, 6, 2)}
    assert rebuild.compare(split, pixels, labels) == (3, [])
    assert rebuild.compare(split, {}, labels) == (0, [])
    assert rebuild.compare(split, {**pixels, "2": "0123456789abcdef"}, labels) == (3, [2])
    assert rebuild.compare(split, pixels, {**labels, "4": 5, "77": 1}) == (3, [4, 77])


def test_local_images_are_compared_with_those_of_a_run(tiny_preset, cli, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert cli("run", tiny_preset(purifiers=["none"], sigmas=[0.5]), "--out", folder, "--no-plots").exit_code == 0
    same = cli("check-data", folder)
    assert same.exit_code == 0 and "have the pixels and labels of" in same.stdout
    monkeypatch.setattr(Split, "pixel_hash", lambda self, image: "0123456789abcdef")
    other = cli("check-data", folder)
    assert other.exit_code == 1 and "images are not those of" in other.stdout


def test_the_images_of_the_reference_run_are_those_of_the_reference_data(cli, shared_data):
    done = cli("check-data", ROOT / "results/cifar10-fair", "--data", shared_data / "cifar10-jpeg")
    assert done.exit_code == 0 and "500 images" in done.stdout, done.stdout + done.stderr


def test_a_run_that_states_no_pixels_is_refused(tiny_preset, cli, tmp_path):
    folder = tmp_path / "run"
    assert cli("run", tiny_preset(purifiers=["none"], sigmas=[0.5]), "--out", folder, "--no-plots").exit_code == 0
    silent = forge(folder, tmp_path / "silent", lambda forged: forged.manifest["pixels"].clear())
    refused = cli("check-data", silent)
    assert refused.exit_code == 2 and "does not state the pixels" in refused.stderr
