"""A preset's plan, on a CPU."""

from __future__ import annotations

from typing import Any

from bench.sweep import preset
from bench.sweep.plan import Plan, make_plan


def planned_of(path: object, **fields: Any) -> Plan:
    """The plan of a preset with some fields replaced."""
    return make_plan(preset.load_preset(str(path), fields), "cpu")
