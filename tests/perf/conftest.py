"""What the speed tests share: `--keep`, perf.json in the project's root, a picture of where time goes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "perf.json"
KEPT = ROOT / "results" / "perf"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep", action="store_true", help="keep figures and picture in results/perf, by device")


@pytest.fixture(scope="session", autouse=True)
def own_speed_cache() -> None:
    """Here, unlike in the tests, what is measured is kept for the user, and what was kept is taken."""


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    """Few rows, little search: ends within 3 minutes."""
    return bool(request.config.getoption("--quick"))


@pytest.fixture(scope="session")
def perf_record(request: pytest.FixtureRequest, quick: bool) -> Iterator[dict[str, Any]]:
    """What perf.json will hold; tests add to it, and it is written when the last one ends."""
    from bench.gpu.race import machine

    record: dict[str, Any] = {**machine(), "quick": quick, "pairs": {}}
    yield record
    places = [FILE]
    if request.config.getoption("--keep"):
        KEPT.mkdir(parents=True, exist_ok=True)
        stem = KEPT / re.sub(r"[^a-z0-9]+", "-", f"{record['device']} x{record['workers']}".lower()).strip("-")
        places.append(stem.with_suffix(".json"))
        draw_profile(record, stem.with_suffix(".png"))
    for place in places:
        place.write_text(json.dumps(record, indent=1) + "\n")
        print(f"\nwritten: {place.relative_to(ROOT)}")


def draw_profile(record: dict[str, Any], path: Path) -> None:
    """Bars of where the engine's time goes, one for each pair and purifier."""
    from matplotlib.figure import Figure

    pairs = record["pairs"].items()
    rows = [(f"{pair}: {label}", row["profile"]) for pair, found in pairs for label, row in found.items()]
    figure = Figure(figsize=(8, 1.2 + 0.45 * len(rows)), layout="constrained")
    axes, left = figure.subplots(), [0.0] * len(rows)
    for part in rows[0][1]:
        shares = [100 * profile[part] for _, profile in rows]
        axes.barh([name for name, _ in rows], shares, left=left, label=part)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="share of the workers' time (%)", xlim=(0, 100))
    axes.set_title(f"{record['device']}, {record['workers']} workers, torch {record['torch']}", fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=120)
