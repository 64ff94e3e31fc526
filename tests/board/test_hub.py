"""A run as a data set of the hub: the card names files that are there, and the files hold the figures of the run."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from board_runs import PURIFIERS, make_run, write_run

import purifybench as pb
from bench.board import BoardError, export_hub
from bench.store import export
from bench.verify import VERIFIED, BundleError, verify

EVIL = '"\n---\n<script>alert(1)</script> | # [x](javascript:1)\u2028'


def header(card: str) -> dict:
    import yaml

    return yaml.safe_load(re.fullmatch(r"---\n(.*?)\n---\n.*", card, re.DOTALL)[1])


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "my run")


def test_the_card_names_every_parquet_file_and_the_bundle_verifies(folder, tmp_path, cli):
    done = cli("export-hub", folder, "--out", tmp_path / "set")
    assert done.exit_code == 0, done.output
    card = (tmp_path / "set" / "README.md").read_text()
    configs = header(card)["configs"]
    assert [config["config_name"] for config in configs if config.get("default")] == ["summary"]
    paths = {config["config_name"]: config["data_files"][0]["path"] for config in configs}
    assert {path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*.parquet")} == {
        *paths.values()
    }
    assert verify(tmp_path / "set" / "evidence" / "my run.zip", counts=False).status == VERIFIED
    run = pb.load(folder)
    summary = pd.read_parquet(tmp_path / "set" / paths["summary"])
    assert summary["acc@0.25"].tolist() == pytest.approx(run.table["acc@0.25"].tolist(), nan_ok=True)
    certificates = pd.read_parquet(tmp_path / "set" / paths["certificates"])
    assert len(certificates) == len(run.certificates) and set(certificates["name"]) == set(PURIFIERS)
    reached = certificates[certificates["correct"] & (certificates["radius"] >= 0.25)]
    for row in run.table.dropna(subset="acc@0.25").to_dict("records"):
        own = reached[(reached["name"] == row["name"]) & (reached["sigma"] == row["sigma"])]
        assert len(own) / row["images"] == pytest.approx(row["acc@0.25"])
    assert (tmp_path / "set" / paths["counts"]).read_bytes() == (folder / "counts.parquet").read_bytes()


def test_the_library_of_the_hub_reads_it(folder, tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs the extra `hub`")
    export_hub(folder, tmp_path / "set")
    run = pb.load(folder)
    for config, rows in (("summary", run.table), ("certificates", run.certificates), ("counts", run.stored.blocks)):
        found = datasets.load_dataset(str(tmp_path / "set"), config, split="test", cache_dir=str(tmp_path / "cache"))
        assert len(found) == len(rows)


def test_texts_of_a_run_cannot_leave_their_place_in_the_card(tmp_path):
    folder = write_run(tmp_path / "run", preset={"title": EVIL}, manifest={"data": EVIL})
    card = export_hub(folder, tmp_path / "set")[0].read_text()
    assert header(card)["pretty_name"] == EVIL and len(header(card)["configs"]) == 3
    body = card.partition("\n---\n")[2]
    assert not re.search(r"(?<!\\)(<script|\]\(javascript)", body) and "\n---\n" not in body
    assert body.count("script") > 2


def test_the_same_run_gives_the_same_card_and_a_second_export_replaces_the_first(folder, tmp_path):
    first = [path.read_bytes() for path in export_hub(folder, tmp_path / "set")]
    assert [path.read_bytes() for path in export_hub(folder, tmp_path / "set")] == first


def test_what_is_no_evidence_and_the_folder_of_a_run_are_refused(folder, tmp_path):
    with pytest.raises(BoardError, match="the folder of a run"):
        export_hub(folder, folder)
    unfinished = make_run(tmp_path / "unfinished")
    del unfinished.manifest["ended"]
    (tmp_path / "unfinished").mkdir()
    export(unfinished)
    with pytest.raises(BundleError, match="has not ended"):
        pb.export_hub(tmp_path / "unfinished", tmp_path / "set")
