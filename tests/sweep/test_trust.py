"""The check before a run and the audit in it: what they refuse, what they keep, what they cost, what they say."""

from __future__ import annotations

import pytest
from command import FAILED, OK, counts_of, run, summary_of
from summaries import CELL

from bench.records import Block, Cell, Cost, Counts
from bench.store import Store, read_run
from bench.sweep import load_preset, make_plan
from bench.sweep.audit import FEWEST_BLOCKS, CellAudit
from bench.sweep.trust import _draws, _fixed, _rows

LATE = "self.calls.append(1); return x.clamp(0, 1) if len(self.calls) < {0} else x.clamp(0, 1).flip(3)"
COUPLED = "return (x - x.mean(0)).clamp(0, 1)"
KEY = Cell(**CELL, purifier="mine", parameters={}, sigma=0.5).key


def trust_of(folder):
    return read_run(folder).manifest["trust"]


def test_a_run_keeps_the_check_and_the_audit_of_every_cell_and_says_so(cli, tiny_preset, tmp_path):
    path, folder = tiny_preset(sigmas=[0.25, 0.5]), tmp_path / "run"
    done = run(cli, path, "--out", folder)
    assert done.exit_code == OK and "checked the classifier and 2 purifiers before the first cell" in done.output
    keys, trust = set(read_run(folder).cells), trust_of(folder)
    assert set(trust["checks"]) == set(trust["audits"]) == keys and len(keys) == 4
    assert all(audit["blocks"] == 9 and audit["draws"] == audit["of"] == 72 for audit in trust["audits"].values())
    assert all(check["purifier"]["exact"] and check["classifier"]["exact"] for check in trust["checks"].values())
    assert "288 draws (100.0%) were counted again in other batches" in done.output and "none voted" in done.output
    found = summary_of(cli, folder)
    assert not found["notes"] and "288 draws" in found["evidence"]["run"]
    assert run(cli, path, "--out", folder).exit_code == OK  # it is complete, so nothing is checked or audited again
    assert trust_of(folder) == trust
    (folder / "run.sqlite").unlink()
    assert trust_of(folder) == trust  # from the exports


def test_a_purifier_that_breaks_the_contract_fails_by_name_before_anything_is_counted(
    cli, tiny_preset, purifier_file, tmp_path
):
    path = tiny_preset(purifiers=["none", str(purifier_file(COUPLED))], sigmas=[0.25, 0.5])
    done = run(cli, path, "--out", tmp_path / "run")
    assert done.exit_code == FAILED
    rows = summary_of(cli, tmp_path / "run")["rows"]
    errors = [row["error"] for row in rows if row["purifier"] == "broken"]
    assert len(errors) == 2 and all("purifier 'broken': a row depends on the rows beside it" in e for e in errors)
    assert all(row["images"] == 3 for row in rows if row["purifier"] == "none")
    cells = read_run(tmp_path / "run").cells
    assert {cells[cell].purifier for cell, *_ in counts_of(tmp_path / "run")} == {"none"}


def test_a_classifier_in_training_mode_fails_every_cell(cli, tiny_preset, classifier_file, tmp_path):
    body = "return torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Flatten(), torch.nn.Linear(784, 10))"
    path = tiny_preset(classifier=str(classifier_file(body)))
    assert run(cli, path, "--out", tmp_path / "run").exit_code == FAILED
    errors = read_run(tmp_path / "run").errors
    assert len(errors) == 2 and all("layer BatchNorm2d is in training mode" in error for error in errors.values())
    assert not counts_of(tmp_path / "run")


def test_an_audit_that_fails_names_image_and_draw_and_the_cell_stays_failed(cli, tiny_preset, purifier_file, tmp_path):
    plugin = purifier_file(LATE.format(9), fields="calls = []")
    path, folder = tiny_preset(purifiers=[str(plugin)], images=20, batch=240), tmp_path / "run"
    done = run(cli, path, "--out", folder)
    assert done.exit_code == FAILED, done.output
    (row,) = summary_of(cli, folder)["rows"]
    assert "votes of image " in row["error"] and "; draw " in row["error"] and "now votes for class" in row["error"]
    assert row["images"] == 0 and row["acr"] is None and len(counts_of(folder)) > FEWEST_BLOCKS
    stored = counts_of(folder)
    again = run(cli, path, "--out", folder)
    assert again.exit_code == FAILED and "now votes for class" in again.output
    assert counts_of(folder) == stored
    with Store(folder) as store:  # as a session that is killed when it has forgotten earlier errors
        store.begin(read_run(folder).cells.values(), store.manifest())
    assert summary_of(cli, folder)["rows"][0]["images"] == 0


def test_a_run_without_an_audit_says_so_everywhere(cli, tiny_preset, tmp_path, monkeypatch):
    path, folder = tiny_preset(), tmp_path / "results" / "runs" / "run"
    done = run(cli, path, "--audit", "0", "--out", folder)
    assert done.exit_code == OK and trust_of(folder)["audits"] == {}
    said = "no audit: it was switched off (--audit 0)"
    assert said in done.output and any(said in note for note in summary_of(cli, folder)["notes"])
    assert said in cli("recommend", "--radius", "0.25", folder).output
    monkeypatch.chdir(tmp_path)
    assert said in cli("list").output
    assert cli("report", folder, "--out", tmp_path / "page.html").exit_code == OK
    assert said in (tmp_path / "page.html").read_text()


def test_a_run_of_a_version_without_audits_is_read_and_a_complete_one_is_not_counted_again(cli, tiny_preset, tmp_path):
    path, folder = tiny_preset(), tmp_path / "run"
    assert run(cli, path, "--out", folder).exit_code == OK
    with Store(folder) as store:
        store.describe({name: value for name, value in store.manifest().items() if name != "trust"})
    assert any("no audit: counted by a version" in note for note in summary_of(cli, folder)["notes"])
    assert run(cli, path, "--out", folder).exit_code == OK
    assert trust_of(folder) == {"checks": {}, "audits": {}}
    assert run(cli, path, "--images", "4", "--out", folder).exit_code == OK  # more is counted: all of it is audited
    assert [audit["of"] for audit in trust_of(folder)["audits"].values()] == [96, 96]


def test_an_audit_that_an_interruption_cut_short_is_made_by_the_next_session(cli, tiny_preset, tmp_path):
    path, folder = tiny_preset(), tmp_path / "run"
    assert run(cli, path, "--out", folder).exit_code == OK
    whole = trust_of(folder)
    with Store(folder) as store:
        store.describe({**store.manifest(), "trust": {"checks": whole["checks"], "audits": {}}})
    assert run(cli, path, "--out", folder).exit_code == OK
    for key, audit in trust_of(folder)["audits"].items():
        assert {**audit, "seconds": 0, "elsewhere": 0} == {**whole["audits"][key], "seconds": 0, "elsewhere": 0}


def test_check_and_audit_of_the_embedded_preset_take_less_than_a_twentieth_of_its_draws():
    preset = load_preset("embedded", {"precision": "fp32", "device": "cpu"})
    planned = make_plan(preset, "cpu")
    fixed, labels = _fixed(planned.cells[0]), dict.fromkeys(cell.label for cell in planned.cells)
    groups = [[cell for cell in planned.cells if cell.label == label] for label in labels]
    rows = [_rows(planned, cells) for cells in (planned.cells, *groups)]
    planned_draws = 500 * 50 * len(planned.cells)
    checks = sum(_draws(r, fixed) for r in rows)
    assert set(rows) == {500} and checks <= 0.02 * planned_draws
    assert checks + FEWEST_BLOCKS * 25 * len(planned.cells) <= 0.05 * planned_draws


def counted(images, votes=(10, 0), device="one", draws=10):
    return [
        Counts(Block(KEY, i, "estimate", 0, draws), votes, Cost(0, 0, 0, 0, 0, 0, device), worker="a") for i in images
    ]


def recounted(task, vote=0, device="one"):
    votes = tuple(int(k == vote) for k in (0, 1))
    return [Counts(block, votes, Cost(0, 0, 0, 0, 1.0, 0, device), worker="b") for block in task.blocks]


def audit_of(share=0.01, seed=0):
    return CellAudit(Cell(**CELL, purifier="mine", parameters={}, sigma=0.5), share, seed)


def tasks_of(audit, batch=64):
    tasks = []
    while (task := audit.take(batch, last=True)) is not None:
        tasks.append(task)
    return tasks


def images_in(tasks):
    return {block.image for task in tasks for block in task.blocks}


@pytest.mark.parametrize(("blocks", "share", "expected"), [(8, 0.01, 8), (500, 0.01, 20), (500, 1, 500)])
def test_a_share_of_the_blocks_is_audited_and_always_twenty(blocks, share, expected):
    audit = audit_of(share)
    audit.see(counted(range(blocks)))
    tasks = tasks_of(audit)
    assert len(images_in(tasks)) == audit.record()["blocks"] == expected
    assert all(len(task.blocks) <= 64 and {b.draws for b in task.blocks} == {1} for task in tasks)


def test_the_seed_chooses_the_blocks_in_whatever_order_they_are_counted():
    orders = [range(500), reversed(range(500))]
    chosen = []
    for order in orders:
        audit = audit_of()
        audit.see(counted(order))
        chosen.append(images_in(tasks_of(audit)))
    other = audit_of(seed=1)
    other.see(counted(range(500)))
    assert chosen[0] == chosen[1] != images_in(tasks_of(other))


def test_full_batches_are_audited_during_the_cell_and_the_rest_at_its_end():
    audit = audit_of(share=0.5)
    audit.see(counted(range(20)))
    assert not audit.done and audit.take(10_000, last=False) is None
    audit.see(counted(range(20, 400)))
    task = audit.take(500, last=False)
    assert len(task.blocks) == 500 and audit.compare(recounted(task)) is None and not audit.done


def test_one_vote_that_differs_fails_the_cell_on_the_same_device_and_is_told_on_another():
    for device, fails in (("one", True), ("two", False)):
        audit = audit_of(share=1)
        audit.see(counted(range(100)))
        first, *others = tasks_of(audit)
        results = recounted(first, device=device)
        results[3] = recounted(first, vote=1, device=device)[3]
        problems = [audit.compare(results), *(audit.compare(recounted(task, device=device)) for task in others)]
        record = audit.record()
        assert any(problems) is fails and ("error" in record) is fails
        assert (record["differ"], record["other_device"]) == (1, 0 if fails else 1000)
        if fails:
            block = first.blocks[3]
            assert f"image {block.image} from" in audit.error and f"draw {block.first} now votes" in audit.error


def test_many_votes_that_differ_on_another_device_fail_the_cell():
    audit = audit_of(share=1)
    audit.see(counted(range(100)))
    problems = [
        audit.compare(recounted(task, vote=int(i == 0), device="two")) for i, task in enumerate(tasks_of(audit))
    ]
    assert "64 of 1000 draws vote otherwise on another device" in problems[-1]
