"""The evidence that a run's certificates are sound, in words: checks of plugins before it, the audit in it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def audit_text(manifest: Mapping[str, Any], cells: Collection[str]) -> tuple[str, bool]:
    """A sentence on the audit and the checks of some cells of a run, and whether all of them have both.

    Parameters:
        manifest: of the run; runs of versions without an audit have no part `trust`.
        cells: keys, without those that failed.
    """
    trust = manifest.get("trust") or {"audits": {}, "checks": {}}
    if not any(key in trust["audits"] or key in trust["checks"] for key in cells):
        return "no audit: counted by a version that neither checked plugins nor counted any block again", False
    audits = [trust["audits"][key] for key in cells if key in trust["audits"]]
    checks = [trust["checks"].get(key, {}) for key in cells]
    unchecked = sum(not {"purifier", "classifier"} <= check.keys() for check in checks)
    missing = len(cells) - len(audits)
    parts = []
    if missing == len(cells):
        off = manifest.get("preset", {}).get("audit") == 0
        parts.append("no audit: " + ("it was switched off (--audit 0)" if off else "no cell is complete"))
    else:
        of, draws, elsewhere, differ, other = (
            sum(audit.get(name, 0) for audit in audits)
            for name in ("of", "draws", "elsewhere", "differ", "other_device")
        )
        parts.append(
            f"audit: {draws:,} draws ({draws / max(1, of):.1%}) were counted again in other batches, {elsewhere:,} of "
            f"them by another worker, and {differ or 'none'} voted otherwise ({_seconds(audits)})"
        )
        if other:
            parts.append(f"{other:,} of these draws were counted again on another device or version of torch")
        if missing:
            parts.append(f"{missing} of {len(cells)} cells are not audited")
    rows = [part["rows"] for check in checks for name, part in check.items() if name != "error"]
    if rows:
        parts.append(f"plugins were checked on {min(rows)} rows or more before the run")
    if unchecked:
        parts.append(f"plugins of {unchecked} of {len(cells)} cells were not checked")
    return "; ".join(parts), not missing and not unchecked


def _seconds(audits: Collection[Mapping[str, Any]]) -> str:
    return f"{sum(audit.get('seconds', 0.0) for audit in audits):,.0f} s of devices"
