"""`bench verify` finds every edit of a run that this file can think of, and believes a run that is sound."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import run
from conftest import ROLES, ROOT, toml
from forging import CONSISTENT, forge, label_changed, loaded, moved, one_vote, votes_to_the_true_class, write

import purifybench as pb
from bench.store import checks
from bench.store.checksums import list_files
from bench.verify.tolerance import RATE


@pytest.fixture(scope="module")
def sound(tiny_zoo, tmp_path_factory) -> Path:
    """A finished run of two purifiers on six digits, with tables and a report."""
    folder = tmp_path_factory.mktemp("verify")
    preset = {
        "dataset": "mnist5k",
        "images": 6,
        "classifier": {"name": "cnn", "path": str(tiny_zoo / "classifier.safetensors")},
        "purifiers": ["none", "onestep-edm"],
        "networks": {role: str(tiny_zoo / f"{role}.safetensors") for role in ROLES},
        "sigmas": [0.5],
        "certifier": "cohen",
        **{"n0": 4, "n": 20, "block": 10, "rows": 8, "radii": [0.0, 0.1], "device": "cpu", "workers": 1},
    }
    path = folder / "tiny.toml"
    path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in preset.items()))
    finished = pb.run(path, out=folder / "run")
    pb.report(finished, folder / "run" / "report.html")
    from bench.analysis import markup, tables

    markup.write(tables.tables(finished.summary), folder / "run" / "tables")
    return folder / "run"


@pytest.fixture
def copy(sound, tmp_path) -> Path:
    """A copy to edit single files of."""
    return Path(shutil.copytree(sound, tmp_path / "run"))


def test_a_sound_run_is_verified_bit_for_bit_and_everything_that_was_checked_is_named(sound, cli):
    done = cli("verify", sound, "--share", 1, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "verified: run (its counts and figures)" in done.stdout
    assert "counted again: 36 of 36 blocks in 2 cells (share 1, seed 3), 288 draws" in done.stdout
    assert "votes that differ: 0 (0.000%); at most 0 may: bit for bit, because device model" in done.stdout
    assert "claim: 6 test images of MNIST" in done.stdout and "alpha = 0.001" in done.stdout
    for name in ("manifest and counts", "summary.csv", "tables/table-sigma-0.5.md", "report.html (the whole page)"):
        assert f"follows from the counts: {name}" in done.stdout
    assert "smallest edit" not in done.stdout


@pytest.mark.parametrize("edit", CONSISTENT, ids=lambda edit: edit.__name__)
def test_an_edit_with_which_every_file_agrees_is_found(sound, tmp_path, edit):
    status, words = CONSISTENT[edit]
    found = pb.verify(forge(sound, tmp_path / "run", edit), share=1)
    assert found.status == status and words in str(found), str(found)


def test_the_same_run_written_again_without_an_edit_is_verified(sound, tmp_path):
    """Else the tests of edits would find what writing does."""
    assert pb.verify(write(loaded(sound), tmp_path / "run"), share=1).status == "verified"


def _alpha_in_the_export(folder: Path) -> str:
    return _manifest_edited(folder, lambda m: m["preset"].update(alpha=0.05))


def _preset_in_the_export(folder: Path) -> str:
    return _manifest_edited(folder, lambda m: m["preset"].update(n=40))


def _manifest_edited(folder: Path, edit) -> str:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    del manifest["crc"]
    path.write_text(json.dumps({**manifest, "crc": checks.checksum(manifest)}))
    return "manifest.json and run.sqlite differ in 'preset'"


def _alpha_in_database_and_export(folder: Path) -> str:
    forged = loaded(folder)
    forged.manifest["preset"]["alpha"] = 0.05
    before = (folder / "summary.csv").read_text()
    shutil.rmtree(folder)
    write(forged, folder)
    (folder / "summary.csv").write_text(before)
    return "summary.csv: none at sigma = 0.5: "


def _counts_in_the_export(folder: Path) -> str:
    path = folder / "counts.parquet"
    blocks = pd.read_parquet(path)
    votes = blocks["votes"].map(list).tolist()
    votes[0] = votes[0][::-1]
    blocks.assign(votes=[np.asarray(v, np.int32) for v in votes]).to_parquet(path, write_page_checksum=True)
    return "counts.parquet and run.sqlite differ in 1 blocks"


def _figure_of_the_summary(folder: Path) -> str:
    table = pd.read_csv(folder / "summary.csv")
    table.loc[1, "acr"] += 1e-3
    table.to_csv(folder / "summary.csv", index=False)
    return "summary.csv: onestep-edm at sigma = 0.5: acr is"


def _row_of_the_summary(folder: Path) -> str:
    pd.read_csv(folder / "summary.csv").iloc[1:].to_csv(folder / "summary.csv", index=False)
    return "summary.csv: it has 1 rows, the counts give 2"


def _time_in_the_summary(folder: Path) -> str:
    table = pd.read_csv(folder / "summary.csv")
    table["ms_purify"] /= 2
    table.to_csv(folder / "summary.csv", index=False)
    return "ms_purify is"


def _table_for_a_paper(folder: Path) -> str:
    path = folder / "tables" / "table-sigma-0.5.tex"
    path.write_text(path.read_text().replace("onestep", "0nestep"))
    return "tables/table-sigma-0.5.tex is not what the counts give"


def _figure_of_the_report(folder: Path) -> str:
    path = folder / "report.html"
    begin, data, end = re.split(r'(?<=id="record">)(.*?)(?=</script>)', path.read_text(), maxsplit=1, flags=re.S)
    record = json.loads(data)
    record["rows"][0]["nfe"]["value"] = 7
    path.write_text(begin + json.dumps(record) + end)
    return "report.html: the figures of its charts (rows) are not those of the counts"


EXPORTS = [
    _alpha_in_the_export,
    _preset_in_the_export,
    _alpha_in_database_and_export,
    _counts_in_the_export,
    _figure_of_the_summary,
    _row_of_the_summary,
    _time_in_the_summary,
    _table_for_a_paper,
    _figure_of_the_report,
]


@pytest.mark.parametrize("edit", EXPORTS, ids=lambda edit: edit.__name__[1:])
def test_an_export_that_does_not_follow_from_the_counts_is_found_without_counting(copy, edit):
    words = edit(copy)
    found = pb.verify(copy, counts=False)
    assert found.status == "not reproduced" and words in str(found), str(found)


def test_a_text_of_the_report_that_this_version_does_not_write_is_said(copy):
    path = copy / "report.html"
    path.write_text(path.read_text().replace("Use ", "Never use ", 1).replace("</h1>", "!</h1>", 1))
    list_files(copy)  # as who edits a file may do
    found = pb.verify(copy, counts=False)
    assert found.status == "verified" and "its text is not what this version writes" in str(found)


def test_without_counting_it_takes_no_torch_and_says_that_no_count_was_checked(sound):
    code = (
        "import sys\nfrom bench.__main__ import app\n"
        f"app(['verify', {str(sound)!r}, '--no-counts'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "verified: run (only that its figures follow from its counts)" in done.stdout


def test_edited_votes_pass_where_nothing_is_counted(sound, tmp_path):
    """What `--no-counts` does not promise."""
    found = pb.verify(forge(sound, tmp_path / "run", votes_to_the_true_class), counts=False)
    assert found.status == "verified" and found.recount is None


def test_the_exit_status_tells_the_three_answers_apart(sound, tmp_path, cli):
    edited = forge(sound, tmp_path / "edited", one_vote)
    assert cli("verify", edited, "--share", 1).exit_code == 1
    in_memory = tmp_path / "memory"
    forged = loaded(sound)
    forged.manifest["preset"]["dataset"] = "mnist6k"
    del forged.manifest["ended"]
    done = cli("verify", write(forged, in_memory), "--no-counts")
    assert done.exit_code == 1  # the preset contradicts the cells
    unfinished = loaded(sound)
    del unfinished.manifest["ended"]
    done = cli("verify", write(unfinished, tmp_path / "unfinished"), "--no-counts")
    assert done.exit_code == 3 and "cannot be checked: the run has not ended" in done.stdout
    for wrong in (("--share", 0), ("--share", 1.5), ("--networks", "edm")):
        assert cli("verify", sound, *wrong).exit_code == 2
    assert cli("verify", tmp_path / "nowhere").exit_code == 2


def test_the_answer_is_also_json(sound, cli):
    record = json.loads(cli("verify", sound, "--share", 0.2, "--seed", 5, "--json").stdout)
    assert record["status"] == "verified" and record["recount"]["seed"] == 5
    assert record["recount"]["blocks"] == 8 and record["recount"]["of_blocks"] == 36


def test_a_network_that_lies_elsewhere_is_named_by_its_role(sound, tmp_path, tiny_zoo):
    forged = loaded(sound)
    forged.manifest["preset"]["networks"]["edm"] = "/elsewhere/edm.safetensors"
    folder = write(forged, tmp_path / "run")
    lost = pb.verify(folder, share=1)
    assert lost.status == "cannot be checked" and "/elsewhere/edm.safetensors" in str(lost)
    assert pb.verify(folder, share=1, networks={"edm": str(tiny_zoo / "edm.safetensors")}).status == "verified"
    other = pb.verify(folder, share=1, networks={"edm": str(tiny_zoo / "edm-ft.safetensors")})
    assert other.status == "cannot be checked" and "network edm has the hash" in str(other)


def test_code_of_a_run_is_run_only_where_the_user_names_it(tiny_preset, tmp_path, cli, purifier_file):
    path = purifier_file("return x.clamp(0, 1)")
    folder = tmp_path / "run"
    assert run(cli, tiny_preset(purifiers=[str(path)]), "--purifiers", path, "--out", folder).exit_code == 0
    refused = pb.verify(folder, share=1)
    assert refused.status == "cannot be checked" and "results run none by themselves" in str(refused)
    assert pb.verify(folder, share=1, purifiers=str(path)).status == "verified"


def test_a_run_in_memory_cannot_be_checked(sound):
    import torch

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    images = torch.rand(2, 3, 2, 2)
    certified = pb.certify(model, images, [0, 1], sigma=0.5, n0=2, n=4, device="cpu")
    with pytest.raises(ValueError, match="in memory only"):
        pb.verify(certified)


def test_counts_of_another_device_may_differ_by_the_known_rate_and_no_more(sound, tmp_path):
    def elsewhere(f):
        f.blocks["device"] = "Another CPU (1 thread)"
        one_vote(f)

    one = pb.verify(forge(sound, tmp_path / "one", elsewhere), share=1)
    assert one.status == "verified" and one.recount.moved == 1 and not one.recount.exact
    assert "Another CPU" in one.recount.reason and f"{RATE:.1%}" in one.recount.reason

    def many(f):
        elsewhere(f)
        for row in f.blocks.index:
            votes = f.blocks.at[row, "votes"]
            f.set(row, "votes", moved(votes, votes.index(min(votes)), 2))

    assert pb.verify(forge(sound, tmp_path / "many", many), share=1).status == "not reproduced"


def test_a_share_prints_the_smallest_edit_that_it_finds(sound):
    text = str(pb.verify(sound, share=0.5, seed=0))
    assert "counted again: 18 of 36 blocks" in text
    assert re.search(r"smallest edit that this share finds with 95 %: [45] of 36 blocks", text)


def test_labels_are_compared_with_the_data_even_where_few_blocks_are_counted(sound, tmp_path):
    assert pb.verify(forge(sound, tmp_path / "run", label_changed), share=0.01).status == "not reproduced"
