"""The leaderboard: what may share a table, who is tied, what a budget lets in, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from board_runs import PURIFIERS, benchmark_of, make_run, submitted, write_run
from report_runs import Page

import purifybench as pb
from bench.analysis import recommend
from bench.board import BoardError, write_board
from bench.board.benchmark import benchmarks
from bench.board.evidence import evidence
from bench.board.page import benchmark_page, overview
from bench.board.picture import HEIGHT, WIDTH, picture
from bench.board.ranking import Budget, budgets, ranking
from bench.errors import PurifyBenchError
from bench.store import attacks
from bench.store.checksums import list_files
from bench.summary.statistics import LEVEL
from bench.verify import BundleError, read_verification, verify, write_bundle, write_verification

ANY = Budget("nfe", "any cost")


def weighted(weights: str, **facts):
    """An edit of cells: other weights of the classifier, and other facts."""
    return lambda cell: replace(cell, hashes={**cell.hashes, "classifier weights": weights}, **facts)


OTHERS = {  # what is not equal to the first run -> options of the run
    "data set": {"edit": weighted("w", dataset="fashion")},
    "part": {"edit": weighted("w", split="val")},
    "kind of noise": {"edit": weighted("w", noise="discrete")},
    "weights of the classifier": {"edit": weighted("v")},
    "parameters of the classifier": {"edit": weighted("w", classifier_parameters={"path": "a", "precision": "bf16"})},
    "a label": {"manifest": {"labels": {str(i): int(i == 3) for i in range(30)}}, "edit": weighted("w")},
    "pixels": {"manifest": {"pixels": {str(i): "p" for i in range(30)}}, "edit": weighted("w")},
    "number of images": {"images": 29, "edit": weighted("w")},
    "draws": {"preset": {"n": 41}, "edit": weighted("w")},
    "alpha": {"preset": {"alpha": 0.01}, "edit": weighted("w")},
    "rule": {"preset": {"certifier": "randomised"}, "edit": weighted("w")},
}


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_runs_of_different_benchmarks_never_share_a_table(tmp_path, options):
    first = make_run(tmp_path / "first", edit=weighted("w", classifier_parameters={"path": "a"}))
    other = make_run(tmp_path / "other", **options)
    found = benchmarks([submitted(first), submitted(other)])
    assert len(found) == 2 and len({b.key for b in found}) == 2
    assert [set(b.summary.table["run"]) for b in found] in ([{"first"}, {"other"}], [{"other"}, {"first"}])


def test_runs_of_one_benchmark_share_a_table_wherever_the_weights_lie(tmp_path):
    runs = [
        make_run(tmp_path / name, purifiers, edit=weighted("w", classifier_parameters={"path": path}), sigmas=sigmas)
        for name, purifiers, path, sigmas in (
            ("one", PURIFIERS, "a", (0.25, 0.5)),
            ("two", {"mine": ("other", 2, 0.6, 0.9)}, "/b", (0.5,)),
        )
    ]
    benchmark = benchmark_of(*runs)
    assert set(benchmark.summary.table["run"]) == {"one", "two"}
    found = ranking(benchmark, 0.25, ANY)
    assert {entry.option.name for entry in (*found.tied, *found.lower)} == {*PURIFIERS, "mine"}


def test_a_purifier_is_tied_with_the_leader_or_significantly_lower_and_the_cheapest_of_those_tied_comes_first(tmp_path):
    benchmark = benchmark_of(make_run(tmp_path / "run", images=200, sigmas=(0.5,)))
    advice = recommend(benchmark.summary, 0.25)
    found = ranking(benchmark, 0.25, ANY)
    tied, lower = ([e.option.name for e in group] for group in (found.tied, found.lower))
    assert {*tied[:2]} == {"onestep-edm", "consistency"} and tied[2:] == ["pf-ode"] and lower == ["none"]
    assert advice.chosen.name in tied and found.advice.verdict == advice.verdict
    assert all(e.p <= LEVEL for e in found.lower)
    assert [e.option.nfe for e in found.tied] == [1, 1, 5]
    assert found.cheapest is None or found.cheapest.option.nfe < advice.chosen.nfe


def test_with_few_images_everything_is_tied_and_nothing_is_ranked(tmp_path):
    benchmark = benchmark_of(make_run(tmp_path / "run", images=4, sigmas=(0.5,)))
    assert not ranking(benchmark, 0.25, ANY).lower


def test_a_purifier_is_lower_only_if_it_is_lower_at_every_sigma(tmp_path):
    purifiers = {"none": ("none", 0, 0.1, 0.55), "onestep-edm": ("one-step", 1, 0.3, 0.99)}
    benchmark = benchmark_of(make_run(tmp_path / "run", purifiers, images=100))
    for radius in benchmark.summary.radii:
        found = ranking(benchmark, radius, ANY)
        for entry in (*found.tied, *found.lower):
            own = [s.p for s in found.advice.standings if s.name == entry.option.name]
            assert entry.p == (None if None in own else max(own))


def test_every_budget_lets_in_more_than_the_one_below_it_and_less_than_any_cost(tmp_path):
    benchmark = benchmark_of(make_run(tmp_path / "run"))
    table = benchmark.summary.table
    offered = budgets(table)
    assert offered[0] == ANY and {b.cost for b in offered[1:]} == {"nfe", "ms_joint", "gflops"}
    for cost in ("nfe", "ms_joint", "gflops"):
        within = [(table[cost] <= b.most).sum() for b in offered[1:] if b.cost == cost]
        assert within == sorted(set(within)) and within[0] > 0 and within[-1] < len(table)


def test_no_budget_of_time_is_offered_for_rows_of_several_devices(tmp_path):
    other = {"mine": ("other", 2, 0.6, 0.9)}
    benchmark = benchmark_of(make_run(tmp_path / "a"), make_run(tmp_path / "b", other, device="another"))
    assert {b.cost for b in budgets(benchmark.summary.table)} == {"nfe", "gflops"}
    assert "No budget of time is offered" in Page(benchmark_page(benchmark)).text


def test_every_ranking_of_the_page_is_the_recommendation(tmp_path):
    benchmark = benchmark_of(make_run(tmp_path / "run"))
    page = Page(benchmark_page(benchmark))
    for radius in benchmark.summary.radii:
        for budget in budgets(benchmark.summary.table):
            assert recommend(benchmark.summary, radius, **budget.limit).verdict in page.text


def test_the_marks_of_the_picture_lie_within_it_and_rise_with_accuracy(tmp_path):
    benchmark = benchmark_of(make_run(tmp_path / "run", images=200))
    for budget in budgets(benchmark.summary.table):
        found = ranking(benchmark, 0.25, budget)
        if found.advice.chosen is None:  # plain smoothing alone certifies nothing there
            assert picture(found) is None
            continue
        drawn, entries = picture(found)["marks"], [*found.tied, *found.lower]
        assert len(drawn) == len(entries)
        assert all(0 <= m["x"] <= WIDTH and 0 <= m["high"] <= m["accuracy"] <= m["low"] <= HEIGHT for m in drawn)
        by_accuracy = sorted(zip(drawn, entries, strict=True), key=lambda pair: pair[1].option.accuracy)
        heights = [mark["accuracy"] for mark, _ in by_accuracy]
        assert heights == sorted(heights, reverse=True)


def test_equal_cells_of_two_runs_stay_with_their_runs_and_contradictions_are_told(tmp_path):
    first, second = make_run(tmp_path / "first"), make_run(tmp_path / "second")
    assert not benchmark_of(first, second).contradictions
    forged = second.blocks.assign(votes=[[n, 0, 0] for n in second.blocks["draws"]])
    benchmark = benchmark_of(first, replace(second, blocks=forged))
    (told,) = benchmark.contradictions
    assert "first and second" in told and "other votes" in told
    assert told in Page(benchmark_page(benchmark)).text
    assert set(benchmark.summary.table["run"]) == {"first", "second"}


EVIL = "<script>alert(1)</script>"
TURNED = "safe\u202egnp.exe\u2066"


def test_what_runs_say_is_never_markup_and_turns_no_line(tmp_path):
    purifiers = {EVIL: ("one-step", 1, 0.3, 0.9), TURNED: ("evil</style>", 2, 0.5, 0.8), "ok": ("sde", 3, 0.9, 0.9)}
    run = make_run(
        tmp_path / EVIL.replace("/", "-"),
        purifiers,
        errors={"ok": f"{EVIL} \u2028"},
        manifest={"data": EVIL, "git": EVIL, "ended": EVIL, "purifybench": TURNED},
        device=f"CPU {EVIL}",
    )
    benchmark, plain = benchmark_of(run), benchmark_of(make_run(tmp_path / "plain"))
    for text, usual in (
        (benchmark_page(benchmark), benchmark_page(plain)),
        (overview([benchmark]), overview([plain])),
    ):
        page = Page(text)
        assert [tag for tag, _ in page.elements].count("script") == [t for t, _ in Page(usual).elements].count("script")
        assert len(page.all("style")) == 1 and not page.all("img")
        assert EVIL in page.text and "\u202e" not in text and "\u2066" not in text
        assert "safegnp.exe" in text or (text.startswith("<!doctype") and "2066" not in text)


def test_pages_load_nothing_and_admit_only_their_own_script(tmp_path):
    folder = write_run(tmp_path / "run")
    pages = write_board([folder], tmp_path / "site")
    assert pages[0].name == "index.html" and len(pages) == 2
    for path in pages:
        page = Page(path.read_text())
        for tag, attributes in page.elements:
            assert tag not in ("link", "iframe", "object", "embed", "base", "img", "form")
            assert not attributes.get("src") and "onclick" not in attributes
            target = (attributes.get("href") or "#").partition("#")[0]
            assert not target or (path.parent / target).is_file(), target
        policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src '")
        assert "url(" not in path.read_text() and "@import" not in path.read_text()


def test_the_same_runs_give_the_same_site(tmp_path):
    folder = write_run(tmp_path / "run")
    for name in ("one", "two"):
        write_board([folder], tmp_path / name)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in ("one", "two"))
    assert one == two and len(one) == 3


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
    import zipfile

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
    from bench.store import export

    export(unfinished)
    with pytest.raises(BundleError, match="has not ended"):
        write_board([tmp_path / "unfinished"], tmp_path / "site")
    with pytest.raises(BoardError, match="at least one run"):
        write_board([], tmp_path / "site")


def recounted(found, blocks=20, moved=0, status="verified"):
    """A verification with a recount."""
    from bench.verify import Recount

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


def test_attacks_are_told_with_those_that_broke(tmp_path):
    run = make_run(tmp_path / "run")
    key = next(iter(run.cells))
    hit = attacks.AttackedImage(0, 0, 0, 0.2, 0.2, 0.3, 10, 500, True, 0.2)
    cell = attacks.AttackedCell(key, key, "none", 0.25, "exact", 1, 0, (hit,), 1.0)
    found = attacks.Attacks("pgd", 1, 2, 3, 500, 0.001, 0.001, {}, (cell,))
    told = evidence("run", submitted(run, attacks=found), benchmark_of(run).summary)["attack"]
    assert told["words"].startswith("1 of 1 certificate broken (at most 0.001 expected)") and told["state"] == "bad"


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
