"""An audit that could not be made does not pass for one that found nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import audit
import pytest

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
