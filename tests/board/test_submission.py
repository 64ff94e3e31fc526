"""Runs that stand on a board, those that are refused, and the records of their verifications."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace

import pytest
from board_runs import make_run, write_run
from conftest import ROOT
from report_runs import Page

import purifybench as pb
from bench.board import BoardError, write_board
from bench.errors import PurifyBenchError
from bench.store import export
from bench.store.checksums import digests, list_files
from bench.verify import VERIFIED, BundleError, Recount, read_verification, verify, write_bundle, write_verification

EVIL = "<script>alert(1)</script>"


def test_a_bundle_stands_on_the_board_like_its_folder(tmp_path):
    folder = write_run(tmp_path / "run")
    (tmp_path / "sent").mkdir()
    write_bundle(folder, tmp_path / "sent" / "run.zip")
    write_board([folder], tmp_path / "one")
    write_board([tmp_path / "sent" / "run.zip"], tmp_path / "two")
    assert (tmp_path / "one" / "index.html").read_bytes() == (tmp_path / "two" / "index.html").read_bytes()
    assert (tmp_path / "two" / "bundles" / "run.zip").read_bytes() == (tmp_path / "sent" / "run.zip").read_bytes()


def test_two_runs_of_one_name_have_two_bundles(tmp_path):
    one, two = write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run", images=20)
    write_board([one, two], tmp_path / "site")
    assert sorted(path.name for path in (tmp_path / "site" / "bundles").iterdir()) == ["run-2.zip", "run.zip"]


def test_a_run_that_does_not_follow_from_its_counts_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "summary.csv").write_text("cell,purifier,sigma,acr\nx,none,0.5,9\n")
    list_files(folder)
    with pytest.raises(BundleError, match="no evidence yet"):
        write_board([folder], tmp_path / "site")


def test_an_edited_bundle_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    write_bundle(folder, tmp_path / "run.zip")
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(content["run/manifest.json"])
    manifest["preset"]["alpha"] = 0.5
    content["run/manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(tmp_path / "forged.zip", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(PurifyBenchError, match=r"forged\.zip"):
        write_board([tmp_path / "forged.zip"], tmp_path / "site")


def test_runs_that_go_on_are_given_twice_or_hold_no_counts_are_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(BoardError, match="are the same run"):
        write_board([folder, tmp_path / "copy"], tmp_path / "site")
    unfinished = make_run(tmp_path / "unfinished")
    del unfinished.manifest["ended"]
    (tmp_path / "unfinished").mkdir()
    export(unfinished)
    with pytest.raises(BundleError, match="has not ended"):
        write_board([tmp_path / "unfinished"], tmp_path / "site")
    with pytest.raises(BoardError, match="at least one run"):
        write_board([], tmp_path / "site")


def recounted(found, blocks=20, moved=0, status="verified"):
    """A verification with a recount."""
    again = Recount(3, 0.1, blocks, 200, 8, 1000, moved, True, 0, "a reason", 0, 29, "GPU X", 1.0)
    return replace(found, recount=again, status=status)


def test_a_record_says_who_verified_which_share_when_and_where(tmp_path):
    folder = write_run(tmp_path / "run")
    record = write_verification(tmp_path / "r.json", recounted(verify(folder, counts=False)), by=f"Ada {EVIL}")
    date = read_verification(record).date[:10]
    index, page = (Page(p.read_text()).text for p in write_board([folder], tmp_path / "site", [record]))
    assert "run : 10.0 % recounted" in index
    for words in (date, f"by Ada {EVIL}", "20 of 200 blocks", "seed 3", "GPU X", "no vote differs", "29 blocks"):
        assert words in page


def test_a_failed_verification_is_never_hidden_by_another(tmp_path):
    folder = write_run(tmp_path / "run")
    good = recounted(verify(folder, counts=False), blocks=200)
    bad = recounted(good, moved=7, status="not reproduced")
    records = [write_verification(tmp_path / f"{i}.json", found) for i, found in enumerate((good, bad))]
    index = Page(write_board([folder], tmp_path / "site", records)[0].read_text()).text
    assert "run : not reproduced" in index


def test_the_board_believes_no_verification_that_comes_with_a_run(tmp_path):
    folder = write_run(tmp_path / "run")
    write_verification(folder / "verification.json", recounted(verify(folder, counts=False)))
    assert "run : not recounted" in Page(write_board([folder], tmp_path / "site")[0].read_text()).text


def test_a_record_of_other_counts_or_without_sense_is_refused(tmp_path):
    folder, other = write_run(tmp_path / "run"), write_run(tmp_path / "other", images=20)
    record = write_verification(tmp_path / "r.json", verify(other, counts=False))
    with pytest.raises(BoardError, match="other counts"):
        write_board([folder], tmp_path / "site", [record])
    for change in ({"status": "perfect"}, {"recount": {"share": "much"}}):
        content = json.loads(record.read_text())
        content["verification"] |= change
        (tmp_path / "bad.json").write_text(json.dumps(content))
        with pytest.raises(PurifyBenchError, match=r"bad\.json"):
            write_board([folder], tmp_path / "site", [tmp_path / "bad.json"])
    with pytest.raises(PurifyBenchError, match="there is no file"):
        write_board([folder], tmp_path / "site", [tmp_path / "absent.json"])


def test_the_most_verified_of_equal_rows_is_the_one_that_competes(tmp_path):
    first, second = write_run(tmp_path / "first"), write_run(tmp_path / "second", manifest={"git": "other"})
    record = write_verification(tmp_path / "r.json", recounted(verify(second, counts=False)))
    pages = write_board([first, second], tmp_path / "site", [record])
    text = pages[1].read_text()
    assert text.index('id="run-second"') < text.index('id="run-first"')
    assert '<a href="#run-second">' in text and '<a href="#run-first">' not in text


def test_the_command_writes_a_board_and_says_where(cli, tmp_path):
    folder = write_run(tmp_path / "run")
    done = cli("board", folder, "--out", tmp_path / "site")
    assert done.exit_code == 0 and str(tmp_path / "site" / "index.html") in done.stdout
    assert pb.board([folder], tmp_path / "other").read_bytes() == (tmp_path / "site" / "index.html").read_bytes()
    refused = cli("board", tmp_path / "none", "--out", tmp_path / "site")
    assert refused.exit_code == 2 and "there is no run in" in refused.stderr


def test_verify_keeps_a_record(cli, tmp_path):
    folder = write_run(tmp_path / "run")
    done = cli("verify", folder, "--no-counts", "--record", tmp_path / "r.json", "--by", "Ada")
    assert done.exit_code == 0
    record = read_verification(tmp_path / "r.json")
    assert record.by == "Ada" and set(record.verification.files) == {"manifest.json", "counts.parquet"}


@pytest.mark.parametrize("path", sorted((ROOT / "results" / "verified").glob("*.json")), ids=lambda path: path.stem)
def test_the_verifications_of_our_own_runs_are_of_the_counts_that_are_here(path):
    """After a run is made again, `bench verify results/RUN --record results/verified/RUN.json` verifies it again."""
    found = read_verification(path).verification
    assert found.status == VERIFIED and found.recount.moved <= found.recount.limit
    assert found.files == digests(ROOT / "results" / path.stem, found.files)
