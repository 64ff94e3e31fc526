"""The rows of a summary: facts, certificates, figures and costs of a run's cells, and of imported logs. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from bench.certify import SEQUENTIAL, Certifier, Tally
from bench.records import COUNTED, IMPORTED, Cell, StaticCost
from bench.store import Run
from bench.store.races import race_of
from bench.summary.palette import OWN_CLASSIFIER, PLAIN
from bench.summary.statistics import mean_interval, wilson_interval

_FOREIGN_RULE = "another stopping rule ended these counts; read them with the preset and the version that made them"
CERTIFICATE = ["cell", "image", "label", "predicted", "draws", "p_lower", "p_upper", "radius", "correct", "rule"]


def _tallies(run: Run, keys: Collection[str]) -> Iterator[tuple[str, Tally]]:
    """The counts of every image of some cells, with their cells; images without a label are left out."""
    labels = {int(i): label for i, label in run.manifest.get("labels", {}).items()}
    b = run.blocks
    if b.empty:
        return
    cell, words = pd.factorize(b["cell"])  # integers: a million strings would need much memory
    names = words.tolist()
    image = b["image"].to_numpy(np.int64)
    group = pd.factorize(cell * (image.max() + 1) + image)[0]
    order = np.argsort(group, kind="stable")  # the blocks of an image stand together, images as they first appear
    selecting = (b["stage"] == "select").to_numpy()[order].tolist()
    first, votes = (b[name].to_numpy()[order].tolist() for name in ("first", "votes"))
    bounds = np.flatnonzero(np.diff(group[order], prepend=-1, append=-1))
    cells, images = (column[order[bounds[:-1]]].tolist() for column in (cell, image))
    for which, number, (start, end) in zip(cells, images, pairwise(bounds.tolist()), strict=True):
        key = names[which]
        if key not in keys or number not in labels:
            continue
        select, estimate = (
            {first[i]: votes[i] for i in range(start, end) if selecting[i] == wanted} for wanted in (True, False)
        )
        yield key, Tally(select, estimate, number, labels[number])


def _certificates(run: Run, cell_certifier: Mapping[str, Certifier]) -> pd.DataFrame:
    """A row for each image of each cell that its certifier has decided.

    Columns: cell, image, label (true class), predicted (-1: abstained), draws, p_lower, p_upper, radius (L2, [0,1]
    pixel units), correct, rule.
    """
    rows: list[tuple[Any, ...]] = []
    for key, tally in _tallies(run, cell_certifier.keys()):
        if (c := cell_certifier[key].certify(tally)) is not None:
            predicted = -1 if c.predicted is None else c.predicted
            proved = (c.p_lower, c.p_upper, c.radius)
            rows.append((key, tally.image, tally.label, predicted, c.draws, *proved, predicted == tally.label, c.rule))
    return pd.DataFrame(rows, columns=CERTIFICATE)


def _raced(run: Run, rules: Mapping[str, Certifier], radius: float) -> dict[str, dict[str, Any]]:
    """The figures of cells that have the draws of a race only: images, and certified accuracy at its radius.

    An image whose verdict is open counts as not certified, and in the upper end of the interval as certified.
    """
    verdicts: dict[str, list[bool | None]] = {key: [] for key in rules}
    for key, tally in _tallies(run, rules.keys()):
        verdicts[key].append(rules[key].reaches(tally, radius))
    figures: dict[str, dict[str, Any]] = {}
    for key, known in verdicts.items():
        total, sure, possible = len(known), known.count(True), len(known) - known.count(False)
        figures[key] = {"images": total, "raced": True}
        if total:
            accuracy = sure / total, wilson_interval(sure, total)[0], wilson_interval(possible, total)[1]
            figures[key] |= dict(zip(accuracy_columns(radius), accuracy, strict=True))
    return figures


_SECONDS = ["noise_s", "purify_s", "classify_s"]


def _costs(run: Run, failed: Mapping[str, str]) -> pd.DataFrame:
    """By cell: figures from `counted_draws` to `peak_bytes`, as `bench.summary.summarise` names them.

    Parameters:
        failed: cells that share their milliseconds with no others.
    """
    b = run.blocks
    if b.empty:
        return pd.DataFrame()
    sums = b.groupby("cell")[["draws", "nfe", "classifier_rows", *_SECONDS]].sum()
    per_draw = sums.div(sums["draws"], axis=0)
    device = b.groupby("cell")["device"].agg(lambda d: " + ".join(sorted(d.unique())))
    static = {key: cost for key, facts in run.manifest.get("costs", {}).items() if (cost := _static_cost(facts))}
    groups = [_work(key, run.cells.get(key), static.get(key), sums.loc[key], device[key]) for key in sums.index]
    groups = [key if key in failed else group for key, group in zip(sums.index, groups, strict=True)]
    pooled = sums.groupby(groups)[["draws", *_SECONDS]].transform("sum")
    ms = {f"ms_{name.removesuffix('_s')}": pooled[name] / pooled["draws"] * 1e3 for name in _SECONDS}
    known = pd.DataFrame({key: vars(static[key]) for key in sums.index if key in static}, index=_COUNTED).T
    known = known.reindex(sums.index).astype(float)
    gflops = per_draw["nfe"] * known["evaluation_flops"] / 1e9
    return pd.DataFrame(
        {
            "counted_draws": sums["draws"],
            **per_draw[["nfe", "classifier_rows"]],
            **ms,
            "ms_joint": ms["ms_purify"] + ms["ms_classify"],
            "ms_rows": pd.Series(groups, sums.index).groupby(groups).transform("size"),
            "gflops_purify": gflops,
            "gflops": gflops + per_draw["classifier_rows"] * known["classifier_flops"] / 1e9,
            "network_parameters": known["parameters"],
            "classifier_parameters": known["classifier_parameters"],
            "device": device,
            "peak_bytes": b.groupby("cell")["peak_bytes"].max(),
        }
    )


_COUNTED = ["evaluation_flops", "parameters", "classifier_flops", "classifier_parameters"]


def _static_cost(facts: Any) -> StaticCost | None:
    """A static cost of a manifest; None if it is damaged."""
    try:
        cost = StaticCost(**facts)
        numbers = [value for name, value in vars(cost).items() if name != "operations"]
        return cost if all(0 <= value < np.inf for value in numbers) else None
    except TypeError:
        return None


def _work(key: str, cell: Cell | None, static: StaticCost | None, sums: pd.Series, device: str) -> str:
    """A text that is equal for cells that do the same work in the same way: their milliseconds differ by chance only.

    That is, the same tensor operations of the purifier on networks of one architecture (whatever weights and sigma), as
    many rows of classifiers that cost the same, precision and compilation, on one device. A solver whose evaluations
    depend on the image has a text of its own, and so has a cell whose operations are not known.
    """
    if cell is None or static is None or sums["nfe"] != static.evaluations * sums["draws"]:
        return key
    voter = static.classifier_flops, static.classifier_parameters, cell.classifier_parameters.get("precision")
    way = json.dumps(cell.compute, sort_keys=True), cell.precision, cell.noise, device, cell.classifier, voter
    return repr((static.operations, sums["classifier_rows"] / sums["draws"], *way))


def _describe_row(rows: pd.DataFrame, radii: Sequence[float], largest: float = np.inf) -> dict[str, Any]:
    """Accuracy at the radii with intervals, average certified radius with its interval, abstention.

    Parameters:
        rows: certificates of one cell, at least one.
        largest: radius that the draws can certify; accuracy beyond it is NaN.
    """
    total = len(rows)
    certified = np.where(rows["correct"], rows["radius"], -1.0)
    out: dict[str, Any] = {"images": total}
    for radius in radii:
        hits = int((certified >= radius).sum())
        figures = (np.nan,) * 3 if radius > largest else (hits / total, *wilson_interval(hits, total))
        out |= dict(zip(accuracy_columns(radius), figures, strict=True))
    gained = np.maximum(certified, 0.0)
    out["acr"] = float(gained.mean())
    out["acr_low"], out["acr_high"] = mean_interval(gained)
    out["abstained"] = float((rows["predicted"] == -1).mean())
    return out


def accuracy_columns(radius: float) -> tuple[str, str, str]:
    """The columns of certified accuracy at a radius, and of both ends of its interval."""
    return f"acc@{radius:g}", f"acc_low@{radius:g}", f"acc_high@{radius:g}"


def counted_rows(
    run: Run, name: str, rules: Mapping[str, Certifier], radii: Sequence[float]
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Rows and certificates of the cells of a run, by the rule of each cell; of failed cells without figures."""
    preset = run.manifest.get("preset", {})
    certifier = preset.get("certifier", "cohen")
    foreign = {key for key, cell in run.cells.items() if cell.hashes.get("rule", "") != rules[key].identity}
    failed = {**dict.fromkeys(foreign, _FOREIGN_RULE), **run.errors}
    decided = _certificates(run, {key: rule for key, rule in rules.items() if key not in failed})
    raced = {}
    if (race := race_of(run.manifest)) is not None:
        partial = decided["cell"].value_counts().reindex(list(rules), fill_value=0) < len(run.manifest["labels"])
        raced = _raced(run, {key: rules[key] for key in rules if partial[key] and key not in failed}, race.radius)
        decided = decided[~decided["cell"].isin(raced)]
    by_cell = dict(tuple(decided.groupby("cell", sort=False)))
    cost = _costs(run, failed)
    rows = []
    for key, cell in run.cells.items():
        row: dict[str, Any] = {
            "run": name,
            "cell": key,
            "purifier": cell.purifier,
            "parameters": cell.parameters_text,
            "networks": ", ".join(k.removeprefix("network ") for k in cell.hashes if k.startswith("network ")),
            "classifier": cell.classifier_text,
            "family": _family(cell, run.manifest.get("families", {})),
            "dataset": cell.dataset,
            "sigma": cell.sigma,
            "source": COUNTED,
            "certifier": certifier,
            "sequential": certifier in SEQUENTIAL,
            "label_aware": bool(getattr(rules[key], "label_aware", False)),
            "rule": _rule_text(certifier, rules[key]),
            "images": 0,
            "wanted": run.wanted.get(key, len(run.manifest["labels"])),
            "error": failed.get(key),
            "largest": rules[key].largest,
            **raced.get(key, {}),
        }
        if key in by_cell:
            row |= _describe_row(by_cell[key], radii, row["largest"])
        if key in cost.index and key not in failed:
            row |= cost.loc[key].to_dict()
        rows.append(row)
    return rows, decided


def _rule_text(certifier: str, rule: Certifier) -> str:
    """The rule with its constants, equal for rows whose average certified radii compare.

    The rule `acr` decides a grid that is fine everywhere and ends at a multiple of sigma: the grid is left out.
    """
    return replace(rule, radii=()).rule.replace(", radii ", "") if certifier == "acr" else rule.rule  # type: ignore[type-var]


def _family(cell: Cell, families: Mapping[str, str]) -> str:
    """The family of a cell's purifier; plain smoothing of a row's own classifier has a family of its own."""
    family = families.get(cell.purifier, "other")
    return OWN_CLASSIFIER if family == PLAIN and cell.own_classifier else family


def imported_rows(run: Run, name: str, radii: Sequence[float]) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Rows and certificates of the published logs that were imported into a run's folder."""
    if not len(run.published):
        return [], pd.DataFrame()
    logs = run.published
    cell = logs["name"] + "@" + logs["sigma"].map("{:g}".format)
    rows = []
    for (log, sigma), part in logs.groupby(["name", "sigma"]):
        first = part.iloc[0]
        facts = {
            "run": name,
            "cell": f"{log}@{sigma:g}",
            "purifier": log,
            **dict.fromkeys(("parameters", "networks", "classifier"), ""),
            "dataset": first["dataset"],
            "family": "imported",
            "sigma": sigma,
            "source": IMPORTED,
            "certifier": first["rule"].partition(" (")[0],
            "sequential": False,
            "label_aware": False,
            "rule": first["rule"],
            "wanted": len(part),
            "error": None,
            "largest": first["largest"],
            "nfe": first["nfe"],
        }
        rows.append(facts | _describe_row(part, radii, first["largest"]))
    return rows, logs.assign(cell=cell, p_lower=np.nan, p_upper=np.nan)[CERTIFICATE]
