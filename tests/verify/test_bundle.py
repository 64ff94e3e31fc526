"""`bench bundle`: the same bytes for the same run, checked like a folder, and read without trust."""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
from command import run as bench_run
from forging import loaded
from forging import write as write_run

import purifybench as pb
from bench import files
from bench.store.attacks import Attacks, write_attacks
from bench.verify import BundleError, bundle
from bench.verify import write_bundle as write


@pytest.fixture
def run(tiny_preset, tmp_path, cli) -> Path:
    folder = tmp_path / "my run-1.0"
    assert bench_run(cli, tiny_preset(), "--out", folder).exit_code == 0
    return folder


@pytest.fixture
def made(run, tmp_path) -> Path:
    write(run, tmp_path / "evidence.zip")
    return tmp_path / "evidence.zip"


def content(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def with_sums(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files with sums that hold, as an editor would write them."""
    name = next(name for name in files if name.endswith("SHA256SUMS"))
    others = {n.partition("/")[2]: data for n, data in files.items() if n != name}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {n}\n" for n, data in sorted(others.items()))
    return {**files, name: sums.encode()}


def test_a_bundle_is_verified_like_its_folder_and_has_the_same_bytes_each_time(run, tmp_path, cli):
    path, again = tmp_path / "one.zip", tmp_path / "elsewhere" / "one.zip"
    again.parent.mkdir()
    done = cli("bundle", run, "--out", path)
    assert done.exit_code == 0 and hashlib.sha256(path.read_bytes()).hexdigest() in done.stdout
    moved = Path(shutil.copytree(run, tmp_path / "copies" / run.name))
    (moved / "run.sqlite").unlink()  # the exports alone are enough
    assert pb.bundle(moved, again) == hashlib.sha256(path.read_bytes()).hexdigest()
    found = pb.verify(path, share=1, seed=0)
    assert found.status == "verified" and found.run == run.name
    assert any("report.html (the whole page)" in line for line in found.checked)
    assert cli("verify", path, "--no-counts").exit_code == 0


def test_it_holds_what_a_reviewer_needs_and_states_its_limits(made, run):
    files = content(made)
    assert {name.partition("/")[2] for name in files} == {
        *("manifest.json", "counts.parquet", "summary.csv", "report.html", "EVIDENCE.md", "SHA256SUMS")
    }
    assert {name.partition("/")[0] for name in files} == {run.name}
    text = " ".join(files[f"{run.name}/EVIDENCE.md"].decode().split())
    for words in ("L2 norm", "alpha", "no statement of compliance", "images of the run", "verify evidence.zip"):
        assert words in text
    assert "cohen (N0 = 4, N = 20, alpha = 0.001)" in text
    assert files == with_sums(files)


def test_an_attack_of_the_folder_comes_with_it(run, tmp_path):
    result = Attacks(
        "PGD", images=3, restarts=1, rounds=1, draws=10, level=0.01, alpha=0.001, made={"purifybench": "0"}
    )
    path = write_attacks(run, result)
    pb.report(pb.load(run), run / "report.html")
    assert "report.html (the whole page)" in str(pb.verify(run, counts=False))
    write(run, tmp_path / "a.zip")
    assert content(tmp_path / "a.zip")[f"{run.name}/attack.json"] == path.read_bytes()
    assert "attack.json is not checked" in str(pb.verify(tmp_path / "a.zip", counts=False))


def test_a_run_that_contradicts_itself_or_has_not_ended_is_no_evidence(run, tmp_path):
    (run / "summary.csv").write_text((run / "summary.csv").read_text().replace("none", "nome"))
    with pytest.raises(BundleError, match=r"is no evidence yet: summary\.csv"):
        write(run, tmp_path / "b.zip")
    unfinished = loaded(run)
    del unfinished.manifest["ended"]
    with pytest.raises(BundleError, match="has not ended"):
        write(write_run(unfinished, tmp_path / "unfinished"), tmp_path / "b.zip")
    assert not list(tmp_path.glob("b.zip*"))


def test_an_edited_bundle_is_found_by_its_sums_and_by_its_counts(made, tmp_path):
    files = content(made)
    name = next(name for name in files if name.endswith("summary.csv"))
    edited = {**files, name: files[name].replace(b"none", b"nome")}
    told = str(pb.verify(zipped(tmp_path / "a.zip", edited), counts=False))
    assert "summary.csv is not the file of SHA256SUMS" in told
    told = str(pb.verify(zipped(tmp_path / "b.zip", with_sums(edited)), counts=False))
    assert told.startswith("not reproduced") and "is not the file of" not in told


@pytest.mark.parametrize(
    "name",
    [
        "../manifest.json",
        "run/../../manifest.json",
        "/tmp/run/manifest.json",
        "run/run/manifest.json",
        "run\\..\\manifest.json",
        "run/evil.py",
        "run/run.sqlite",
        "..//manifest.json",
        ".run/manifest.json",
        "run/attack/../../../x.json",
        "run/manifest.json/",
    ],
)
def test_a_name_that_no_bundle_has_is_refused_and_nothing_is_written(made, tmp_path, name, cli):
    before = set(tmp_path.rglob("*"))
    path = zipped(tmp_path / "crafted.zip", {**content(made), name: b"{}"})
    done = cli("verify", path)
    assert done.exit_code == 2 and "which no bundle has" in done.stderr
    assert set(tmp_path.rglob("*")) == before | {path}


def test_a_link_becomes_a_plain_file(made, tmp_path):
    files = content(made)
    name = next(name for name in files if name.endswith("report.html"))
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for other, data in files.items():
            entry = zipfile.ZipInfo(other)
            entry.external_attr = (0o120777 << 16) if other == name else 0
            archive.writestr(entry, b"/etc/passwd" if other == name else data)
    assert "its figures cannot be read" in str(pb.verify(path, counts=False))


def test_two_runs_and_two_files_of_one_name_are_refused(made, tmp_path):
    files = content(made)
    with pytest.raises(BundleError, match="of several"):
        pb.verify(zipped(tmp_path / "a.zip", {**files, "other/manifest.json": b"{}"}))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("run/manifest.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("run/manifest.json", b"{}")
    with pytest.raises(BundleError, match="of several"):
        pb.verify(tmp_path / "b.zip")


def test_a_bomb_is_stopped_by_the_bytes_that_come_out(made, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "_MOST_BYTES", 1 << 20)
    path = zipped(tmp_path / "bomb.zip", {"run/manifest.json": bytes(1 << 22)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 14
    with pytest.raises(BundleError, match="unpacks to more"):
        pb.verify(path)
    data = bytearray(path.read_bytes())  # its headers claim four bytes
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = struct.pack("<I", 4)
    path.write_bytes(data)
    with pytest.raises(BundleError):
        pb.verify(path)
    with pytest.raises(BundleError, match="a method that bundles do not use"):
        pb.verify(zipped(tmp_path / "lzma.zip", {"run/manifest.json": b"{}"}, zipfile.ZIP_LZMA))


def test_huge_counts_are_refused_before_they_are_read(made, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "machine_memory", lambda: 5)
    with pytest.raises(BundleError, match=r"counts\.parquet: reading it takes .* of memory"):
        pb.verify(made)


def test_a_damaged_file_is_refused_with_a_message(made, tmp_path, cli):
    whole = made.read_bytes()
    cut, flipped, no_zip = tmp_path / "cut.zip", tmp_path / "flipped.zip", tmp_path / "no.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    at = whole.index(b"PAR1") + 100
    flipped.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    no_zip.write_bytes(b"no zip")
    for path in (cut, flipped, no_zip):
        done = cli("verify", path)
        assert done.exit_code == 2 and "is no bundle that can be read" in done.stderr
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    no_zip.write_bytes(empty.getvalue())
    assert cli("verify", no_zip).exit_code == 2


def test_a_bundle_without_its_sums_or_its_counts_is_told(made, tmp_path, cli):
    files = content(made)
    without = {name: data for name, data in files.items() if not name.endswith("SHA256SUMS")}
    assert "the bundle has no SHA256SUMS" in str(pb.verify(zipped(tmp_path / "a.zip", without), counts=False))
    counts = {name: data for name, data in files.items() if not name.endswith("counts.parquet")}
    assert cli("verify", zipped(tmp_path / "b.zip", counts)).exit_code == 2
