"""`bench run`: overrides replace, runs continue, rules are fixed, draws are never thrown away."""

from __future__ import annotations

import json

from command import OK, REFUSED, counts_of, refused, rows_of, run, summary_of

from bench.store.run import read_run


def test_a_run_tells_its_figures_and_a_second_one_changes_no_count(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    first = run(cli, tiny_preset(), "--out", out)
    assert first.exit_code == OK, first.output
    assert "onestep-edm" in first.stdout
    before = rows_of(out)
    assert len(before) == 2 * 3 * 3  # cells, images, blocks of 4 and twice 10 draws
    exported = (out / "counts.parquet").read_bytes()

    second = run(cli, tiny_preset(), "--out", out)
    assert second.exit_code == OK
    assert second.stdout.count("already counted") == 2
    assert rows_of(out) == before
    assert (out / "counts.parquet").read_bytes() == exported


def test_more_draws_keep_the_earlier_ones(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(), "--out", out)
    before = rows_of(out)
    assert run(cli, tiny_preset(), "--out", out, "--n", 35, "--n0", 8).exit_code == OK
    after = rows_of(out)
    assert set(before) < set(after)
    assert {row[4] for row in set(after) - set(before)} == {10, 5, 4}
    run(cli, tiny_preset(), "--out", tmp_path / "at once", "--n", 35, "--n0", 8)

    def totals(folder):
        added = {}
        for (cell, image, stage, _), votes in counts_of(folder).items():
            added[cell, image, stage] = tuple(
                map(sum, zip(added.get((cell, image, stage), [0] * 10), votes, strict=True))
            )
        return added

    assert totals(out) == totals(tmp_path / "at once")


def test_fewer_draws_are_read_from_what_is_there(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(), "--out", out)
    before = rows_of(out)
    assert run(cli, tiny_preset(), "--out", out, "--n", 10).exit_code == OK
    assert rows_of(out) == before
    assert {row["rule"] for row in summary_of(cli, out)["rows"]} == {"cohen (N0 = 4, N = 10, alpha = 0.001)"}


def test_a_number_of_draws_that_cuts_a_block_is_refused_and_harms_nothing(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(), "--out", out)
    before = summary_of(cli, out)
    result = run(cli, tiny_preset(), "--out", out, "--n", 15)
    assert result.exit_code == REFUSED
    assert "ask for 20, or give another --out" in result.stderr
    assert summary_of(cli, out) == before


def test_a_rule_is_fixed_before_the_first_draw(cli, tiny_preset, tmp_path):
    """Another rule, other radii or more draws at most would be a second chance: the folder keeps the first."""
    path, folder = tiny_preset(purifiers=["none"], radii=[0.0, 0.1]), tmp_path / "run"
    begun = ("--certifier", "tight", "--n-max", "200", "--out", folder)
    assert run(cli, path, *begun).exit_code == OK
    before = rows_of(folder)
    for changed in (
        ("--certifier", "tight", "--n-max", "400"),
        ("--certifier", "fast", "--n-max", "200"),
        ("--certifier", "tight", "--n-max", "200", "--radii", "0,0.2"),
        ("--certifier", "tight", "--n-max", "200", "--alpha", "0.01"),
        ("--certifier", "tight", "--n-max", "200", "--label-aware"),
        ("--certifier", "cohen", "--n", "400"),
    ):
        said = refused(run(cli, path, *changed, "--out", folder))
        for part in ("another stopping rule", "fixed before the first draw", "--out", "--seed", "anytime"):
            assert part in said
    assert rows_of(folder) == before
    assert run(cli, path, *begun).exit_code == OK
    assert rows_of(folder) == before
    assert run(cli, path, *begun[:-2], "--seed", "1", "--out", folder).exit_code == OK


def test_counts_of_a_fixed_number_of_draws_are_read_by_other_bounds(cli, tiny_preset, tmp_path):
    path, folder = tiny_preset(purifiers=["none"]), tmp_path / "run"
    assert run(cli, path, "--out", folder).exit_code == OK
    before = rows_of(folder)
    for bound in ("two-sided", "multi-class", "randomised", "anytime", "e-process"):
        result = run(cli, path, "--certifier", bound, "--out", folder)
        assert result.exit_code == OK and f"by {bound} (N0 = 4, N = 20" in result.stdout
        assert rows_of(folder) == before
    assert run(cli, path, "--certifier", "anytime", "--n", "40", "--out", folder).exit_code == OK
    assert set(before) < set(rows_of(folder))


def test_a_label_aware_run_says_so(cli, tiny_preset, tmp_path):
    path, folder = tiny_preset(purifiers=["none"], images=10, radii=[0.0, 0.1]), tmp_path / "run"
    result = run(cli, path, "--certifier", "fast", "--n-max", "300", "--label-aware", "--out", folder)
    assert result.exit_code == OK and "label-aware: images whose selected class is wrong" in result.stdout
    blind = tmp_path / "blind"
    assert run(cli, path, "--certifier", "fast", "--n-max", "300", "--out", blind).exit_code == OK
    aware, other = (json.loads(cli("summary", f, "--json").stdout)["rows"][0] for f in (folder, blind))
    assert "label-aware" in aware["rule"] and aware["counted_draws"] < other["counted_draws"]
    assert all(aware[f"acc@{r}"] == other[f"acc@{r}"] for r in (0, 0.1))


def test_the_boundaries_of_a_rule_are_printed_for_anyone_to_check(cli):
    asked = ("boundaries", "--sigma", "0.5", "--radii", "0,0.25,3", "--alpha", "0.01", "--n-max", "500")
    table = cli(*asked)
    assert table.exit_code == OK and "never" in table.stdout
    for certifier in ("tight", "acr"):
        record = json.loads(cli(*asked, "--certifier", certifier, "--json").stdout)
        assert record["looks"][-1] == record["constants"]["n_max"] == 500
        assert max(record["crossing"]) <= 0.01 and record["alive"][-1] is False
        assert len(record["upper"]) == len(record["radii"]) == len(record["give_up"])
    assert len(record["radii"]) > 200  # the fine family of the rule for average radii
    assert "Did you mean 'tight'" in refused(cli(*asked, "--certifier", "tigth"))


def test_other_alphas_and_radii_need_no_new_draws(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(), "--out", out)
    before = rows_of(out)
    assert run(cli, tiny_preset(), "--out", out, "--alpha", 0.4, "--radii", "0,0.1,2").exit_code == OK
    assert rows_of(out) == before
    found = summary_of(cli, out)
    assert found["radii"] == [0, 0.1, 2]
    assert all("alpha = 0.4" in row["rule"] for row in found["rows"])


def test_another_seed_gives_other_counts_and_the_same_seed_the_same(cli, tiny_preset, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(cli, tiny_preset(), "--seed", seed, "--out", tmp_path / name).exit_code == OK
    a, b, c = (counts_of(tmp_path / name) for name in "abc")
    assert a == b
    assert [votes for _, votes in sorted(a.items(), key=lambda i: i[0][1:])] != [
        votes for _, votes in sorted(c.items(), key=lambda i: i[0][1:])
    ]


def test_overrides_replace_the_fields_of_the_preset(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    given = ["--purifiers", "none,ddpm:steps=2", "--sigmas", "0.25,1", "--images", 2, "--n0", 3, "--n", 10]
    given += ["--alpha", 0.01, "--seed", 5, "--radii", "0,0.3", "--precision", "bf16", "--batch", 7]
    assert run(cli, tiny_preset(), *given, "--out", out).exit_code == OK
    recorded = read_run(out).manifest["preset"]
    assert {
        k: recorded[k] for k in ("sigmas", "images", "n0", "n", "alpha", "seed", "radii", "precision", "batch")
    } == {
        "sigmas": [0.25, 1],
        "images": 2,
        "n0": 3,
        "n": 10,
        "alpha": 0.01,
        "seed": 5,
        "radii": [0, 0.3],
        "precision": "bf16",
        "batch": 7,
    }
    cells = list(read_run(out).cells.values())
    assert [(c.label, c.sigma) for c in cells] == [
        (label, sigma) for sigma in (0.25, 1.0) for label in ("none", "ddpm(steps=2)")
    ]
    assert {(c.precision, c.seed) for c in cells} == {("bf16", 5)}
    blocks = read_run(out).blocks
    assert set(blocks["image"]) == {0, 1}  # the classes take turns, so the first images are balanced
    assert sorted(set(blocks["draws"])) == [3, 10]


def test_an_interrupted_run_says_so_and_the_same_command_continues_it(cli, tiny_preset, tmp_path, monkeypatch):
    from bench.engine.engine import Engine

    out, tasks, count = tmp_path / "out", [], Engine.run

    def interrupted(self, task):
        tasks.append(task)
        if len(tasks) == 3:
            raise KeyboardInterrupt
        return count(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "run", interrupted)
        result = run(cli, tiny_preset(batch=24), "--out", out)
    assert result.exit_code == 130
    assert str(out) in result.stdout and "the same command continues" in result.stdout
    before = rows_of(out)
    assert before
    assert run(cli, tiny_preset(batch=24), "--out", out).exit_code == OK
    run(cli, tiny_preset(batch=24), "--out", tmp_path / "undisturbed")
    assert set(before) < set(rows_of(out))
    assert counts_of(out) == counts_of(tmp_path / "undisturbed")


def test_a_dry_run_tells_the_size_of_a_run_and_counts_nothing(cli, tiny_preset, tmp_path):
    """Two purifiers at two noise levels, 3 images of 4 + 20 draws."""
    result = run(cli, tiny_preset(), "--sigmas", "0.25,0.5", "--dry-run", "--out", tmp_path / "out")
    assert result.exit_code == OK, result.output
    assert "4 cells: 2 purifiers at 2 noise levels" in result.stdout and "draws: 288" in result.stdout
    assert not (tmp_path / "out").exists()
    refused = run(cli, tiny_preset(), "--dry-run", "--images", 10_000, "--out", tmp_path / "out")
    assert refused.exit_code == REFUSED and "images must lie between 1 and" in refused.stderr
