"""The folders that are damaged: a run with everything that may lie in one, its exports, weights, and a preset."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from conftest import ROOT, toml
from typer.testing import CliRunner

IMAGES, DRAWS = 6, 40
LOG = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n" + "".join(f"{i}\t3\t3\t0.{i + 1}\t1\t0:00:01\n" for i in range(6))
PLUGIN = '''"""A purifier of somebody's own."""

from dataclasses import dataclass
from pathlib import Path

from purifiers.base import Purifier

Path({trace!r}).touch()


@dataclass(frozen=True)
class Own(Purifier):
    name = {name!r}
    family = "other"
    source = "a test"

    def purify(self, x, sigma, networks, rng):
        return x.clamp(0, 1)
'''


def call(*arguments: object) -> Any:
    """`python -m bench ARGUMENTS` in this process."""
    from bench.__main__ import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fields(zoo: Path, **others: Any) -> dict[str, Any]:
    """A preset that counts within a second."""
    small = {"dataset": "mnist5k", "images": 2, "purifiers": ["none", "onestep-edm"], "sigmas": [0.5], "n0": 4, "n": 10}
    small |= {"certifier": "cohen", "block": 10, "rows": 8, "radii": [0.0, 0.25], "device": "cpu", "workers": 1}
    small |= {"batch": "auto", "audit": 0.1, "classifier": {"name": "cnn", "path": str(zoo / "classifier.safetensors")}}
    return {**small, "networks": {"edm": str(zoo / "edm.safetensors")}, **others}


def write_preset(path: Path, values: dict[str, Any]) -> Path:
    path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in values.items()))
    return path


def make(root: Path) -> None:
    """Write the undamaged folders into `root`: run, exported, zoo, speed and preset."""
    zoo, speed, preset = root / "zoo", root / "speed", root / "preset"
    for folder in (zoo, speed, preset):
        folder.mkdir()
    weights = {"edm": "purifiers/weights/mnist5k/edm", "classifier": "classifiers/weights/mnist5k/classifier"}
    for name, place in weights.items():
        for suffix in (".safetensors", ".json"):
            shutil.copyfile(ROOT / f"{place}{suffix}", zoo / f"{name}{suffix}")
    os.environ["PURIFYBENCH_SPEED"] = str(speed)
    write_preset(preset / "base.toml", fields(zoo, title="Base"))
    write_preset(preset / "mine.toml", {"extends": "base.toml", "sigmas": [0.25, 0.5], "purifiers": ["none", "own.py"]})
    (preset / "own.py").write_text(PLUGIN.format(trace=os.devnull, name="own"))
    run = root / "run"
    values = fields(zoo, images=IMAGES, n0=10, n=DRAWS, sigmas=[0.25, 0.5], title="Tiny")
    _must("run", write_preset(root / "tiny.toml", values), "--out", run, "--no-plots")
    _must("run", write_preset(root / "small.toml", fields(zoo)), "--out", root / "small", "--no-plots")
    (root / "log.tsv").write_text(LOG)
    named = ("--name", "theirs", "--dataset", "d", "--nfe", 3, "--n", 1000)  # of other images than the run
    _must("import", root / "log.tsv", "--sigma", 0.5, *named, "--out", run)
    _add_metrics(run)
    shutil.copytree(run, root / "exported")
    for path in (root / "exported").glob("run.*"):
        path.unlink()


def _must(*arguments: object) -> None:
    result = call(*arguments)
    if result.exit_code:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed: {result.output} {result.exception!r}")


def _add_metrics(folder: Path) -> None:
    from report_runs import make_metrics

    from bench.store import read_run
    from bench.store.quality import write_metrics

    write_metrics(folder, make_metrics(read_run(folder)))
