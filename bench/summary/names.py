"""Display names: what tells purifiers apart, in a few words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 34
IDENTITY = ("solver", "steps")  # parameters that people name a sampler by; shown by value, without their key


def parse_label(label: str) -> tuple[str, dict[str, str]]:
    """`sde(steps=6, churn=2.0)` -> `("sde", {"steps": "6", "churn": "2"})`; a label without parameters is a name."""
    match = re.fullmatch(r"([^(\s]+)\((\w+=.*)\)", label, re.DOTALL)
    if not match:
        return label, {}
    pairs = (part.split("=", 1) for part in re.split(r", (?=\w+=)", match[2]))
    return match[1], {key: plain(value) for key, value in pairs}


def plain(value: str) -> str:
    """`2.0` -> `2`; what is not a number stays as it is."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return value


def short_names(table: pd.DataFrame) -> dict[str, str]:
    """A display name for each label of a table (columns label and, where known, purifier and family).

    `steps` (more than one) and `solver` stay, other parameters only where they tell cells of one purifier apart, and
    a family that a name begins with goes, because the colour says it: `pf-ode-torchdiffeq(solver=midpoint, steps=2,
    rtol=0.01)` becomes `torchdiffeq midpoint 2`. Two labels never share a name.
    """
    if table.empty:
        return {}
    families = dict(zip(table["label"], table["family"], strict=True)) if "family" in table else {}
    parsed = {
        label: (label, {}) if families.get(label) == "imported" else parse_label(label)
        for label in dict.fromkeys(table["label"])
    }
    names: dict[str, str] = {}
    for label, (purifier, parameters) in parsed.items():
        siblings = [given for name, given in parsed.values() if name == purifier]
        name, prefix = purifier, f"{families.get(label, '')}-"
        if name.startswith(prefix) and len(name) > 2 * len(prefix):
            name = name.removeprefix(prefix)
        words = [parameters[key] for key in IDENTITY if key in parameters and (key, parameters[key]) != ("steps", "1")]
        words += [
            f"{key}={value}"
            for key, value in parameters.items()
            if key not in IDENTITY and any(given.get(key) != value for given in siblings)
        ]
        names[label] = shorten(" ".join([name, *words]))
    taken = list(names.values())
    return {label: label if taken.count(name) > 1 else name for label, name in names.items()}


def shorten(words: str, most: int = LONGEST) -> str:
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"
