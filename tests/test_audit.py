"""An audit that could not be made does not pass for one that found nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import audit
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent

SOUND = {"name": "numpy", "version": "2.0", "vulns": []}
ILL = {"name": "jinja2", "version": "3.1.3", "vulns": [{"id": "PYSEC-2024-1", "fix_versions": ["3.1.4"]}]}
HOPELESS = {"name": "old", "version": "1", "vulns": [{"id": "PYSEC-2024-2", "fix_versions": []}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.14.0)"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([SOUND], 0, ["1 packages were audited", "no known vulnerability"]),
        ([SOUND, UNKNOWN], 0, ["does not know them: torch", "no known vulnerability"]),
        ([SOUND, ILL], 1, ["2 packages were audited", "jinja2 3.1.3 has PYSEC-2024-1: update to 3.1.4"]),
        ([HOPELESS], 1, ["no release mends it yet"]),
        ([UNKNOWN], 2, ["nothing was audited", "could not be asked"]),
        ([], 2, ["nothing was audited"]),
        (None, 2, ["nothing was audited", "-s osv"]),
    ],
)
def test_the_exit_status_says_whether_it_was_audited_and_what_was_found(tmp_path, packages, status, said):
    path = tmp_path / "audit.json"
    if packages is not None:
        path.write_text(json.dumps({"dependencies": packages, "fixes": []}))
    done = subprocess.run([sys.executable, Path(audit.__file__), path], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert all(words in done.stdout for words in said)
    assert ("no known vulnerability" in done.stdout) == (status == 0)


def test_the_lock_names_everything_that_the_project_asks_for_in_a_version_that_it_admits():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    asked = [Requirement(line) for line in (*project["dependencies"], *extras)]
    locked: dict[str, set[str]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        name, version = re.match(r"([\w.-]+)==([^ ]+)", line).groups()
        locked.setdefault(name.lower().replace("_", "-"), set()).add(version)
    for requirement in asked:
        name = requirement.name.lower().replace("_", "-")
        if name != "purifybench":
            assert all(requirement.specifier.contains(version) for version in locked[name]), requirement
