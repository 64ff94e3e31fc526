"""A folder in few files of limited size, and back."""

from __future__ import annotations

import subprocess

import pytest

from bench.errors import InputError
from bench.gpu.archive import describe, pack, unpack


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work" / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "work" / "deep" / "deeper" / "weights").write_bytes(bytes(range(256)) * 400)
    (tmp_path / "work" / "card.json").write_text("{}")
    (tmp_path / "work" / "run.sqlite").write_text("not this")
    return tmp_path / "work"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_comes_back_from_pieces_of_limited_size(folder, tmp_path):
    written = pack(folder, tmp_path / "archive", "zoo", ["run.sqlite*"], piece=30_000)
    assert {path.name for path in written} == {*(f"zoo.tar.0{i}" for i in range(4)), "zoo.sha256"}
    assert all(path.stat().st_size <= 30_000 for path in written)
    assert set(written) == set((tmp_path / "archive").iterdir())
    assert describe(written).startswith("5 files, 0.1 MiB")
    assert unpack(tmp_path / "archive", "zoo", tmp_path / "back")
    assert contents(tmp_path / "back") == {k: v for k, v in contents(folder).items() if k != "run.sqlite"}


def test_a_smaller_archive_leaves_no_piece_of_the_one_before(folder, tmp_path):
    pack(folder, tmp_path / "archive", "zoo", piece=30_000)
    (folder / "deep" / "deeper" / "weights").unlink()
    written = pack(folder, tmp_path / "archive", "zoo", piece=30_000)
    assert set(written) == set((tmp_path / "archive").iterdir())
    assert unpack(tmp_path / "archive", "zoo", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


def test_the_system_tar_unpacks_it_too(folder, tmp_path):
    pack(folder, tmp_path / "archive", "zoo", piece=30_000)
    (tmp_path / "back").mkdir()
    subprocess.run(f"cat {tmp_path}/archive/zoo.tar.* | tar x -C {tmp_path}/back", shell=True, check=True)
    assert contents(tmp_path / "back") == contents(folder)


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_piece_that_is_missing_or_damaged_is_named(folder, tmp_path, damage):
    piece = pack(folder, tmp_path / "archive", "zoo", piece=30_000)[1]
    if damage == "missing":
        piece.unlink()
    else:
        piece.write_bytes(piece.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=rf"zoo.tar.01 is {damage}; fetch all pieces again"):
        unpack(tmp_path / "archive", "zoo", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_there_may_be_no_archive(tmp_path):
    assert not unpack(tmp_path, "zoo", tmp_path / "back")


def test_an_archive_writes_nothing_outside_of_its_folder(tmp_path):
    import io
    import tarfile

    from bench.gpu.archive import _digest

    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../outside"))
    (tmp_path / "zoo.tar.00").write_bytes(content.getvalue())
    (tmp_path / "zoo.sha256").write_text(f"{_digest(content.getvalue())}  zoo.tar.00\n")
    with pytest.raises(InputError, match="outside"):
        unpack(tmp_path, "zoo", tmp_path / "in" / "back")
    assert not (tmp_path / "in" / "outside").exists()
