"""Evidence that certificates are sound: the check of plugins before a run, and the audit of its cells, in the manifest.

`manifest["trust"]` holds `checks` and `audits`, each by the key of a cell, and `memory`: bytes from and to
which the memory of a process kept growing in a cell. They outlive a session, and an audit that failed fails its cell in
every later session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from bench.certify import Tally
from bench.engine import Examination, PluginFault
from bench.engine.contracts import small_batches
from bench.engine.engine import FEWEST_EXAMINED
from bench.errors import RunError
from bench.executors import Executor, describe_cell, timeout_message
from bench.records import Cell
from bench.store import Store
from bench.sweep.audit import CellAudit
from bench.sweep.plan import Plan

TRUST = "trust"
_PARTS = ("checks", "audits", "memory")
_SHARE = 0.02  # of the planned draws that the check may take
_SIZES = (256, 128, 64)  # rows of a check that a full batch would make too long
_FEWEST = 24  # rows of a check, or half a batch: enough for a dependence that begins with more than 16 rows


@dataclass
class Trust:
    """The evidence of a run: which cells are refused, and the audit of each cell.

    Attributes:
        record: `manifest["trust"]`, changed in place.
        refused: error of each cell that must not be counted, by key.
        keep: stores the record.
        renewed: keys of the cells whose stored blocks are audited, unless they have been.
        comparable: whether the stored blocks were counted with the present version of torch.
    """

    share: float = 0.0
    seed: int = 0
    record: dict[str, dict[str, Any]] = field(default_factory=lambda: {"checks": {}, "audits": {}})
    refused: dict[str, str] = field(default_factory=dict)
    keep: Callable[[], object] = lambda: None
    renewed: frozenset[str] = frozenset()
    comparable: bool = True

    def audit(self, cell: Cell, store: Store) -> CellAudit:
        """The audit of a cell: it continues that of earlier sessions, or begins with the blocks that they stored."""
        if cell.key in self.refused or not self.share:
            return CellAudit(cell, 0.0, self.seed)
        totals = self.record["audits"].get(cell.key, {})
        renewed = cell.key in self.renewed and store.draws(cell.key) != totals.get("of", 0)
        audit = CellAudit(cell, self.share, self.seed, {} if renewed else totals)
        if renewed:
            audit.see(store.blocks(cell.key), self.comparable)
        return audit

    def ended(self, audit: CellAudit) -> None:
        """Keep the result of an audit that is complete or found an error."""
        record = audit.record()
        if record["of"] and (audit.error or audit.done):
            self.record["audits"][audit.cell.key] = record
            self.keep()

    def grown(self, cell: Cell, growth: tuple[float, float] | None) -> None:
        """Keep that memory kept growing while a cell was counted."""
        if growth is not None:
            self.record.setdefault("memory", {})[cell.key] = growth
            self.keep()


def evidence(planned: Plan, before: Mapping[str, Any], unfinished: set[str], keep: Callable[[], object]) -> Trust:
    """The evidence of a session, with that of earlier ones.

    Parameters:
        before: manifest of the earlier sessions; empty for a new run.
        unfinished: keys of the cells with missing draws.
    """
    earlier = before.get(TRUST, {})
    record: dict[str, dict[str, Any]] = {"checks": {}, "audits": {}}
    record |= {part: dict(earlier[part]) for part in _PARTS if part in earlier}
    failed = {cell.key: record["audits"].get(cell.key, {}).get("error") for cell in planned.cells}
    sessions = before.get("sessions") or ([before] if before else [])
    torches = {str((session.get("libraries") or {}).get("torch")) for session in sessions}
    return Trust(
        planned.preset.audit,
        planned.preset.seed,
        record,
        {key: error for key, error in failed.items() if error},
        keep,
        # A complete cell of a version without audits is not counted again; `bench verify` can check it.
        frozenset(unfinished | record["checks"].keys()),
        torches <= {_torch_version()},
    )


def _torch_version() -> str:
    from importlib.metadata import version

    return version("torch")


def check_plugins(
    planned: Plan,
    executor: Executor,
    unfinished: set[str],
    trust: Trust,
    notify: Callable[[str], object] = lambda message: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Check every classifier and every purifier that will be counted; cells of a plugin that fails are refused.

    A purifier is checked at its highest sigma, with at most 2 % of its planned draws, but a few rows at least.

    Parameters:
        stop: called between checks; once it returns True, KeyboardInterrupt is raised.

    Raises:
        RunError: no result within the preset's `timeout`.
        LoadError: a plugin or a network cannot be loaded.
    """
    checks = trust.record["checks"]
    passed = {
        key for key, entry in checks.items() if {"purifier", "classifier"} <= entry.keys() and "error" not in entry
    }
    cells = [cell for cell in planned.cells if cell.key in unfinished - passed - trust.refused.keys()]
    if not cells:
        return
    checks |= {cell.key: {} for cell in cells}
    started = time.monotonic()
    cells.sort(key=lambda cell: -cell.sigma)
    groups = _grouped(cells, lambda cell: cell.label)
    voters = _grouped(cells, lambda cell: cell.classifier_text)
    jobs = [
        *(("classifier", g, _rows(planned, _alike(planned.cells, g))) for g in voters),
        *(("purifier", g, _rows(planned, g)) for g in groups),
    ]
    draws, futures = 0, []
    for plugin, group, rows in jobs:  # all at once, so that every worker is busy
        futures.append(executor.examine(group[0], plugin, rows))
        _refuse_stopped(stop)
    for (plugin, group, rows), future in zip(jobs, futures, strict=True):
        cell, result = _result(executor, plugin, group, rows, future, planned.preset.timeout)
        _refuse_stopped(stop)
        if result is None:
            continue  # it raises at every sigma, which the sweep reports
        draws += _draws(result.rows, _fixed(cell))
        entry = {"rows": result.rows, "draws": _draws(result.rows, _fixed(cell)), "exact": result.exact}
        error = _error(plugin, cell, result)
        for one in group:
            checks[one.key][plugin] = {**entry, "sigma": cell.sigma}
            if error and one.key not in trust.refused:
                checks[one.key]["error"] = trust.refused[one.key] = error
    trust.keep()
    fewest = min((entry[plugin]["rows"] for entry in checks.values() for plugin in entry.keys() - {"error"}), default=0)
    classifiers = "the classifier" if len(voters) == 1 else f"{len(voters)} classifiers"
    notify(
        f"checked {classifiers} and {len(groups)} purifiers before the first cell, on {fewest} rows or more each: "
        f"{draws:,} draws, {time.monotonic() - started:.0f} s"
    )


def _grouped(cells: Sequence[Cell], text: Callable[[Cell], str]) -> list[list[Cell]]:
    """The cells of each text, in their order."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(text(cell), []).append(cell)
    return list(groups.values())


def _alike(cells: Sequence[Cell], group: Sequence[Cell]) -> list[Cell]:
    """The cells with the classifier of a group."""
    return [cell for cell in cells if cell.classifier_text == group[0].classifier_text]


def _refuse_stopped(stop: Callable[[], bool]) -> None:
    if stop():
        raise KeyboardInterrupt


def _result(
    executor: Executor, plugin: str, group: Sequence[Cell], rows: int, future: Future[Examination], timeout: float
) -> tuple[Cell, Examination | None]:
    """The first cell of a group at whose sigma the plugin does not raise, and the result; None if it always raises."""
    for i, cell in enumerate(group):
        try:
            return cell, (future if not i else executor.examine(cell, plugin, rows)).result(timeout)
        except PluginFault:
            continue
        except TimeoutError as error:
            raise RunError(timeout_message(timeout, describe_cell(cell))) from error
    return group[0], None


def _error(plugin: str, cell: Cell, result: Examination) -> str | None:
    """The error of the cells of a plugin that broke the contract, with every finding."""
    if not result.findings:
        return None
    name = f"purifier {cell.label!r}" if plugin == "purifier" else f"classifier {cell.classifier!r}"
    found = "; ".join(finding.problem for finding in result.findings)
    return (
        f"check before the run, {result.rows} rows at sigma = {cell.sigma:g}: {name}: {found}. Its certificates would "
        "be unsound, so nothing is counted. Mend it; the suite in `bench.testing` shows the same"
    )


def _fixed(cell: Cell) -> int:
    return int(str(cell.compute["rows"]))


def _draws(rows: int, fixed: int) -> int:
    """Rows through the networks in a check: each of its calls is padded to a multiple of `fixed` rows."""
    return sum(-(-size // fixed) * fixed for size in (rows, *small_batches(rows)))


def _rows(planned: Plan, cells: Sequence[Cell]) -> int:
    """The most rows, at most a full batch, whose check takes at most `_SHARE` of the planned draws of some cells."""
    batch, image = max(FEWEST_EXAMINED, int(planned.preset.batch)), planned.images[0]
    draws = 0
    for cell in cells:
        rule = planned.certifier(cell)
        first = sum(r.draws for r in rule.missing(Tally({}, {}, image, planned.labels[image])))
        if (boundaries := getattr(rule, "boundaries", None)) is not None:  # a sequential rule, up to its first look
            first += int(boundaries.looks[0])
        draws += first * len(planned.images)
    fewest = min(_FEWEST, max(FEWEST_EXAMINED, batch // 2))
    sizes = (batch, *(size for size in _SIZES if size < batch), fewest)
    return next((rows for rows in sizes if _draws(rows, _fixed(cells[0])) <= _SHARE * draws), sizes[-1])
