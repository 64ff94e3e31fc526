"""The costs in tables for a paper: of one purified image, and of a whole vote. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from bench.summary import Summary
from bench.summary.headline import COSTS, CostAxis

COST_READING = "GFLOPs and ms: per vote, of purifier and classifier."


def table_costs(summary: Summary) -> list[CostAxis]:
    """Evaluations of the purifier; FLOPs and milliseconds of purifier and classifier, if FLOPs were counted."""
    known = summary.table["gflops"].notna().any()
    return [COSTS[column] for column in (("nfe", "gflops", "ms_joint") if known else ("nfe",))]


def cost_words(rows: pd.DataFrame, costs: Sequence[CostAxis]) -> list[str]:
    """The costs of a purifier at some sigmas: of each, one number, or the range over the sigmas."""
    found = []
    for axis in costs:
        words = list(dict.fromkeys(f"{v:{axis.form}}" for v in sorted(rows[axis.column]) if not math.isnan(v)))
        found.append(words[0] if len(words) == 1 else f"{words[0]}–{words[-1]}" if words else "")
    return found
