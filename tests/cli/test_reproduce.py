"""`bench reproduce`: doctor, download, both rules, a verdict on each published figure, and one file to send back."""

from __future__ import annotations

import json

import pytest
from command import FAILED, OK, counts_of, refused

from bench.cli import reproduce
from bench.store.run import read_run
from bench.sweep import load_preset

TIME_OVER = 75
FILE = """
source = "Author et al. 2020"
url = "https://example.org"
[[series]]
method = "one step"
dataset = "mnist5k"
preset = "{preset}"
purifier = "onestep-edm"
sigma = 0.5
images = 3
read = "table"
decimals = 3
figures = [{{ radius = 0.0{value} }}, {{ radius = 0.25 }}]
"""


@pytest.fixture
def figures(tmp_path):
    """Write a file of published figures for a preset, with a value at radius 0."""

    def write(value: float | None = None, preset: str = "tiny"):
        words = "" if value is None else f", value = {value:.3f}"
        (tmp_path / "author.toml").write_text(FILE.format(preset=preset, value=words))
        return tmp_path / "author.toml"

    return write


def record_of(folder):
    return json.loads((folder / reproduce.RECORD).read_text())


def words_of(folder, rule):
    return [v["verdict"] for v in record_of(folder)["rules"][rule]["verdicts"]]


def test_both_rules_are_run_and_each_figure_is_judged(cli, tiny_preset, figures, tmp_path):
    out, preset = tmp_path / "out", tiny_preset(protocol="Author 2020", radius_digits=3)
    result = cli("reproduce", preset, "--out", out, "--figures", figures())
    assert result.exit_code == OK, result.output
    assert "needs: ready" in result.stdout and "2 no published figure entered" in result.stdout
    record = record_of(out)
    assert set(record["rules"]) == {"early", "published"}
    rules = {name: {row["rule"] for row in part["rows"]} for name, part in record["rules"].items()}
    assert "sequential fast" in str(rules["early"]) and "digits" not in str(rules["early"])
    assert "cohen" in str(rules["published"]) and "digits" in str(rules["published"])
    assert words_of(out, "published") == ["no published figure entered"] * 2
    assert str(tmp_path) not in json.dumps(record)

    counted = counts_of(out / "early"), counts_of(out / "published")
    accuracy = record["rules"]["published"]["verdicts"][0]["accuracy"]
    for value, word in ((accuracy, "inside its interval"), (0.0 if accuracy == 1 else 1.0, "outside its interval")):
        again = cli("reproduce", preset, "--out", out, "--figures", figures(value))
        assert again.exit_code == OK, again.output
        assert words_of(out, "published")[0] == word and f"1 {word}" in again.stdout
    assert (counts_of(out / "early"), counts_of(out / "published")) == counted  # the same command counts nothing again


def test_a_rule_that_stops_early_itself_is_run_once(tiny_preset):
    chosen = load_preset(str(tiny_preset(certifier="tight", n=None)), {})
    assert reproduce._plans(chosen, "early,published") == {"published": chosen}


def test_the_early_rule_changes_the_rule_and_nothing_else():
    for name, rule in (("cifar10-paper", "fast"), ("cifar10-dds", "tight")):
        chosen = load_preset(name, {})
        plans = reproduce._plans(chosen, "early,published")
        assert plans["published"] == chosen and list(plans) == ["early", "published"]
        changed = {k for k, v in plans["early"].model_dump().items() if v != chosen.model_dump()[k]}
        assert changed == {"certifier", "label_aware", "radius_digits"}
        assert plans["early"].certifier == rule
    with pytest.raises(ValueError, match="Did you mean 'early'"):
        reproduce._plans(chosen, "erly")


def test_a_time_limit_leaves_verdicts_of_what_is_counted_and_the_same_command_goes_on(
    cli, tiny_preset, figures, tmp_path
):
    out, preset = tmp_path / "out", tiny_preset(protocol="Author 2020")
    command = "reproduce", preset, "--out", out, "--figures", figures(0.667), "--rules", "published"
    stopped = cli(*command, "--minutes", 0)
    assert stopped.exit_code == TIME_OVER and "the same command continues" in stopped.stdout
    done = cli(*command)
    assert done.exit_code == OK, done.output
    assert "not measured" not in words_of(out, "published")
    assert read_run(out / "published").manifest["ended"]


def test_an_interrupt_keeps_the_verdicts_of_the_rule_that_has_ended(cli, tiny_preset, figures, tmp_path, monkeypatch):
    certify = reproduce._certify

    def interrupted(folder, *facts):
        if folder.name == "published":
            raise KeyboardInterrupt
        certify(folder, *facts)

    monkeypatch.setattr(reproduce, "_certify", interrupted)
    out = tmp_path / "out"
    result = cli("reproduce", tiny_preset(protocol="Author 2020"), "--out", out, "--figures", figures())
    assert result.exit_code == 130 and "the same command continues" in result.stdout
    assert set(record_of(out)["rules"]) == {"early"} and len(words_of(out, "early")) == 2


def test_a_dry_run_tells_needs_and_time_and_makes_nothing(cli, tiny_preset, tmp_path):
    result = cli("reproduce", tiny_preset(protocol="Author 2020"), "--out", tmp_path / "out", "--dry-run")
    assert result.exit_code == OK, result.output
    assert "needs: ready" in result.stdout and "early rule" in result.stdout and not (tmp_path / "out").exists()


def test_an_early_rule_that_may_draw_more_than_the_published_one_says_so(cli, tiny_preset, tmp_path):
    result = cli("reproduce", tiny_preset(protocol="Author 2020"), "--out", tmp_path / "out", "--dry-run")
    early = next(line for line in result.stdout.splitlines() if line.startswith("early rule"))
    assert "may be more than the published rule's" in early and "a third" not in early
    assert reproduce._early_draws(reproduce._plans(load_preset("cifar10-paper", {}), "early")["early"]).startswith(
        "on pub"
    )


def test_figures_of_other_draws_are_named_below_the_verdicts(cli, tiny_preset, figures, tmp_path):
    file = figures(1.0)
    file.write_text(file.read_text().replace("images = 3", "images = 3\nn = 123_456"))
    command = "reproduce", tiny_preset(protocol="Author 2020"), "--out", tmp_path / "out", "--figures", file
    result = cli(*command, "--rules", "published")
    assert "figures with N = 123,456 are compared with a protocol of N = " in result.stdout, result.output


def test_a_preset_of_no_publication_is_refused(cli, tiny_preset, tmp_path):
    assert "reproduces no publication" in refused(cli("reproduce", tiny_preset(), "--out", tmp_path / "out"))


def test_offline_every_missing_file_is_named_with_its_remedy_and_the_others_are_fetched(
    cli, tiny_preset, tmp_path, monkeypatch
):
    """The first download fails, the second arrives: it is kept, and the next command fetches the rest."""
    from purifiers.nets.hub import download

    monkeypatch.setenv("PURIFYBENCH_NETWORKS", str(tmp_path / "networks"))
    networks = {"ddpm": "cifar10_uncond_50M_500K", "edm": "edm_cifar10_ema"}
    preset = tiny_preset(protocol="Author 2020", purifiers=["onestep-ddpm", "onestep-edm"], networks=networks)
    arrived = []

    def stream(url, part, tag):
        if "ddpm" in url or "uncond" in url:
            raise OSError("no route to host")
        part.write_bytes(b"network")
        arrived.append(url)

    monkeypatch.setattr(download, "_stream", stream)
    command = "reproduce", preset, "--out", tmp_path / "out"
    for _ in range(2):
        result = cli(*command)
        assert result.exit_code == 2 and "downloads network ddpm" in result.stdout
        said = result.stderr
        assert "1 of" in said and "no route to host" in said and "by hand at" in said
        assert "Whatever has arrived is kept" in said and "network ddpm" in said and "network edm" not in said
    assert len(arrived) == 1
    assert not (tmp_path / "out").exists()


def test_what_must_be_fetched_by_hand_is_told_before_any_download(cli, tmp_path, monkeypatch):
    from purifiers.nets.hub import download

    monkeypatch.setenv("PURIFYBENCH_NETWORKS", str(tmp_path / "networks"))
    monkeypatch.setenv("PURIFYBENCH_CLASSIFIERS", str(tmp_path / "classifiers"))
    monkeypatch.setattr(download, "_stream", lambda *facts: pytest.fail("a download began"))
    said = cli("reproduce", "cifar10-diffsmooth", "--out", tmp_path / "out")
    assert said.exit_code == 2 and "resnet110-noise_0.25" in said.stderr and "checkpoint" in said.stderr


def test_a_cell_that_fails_ends_with_status_1_and_is_not_judged(cli, tiny_preset, figures, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from dataclasses import dataclass\nfrom purifiers.base import Purifier\n\n\n@dataclass(frozen=True)\n"
        'class Broken(Purifier):\n    """Raises."""\n\n    name = "broken"\n    family = "other"\n\n'
        "    def restore(self, u, t, networks, rng):\n        raise RuntimeError('gone')\n"
    )
    preset = tiny_preset(protocol="Author 2020", purifiers=[str(broken), "onestep-edm"])
    path = figures(0.5, "tiny")
    path.write_text(path.read_text().replace('"onestep-edm"', '"broken"').replace("0.500", "0.333"))
    out = tmp_path / "out"
    result = cli("reproduce", preset, "--out", out, "--figures", path, "--rules", "published")
    assert result.exit_code == FAILED, result.output
    assert words_of(out, "published")[0] == "not measured"
