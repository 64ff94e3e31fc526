"""Read what pip-audit found: `python tests/audit.py REPORT.json`. An audit that could not be made does not pass.

pip-audit itself ends well where the advisory service knows none of the packages, as a mirror of PyPI does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

VULNERABLE, NOT_AUDITED = 1, 2
REMEDY = (
    "The advisory service could not be asked (is there a connection to pypi.org, not to a mirror of it alone?); run "
    "it where it can, or try `nox -s audit -- -s osv`"
)


def verdict(report: dict[str, Any] | None) -> tuple[list[str], int]:
    """What to say of a report, and the exit status; None is a report that was never written."""
    known = (report or {}).get("dependencies", [])
    audited = [package for package in known if "vulns" in package]
    skipped = [package["name"] for package in known if "vulns" not in package]
    if not audited:
        return [f"nothing was audited. {REMEDY}"], NOT_AUDITED
    said = [f"{len(audited)} packages were audited"]
    if skipped:
        said.append(f"not audited, because the service does not know them: {', '.join(sorted(skipped))}")
    found = [(package, advisory) for package in audited for advisory in package["vulns"]]
    for package, advisory in found:
        releases = " or ".join(advisory["fix_versions"])
        remedy = f"update to {releases}" if releases else "no release mends it yet"
        said.append(f"{package['name']} {package['version']} has {advisory['id']}: {remedy}")
    if found:
        return said, VULNERABLE
    return [*said, "no known vulnerability"], 0


if __name__ == "__main__":
    path = Path(sys.argv[1])
    lines, status = verdict(json.loads(path.read_text()) if path.is_file() else None)
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(status)
