"""`bench race` on tiny networks: a race's folder is a run, with the same draws, and can be continued and completed."""

from __future__ import annotations

import json

import pytest
from command import counts_of, refused, run

import purifybench as pb
from bench.certify import FixedN, Sequential, Tally
from bench.errors import InputError
from bench.plots import draw_all
from bench.racing.rule import RacedRule, ceilings
from bench.store.races import race_of
from bench.summary import summarise

FOUR = ["none", "onestep-edm", "onestep-ddpm", "ddim:steps=2"]


def raced(folder):
    return race_of(pb.load(folder).stored.manifest)


def race(cli, path, folder, *options, radius=0.0, images=24):
    words = "race", path, "--radius", radius, "--images", images, "--out", folder, "--audit", 0, "--no-plots"
    result = cli(*words, *options)
    assert result.exit_code == 0, result.output
    return result.stdout


def draws_by_block(folder):
    """Votes of each image and stage, summed: blocks of a race are cut in other places."""
    found = {}
    for (cell, image, stage, _), votes in counts_of(folder).items():
        key = cell, image, stage
        found[key] = tuple(a + b for a, b in zip(found.get(key, [0] * len(votes)), votes, strict=True))
    return found


@pytest.mark.parametrize("certifier", ["cohen", "tight"])
def test_a_race_makes_a_part_of_the_draws_of_a_run_which_completes_it(cli, tiny_preset, tmp_path, certifier):
    rule = {"n": 60} if certifier == "cohen" else {"n": None, "n_max": 60}
    path = tiny_preset(purifiers=FOUR, certifier=certifier, **rule)
    folder, whole = tmp_path / "race", tmp_path / "whole"
    out = race(cli, path, folder)
    found = raced(folder)
    assert found.ended in ("one", "alike", "all") and found.chosen in found.left
    assert "round  1:" in out and "A race for certified accuracy at radius 0" in out
    assert 0 < found.rounds[-1].draws == sum(map(sum, counts_of(folder).values()))
    partial = pb.load(folder)
    assert not partial.table["complete"].any() and "ended" not in partial.stored.manifest
    assert run(cli, path, "--images", 24, "--out", folder, "--audit", 0).exit_code == 0
    assert run(cli, path, "--images", 24, "--out", whole, "--audit", 0).exit_code == 0
    assert draws_by_block(folder) == draws_by_block(whole)
    complete = pb.load(folder)
    assert complete.table["complete"].all() and not complete.table["raced"].any()
    figures = ["cell", "acc@0", "acr", "abstained"]
    assert complete.table[figures].equals(pb.load(whole).table[figures])
    assert raced(folder) == found, "the completed run keeps its race"
    best = complete.table.set_index("cell")["acc@0"]
    assert best.max() - best[found.chosen] < 0.02


def test_rows_of_a_race_say_so_and_have_no_figures_but_those_of_the_race(cli, tiny_preset, tmp_path):
    folder = tmp_path / "race"
    race(cli, tiny_preset(purifiers=FOUR, n=60), folder, "--draws", 300)
    found = raced(folder)
    assert found.ended == "budget" and 300 <= found.rounds[-1].draws <= 800
    table = pb.load(folder).table
    started = table[table["images"] > 0]
    assert started["raced"].all() and started["acr"].isna().all() and started["acc@0.25"].isna().all()
    assert (started["acc_low@0"] <= started["acc@0"]).all() and (started["acc@0"] <= started["acc_high@0"]).all()
    printed = cli("summary", folder).output
    assert "have the draws of a race only" in printed
    assert cli("recommend", folder, "--radius", 0).output.count("No row has all of its images yet")


def test_an_open_image_widens_the_interval_and_certifies_nothing(cli, tiny_preset, tmp_path):
    folder = tmp_path / "race"
    race(cli, tiny_preset(purifiers=["none", "onestep-edm"], n=60), folder, "--draws", 150)
    stored = pb.load(folder).stored
    row = summarise([stored]).table.set_index("cell").loc[raced(folder).candidates[0]]
    rule = FixedN(0.5, 4, 60, 0.001, 10)
    verdicts = []
    for image, part in stored.blocks[stored.blocks["cell"] == row.name].groupby("image"):
        tally = Tally({}, {}, image, stored.manifest["labels"][str(image)])
        for stage, first, votes in zip(part["stage"], part["first"], part["votes"], strict=True):
            getattr(tally, stage)[first] = votes
        verdicts.append(rule.reaches(tally, 0.0))
    assert row["images"] == len(verdicts)
    assert row["acc@0"] == pytest.approx(verdicts.count(True) / len(verdicts))


def test_the_same_command_continues_a_race_and_counts_nothing_twice(cli, tiny_preset, tmp_path):
    path = tiny_preset(purifiers=FOUR, n=60)
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    race(cli, path, parts, "--draws", 300)
    before = counts_of(parts)
    race(cli, path, parts)
    race(cli, path, whole)
    assert before.items() <= counts_of(parts).items()
    one, other = raced(parts), raced(whole)
    assert (one.ended, one.chosen, one.dropped) == (other.ended, other.chosen, other.dropped)
    again = counts_of(parts)
    race(cli, path, parts)
    assert counts_of(parts) == again and raced(parts).rounds[-1].draws == one.rounds[-1].draws


def test_an_interrupted_race_is_continued(cli, tiny_preset, tmp_path):
    flag, plugin = tmp_path / "flag", tmp_path / "interrupting.py"
    plugin.write_text(
        "import os\nimport signal\nfrom pathlib import Path\n\nfrom purifiers.base import Purifier\n\n\n"
        'class Interrupting(Purifier):\n    """Leaves images as they are, and may send Ctrl-C."""\n\n'
        '    name = "interrupting"\n\n    def purify(self, x, sigma, networks, rng):\n'
        f"        if Path({str(flag)!r}).exists():\n            os.kill(os.getpid(), signal.SIGINT)\n"
        "        return x.clamp(0, 1)\n\n    def nfe(self):\n        return 0\n"
    )
    path, folder = tiny_preset(purifiers=["none", "onestep-edm", str(plugin)], n=60), tmp_path / "race"
    race(cli, path, folder, "--draws", 1)
    flag.touch()
    words = "race", path, "--radius", 0, "--images", 24, "--out", folder, "--audit", 0, "--no-plots"
    stopped = cli(*words)
    assert stopped.exit_code == 130 and "the same command continues" in stopped.output
    before = counts_of(folder)
    assert before and raced(folder).ended == "budget", "the record is that of the last round that ended"
    flag.unlink()
    race(cli, path, folder)
    assert raced(folder).ended in ("one", "alike", "all") and before.items() <= counts_of(folder).items()


def test_candidates_beyond_the_limits_do_not_race(cli, tiny_preset, tmp_path):
    path = tiny_preset(purifiers=["none", "onestep-edm", "ddim:steps=3"], sigmas=[0.05, 0.5])
    race(cli, path, tmp_path / "race", "--max-nfe", 1, radius=0.25)
    found = raced(tmp_path / "race")
    assert len(found.candidates) == 2
    assert sorted(found.left_out.values()) == [
        *["3 network evaluations, and 1 are allowed"] * 2,
        *["their draws certify at most radius 0.0274"] * 2,
    ]
    race(cli, path, tmp_path / "cheap", "--max-gflops", 0.0000001, radius=0.25)
    dropped = raced(tmp_path / "cheap")
    assert dropped.ended == "failed" and all("GFLOPs" in d.reason for d in dropped.dropped)


def test_a_candidate_that_raises_leaves_the_race(cli, tiny_preset, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from purifiers.base import Purifier\n\n\nclass Broken(Purifier):\n"
        '    """Raises."""\n\n    name = "broken"\n\n    def purify(self, x, sigma, networks, rng):\n'
        '        raise RuntimeError("no")\n\n    def nfe(self):\n        return 0\n'
    )
    folder = tmp_path / "race"
    path = tiny_preset(purifiers=["none", "onestep-edm", str(broken)])
    result = cli("race", path, "--radius", 0, "--images", 6, "--out", folder, "--no-plots")
    assert result.exit_code == 1, result.output
    found = raced(folder)
    assert len(found.candidates) == 3 and found.chosen is not None
    assert [d.rival for d in found.dropped if "no" in d.reason] == [None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--radius", 9), "nothing reaches radius 9"),
        (("--radius", -1), "radius must be"),
        (("--radius", 0, "--margin", 120), "margin must be"),
        (("--radius", 0, "--minutes", 1, "--draws", 5), "give one budget"),
        (("--radius", 0, "--draws", 0), "must be above 0"),
        (("--radius", 0, "--max-nfe", -1), "limit of network evaluations"),
    ],
)
def test_impossible_races_are_refused(cli, tiny_preset, tmp_path, options, message):
    assert message in refused(cli("race", tiny_preset(), "--out", tmp_path / "race", *options))


def test_the_python_call_is_the_command(tiny_preset, tmp_path):
    found = pb.race(tiny_preset(purifiers=FOUR), radius=0, out=tmp_path / "race", images=24, draws=300, audit=0)
    assert str(found).startswith("The budget (300 draws) is spent.")
    assert "More budget: about" in str(found)
    assert found.answer.chosen in found.answer.entries and found.run.folder == tmp_path / "race"
    with pytest.raises(InputError, match="nothing reaches"):
        pb.race(tiny_preset(), radius=5, out=tmp_path / "other")


def test_the_picture_is_drawn_from_the_folder_alone(cli, tiny_preset, tmp_path):
    folder, out = tmp_path / "race", tmp_path / "pictures"
    race(cli, tiny_preset(purifiers=FOUR), folder)
    assert cli("plot", folder, "--out", out).exit_code == 0
    assert {path.name for path in out.glob("*.png")} >= {"race.png"} and not (out / "pareto.png").exists()
    text = (out / "race.svg").read_text()
    first = text
    run = pb.load(folder)
    draw_all(run.summary, None, out, ["svg"], races={run.stored.folder.name: raced(folder)})
    assert (out / "race.svg").read_text() == first


def test_a_replay_races_on_the_counts_of_a_finished_run(cli, tiny_preset, tmp_path):
    path, folder = tiny_preset(purifiers=FOUR, n=60), tmp_path / "run"
    assert run(cli, path, "--images", 24, "--out", folder, "--audit", 0).exit_code == 0
    printed = cli("race", "--replay", folder, "--radius", 0, "--repeats", 3).output
    assert "3 races on the counts of run at radius 0: 4 candidates, 24 images" in printed
    (found,) = pb.replay_race(pb.load(folder), 0, repeats=5, margin=5).replays
    assert found.repeats == 5 and found.sweep == 4 * 24 * 64 and found.draws[0] <= found.full
    assert found.lost == 0 or found.best > 0
    with pytest.raises(InputError, match="repeats"):
        pb.replay_race(pb.load(folder), 0, repeats=0)


def test_a_raced_rule_stops_at_its_ceiling():
    rule = Sequential(0.5, (0.25,), 4, 0.001, n_max=10_000)
    levels = ceilings(rule, 0.25)
    assert list(levels) == sorted(levels) and levels[-1] == 10_000 and len(levels) > 2
    raced_rule, tally = RacedRule(rule, 0.25, levels[0]), Tally({0: (0, 4)}, {}, 0, 1)
    while requests := raced_rule.missing(tally):
        for request in requests:
            tally.estimate[request.first] = (request.draws // 3, request.draws - request.draws // 3)
    assert 0 < sum(map(sum, tally.estimate.values())) <= levels[0]
    assert rule.reaches(tally, 0.25) is not True
    assert ceilings(FixedN(0.5, 4, 60, 0.01), 0.25) == (60,)


def test_the_manifest_of_a_race_is_plain_json(cli, tiny_preset, tmp_path):
    race(cli, tiny_preset(), tmp_path / "race", images=6)
    manifest = json.loads((tmp_path / "race" / "manifest.json").read_text())
    assert race_of(manifest) == raced(tmp_path / "race")


@pytest.mark.slow
def test_a_race_on_ray_is_the_race_of_one_process(cli, tiny_preset, address, tmp_path):
    """Under fixed N a round's draws are fixed, whoever makes them: so are its verdicts and all that follows."""
    path = tiny_preset(purifiers=FOUR, n=60)
    race(cli, path, tmp_path / "one")
    race(cli, path, tmp_path / "ray", "--executor", "ray", "--address", address, "--workers", 2)
    assert draws_by_block(tmp_path / "ray") == draws_by_block(tmp_path / "one")
    one, ray = (raced(tmp_path / name) for name in ("one", "ray"))
    assert [r.draws for r in ray.rounds] == [r.draws for r in one.rounds]
    assert (ray.chosen, ray.ended, ray.dropped) == (one.chosen, one.ended, one.dropped) and ray.ended != "budget"
    assert run(cli, path, "--images", 24, "--out", tmp_path / "ray", "--audit", 0).exit_code == 0
    assert pb.load(tmp_path / "ray").table["complete"].all()
