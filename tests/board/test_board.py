"""The leaderboard: what may share a table, who is tied, what a budget lets in, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from board_runs import PURIFIERS, benchmark_of, make_run, submitted, write_run
from report_runs import Page

from bench.analysis import recommend
from bench.board import write_board
from bench.board.benchmark import benchmarks
from bench.board.evidence import evidence
from bench.board.page import benchmark_page, overview
from bench.board.picture import HEIGHT, WIDTH, picture
from bench.board.ranking import Budget, budgets, radii_of, ranking
from bench.store import attacks
from bench.summary.statistics import LEVEL

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
    offered = budgets(benchmark)
    assert offered[0] == ANY and {b.cost for b in offered[1:]} == {"nfe", "ms_joint", "gflops"}
    for cost in ("nfe", "ms_joint", "gflops"):
        within = [(table[cost] <= b.most).sum() for b in offered[1:] if b.cost == cost]
        assert within == sorted(set(within)) and within[0] > 0 and within[-1] < len(table)


def test_no_budget_of_time_is_offered_for_rows_of_several_devices(tmp_path):
    other = {"mine": ("other", 2, 0.6, 0.9)}
    benchmark = benchmark_of(make_run(tmp_path / "a"), make_run(tmp_path / "b", other, device="another"))
    assert {b.cost for b in budgets(benchmark)} == {"nfe", "gflops"}
    assert "No budget of time is offered" in Page(benchmark_page(benchmark)).text


@pytest.mark.parametrize(
    ("sessions", "why"),
    [
        ([{}], ""),
        ([{"waited": 0.01}, {"waited": 0.02}], ""),
        ([{"waited": 0.01}, {"waited": 0.4, "devices": ["cuda:0"]}], ""),
        ([{"waited": 0.01}, {"waited": 0.4, "devices": ["cpu"]}], "waited for processors"),
        ([{"waited": 0.01}, {}], "2 sessions, whose loads are not known"),
    ],
)
def test_no_budget_of_time_is_offered_where_milliseconds_hold_the_load_of_other_programs(tmp_path, sessions, why):
    benchmark = benchmark_of(make_run(tmp_path / "run"))
    benchmark.submissions[0].run.manifest["sessions"] = sessions
    benchmark = benchmark_of(benchmark.submissions[0].run)
    untimed = benchmark.summary.untimed
    assert why in untimed and bool(why) == bool(untimed)
    assert ("ms_joint" in {b.cost for b in budgets(benchmark)}) == (not why)
    assert (why in Page(benchmark_page(benchmark)).text) if why else True


def test_two_benchmarks_of_one_data_set_are_told_apart_on_the_overview(tmp_path):
    found = benchmark_of(make_run(tmp_path / "first"))
    other = replace(found, key="another")
    text = Page(overview([found, other])).text
    assert text.count(f"{found.data}: ") == 2 and f"{found.data}: " not in Page(overview([found])).text


def test_every_ranking_of_the_page_is_the_recommendation(tmp_path):
    benchmark = benchmark_of(make_run(tmp_path / "run"))
    page = Page(benchmark_page(benchmark))
    for radius in benchmark.summary.radii:
        for budget in budgets(benchmark):
            assert recommend(benchmark.summary, radius, **budget.limit).verdict in page.text


def test_the_marks_of_the_picture_lie_within_it_and_rise_with_accuracy(tmp_path):
    benchmark = benchmark_of(make_run(tmp_path / "run", images=200))
    for budget in budgets(benchmark):
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


def test_no_tick_of_the_picture_is_a_fraction_of_an_evaluation(tmp_path):
    purifiers = {"none": ("none", 0, 0.1, 0.55), "onestep-edm": ("one-step", 1, 0.3, 0.99)}
    found = ranking(benchmark_of(make_run(tmp_path / "run", purifiers)), 0.25, ANY)
    assert [tick["words"] for tick in picture(found)["ticks"]] == ["0", "1"]


def test_the_overview_states_the_accuracy_of_the_cheapest_that_is_tied(tmp_path):
    purifiers = {"onestep-edm": ("one-step", 1, 0.3, 0.98), "pf-ode": ("pf-ode", 5, 0.3, 0.985)}
    benchmark = benchmark_of(make_run(tmp_path / "run", purifiers, sigmas=(0.5,)))
    cheapest = {c for r in radii_of(benchmark) if (c := ranking(benchmark, r, ANY).cheapest)}
    assert cheapest
    text = Page(overview([benchmark])).text
    assert all(f"{100 * entry.option.accuracy:.1f} %" in text for entry in cheapest)


def test_equal_cells_of_two_runs_stay_with_their_runs_and_contradictions_are_told(tmp_path):
    first, second = make_run(tmp_path / "first"), make_run(tmp_path / "second")
    assert not benchmark_of(first, second).contradictions
    forged = second.blocks.assign(votes=[[n, 0, 0] for n in second.blocks["draws"]])
    benchmark = benchmark_of(first, replace(second, blocks=forged))
    (told,) = benchmark.contradictions
    assert "first and second" in told and "other votes" in told
    assert told in Page(benchmark_page(benchmark)).text
    assert set(benchmark.summary.table["run"]) == {"first", "second"}


@pytest.mark.parametrize(
    "options",
    [
        {"errors": dict.fromkeys(PURIFIERS, "out of memory")},
        {"images": 1},
        {"hits": 20},
        {"purifiers": {"none": PURIFIERS["none"]}},
        {"preset": {"radii": [i / 100 for i in range(200)]}, "images": 12},
        {"preset": {"radii": [9.0]}},
    ],
    ids=["nothing", "one image", "all abstain", "plain only", "200 radii", "out of reach"],
)
def test_there_are_pages_whatever_the_run_and_not_without_end(tmp_path, options):
    benchmark = benchmark_of(make_run(tmp_path / "run", **options))
    radii = radii_of(benchmark)
    assert 1 <= len(radii) <= 16
    page = Page(benchmark_page(benchmark))
    assert sum(attributes.get("name") == "radius" for attributes in page.all("input")) == len(radii)
    assert recommend(benchmark.summary, radii[0]).verdict in page.text
    assert Page(overview([benchmark])).text.count("All purifiers, by radius and budget") == 1


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


def test_attacks_are_told_with_those_that_broke(tmp_path):
    run = make_run(tmp_path / "run")
    key = next(iter(run.cells))
    hit = attacks.AttackedImage(0, 0, 0, 0.2, 0.2, 0.3, 10, 500, True, 0.2)
    cell = attacks.AttackedCell(key, key, "none", 0.25, "exact", 1, 0, (hit,), 1.0)
    found = attacks.Attacks("pgd", 1, 2, 3, 500, 0.001, 0.001, {}, (cell,))
    told = evidence("run", submitted(run, attacks=found), benchmark_of(run).summary)["attack"]
    assert told["words"].startswith("1 of 1 certificate broken (at most 0.001 expected)") and told["state"] == "bad"
