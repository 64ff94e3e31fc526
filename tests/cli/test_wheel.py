"""The distributions that `python -m build` makes work outside the checkout, with everything that belongs to them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

pytest.importorskip("build", reason="needs `build`, which the extra `tests` brings")
PACKAGES = {"bench", "purifiers", "classifiers"}
CALL = "import sys; from bench.__main__ import app; sys.argv[0] = 'purifybench'; app()"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    """A folder with the sdist, and the wheel that is made from it."""
    source = tmp_path_factory.mktemp("source")
    out = source / "dist"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no clone, so its files are not known")
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith(("results/", "tests/")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    command = [sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    made = subprocess.run(command, capture_output=True, text=True, cwd=source)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory) -> Path:
    """A folder into which the wheel is installed, without its dependencies: these are the environment's."""
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        wheel.extractall(target)
    return target


def test_the_wheel_holds_the_packages_and_nothing_else(installed):
    entries = {path.name for path in installed.iterdir()}
    assert {name for name in entries if not name.endswith(".dist-info")} == {*PACKAGES, "purifybench.py"}
    points = next(installed.glob("*.dist-info")) / "entry_points.txt"
    assert "purifybench = bench.__main__:app" in points.read_text()


def test_the_wheel_holds_every_file_of_the_packages(installed):
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    missing = [name for name in listed.stdout.split() if (ROOT / name).is_file() and not (installed / name).is_file()]
    assert not missing


def test_the_sdist_holds_what_a_build_needs(distributions):
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "purifybench.py", "bench/presets/embedded.toml"} <= names


def test_a_run_and_its_report_are_made_outside_the_checkout(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def python(*arguments: str) -> str:
        command = [sys.executable, "-P", *arguments]
        said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert said.returncode == 0, said.stdout[-2000:] + said.stderr[-2000:]
        return said.stdout

    small = ("--images", "4", "--purifiers", "none,onestep-edm", "--sigmas", "0.5", "--workers", "1")
    python("-c", CALL, "run", "embedded", *small, "--precision", "fp32", "--no-plots")
    folder = tmp_path / "results" / "runs" / "embedded"
    assert (folder / "counts.parquet").is_file()
    python("-c", CALL, "report", str(folder))
    assert (folder / "report.html").stat().st_size > 100_000
    lines = (
        "import purifybench as pb; print(pb.__file__); print(pb.load('results/runs/embedded').table['images'].sum())"
    )
    where, images = python("-c", lines).split()
    assert Path(where).parent == installed and images == "8"
