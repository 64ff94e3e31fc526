"""Versions of the libraries and of the code, recorded with each run."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import __version__
from bench.files import read_bytes

ROOT = Path(__file__).parent.parent
_PACKAGES = ("bench", "classifiers", "purifiers")
LIBRARIES = ("torch", "torchvision", "diffusers", "torchdiffeq", "lpips", "numpy", "scipy", "pandas")
EXTRAS = ("transformers", "timm", "robustbench")  # recorded if they are installed


def library_version(name: str) -> str | None:
    """The version of an installed library; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of those libraries that are installed."""
    return {name: version for name in names if (version := library_version(name))}


def version_record(libraries: Iterable[str]) -> dict[str, Any]:
    """The versions of the project, Python and the libraries, for records of runs; it names no person and no path."""
    return {
        "purifybench": __version__,
        "git": git_revision(),
        "python": platform.python_version(),
        "libraries": library_versions(libraries),
    }


def git_revision() -> str | None:
    """The commit of the code, with `-dirty` if files were changed since; None outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def code_digest() -> str:
    """SHA-256 of the installed Python files of this project."""
    files = [file for package in _PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    facts = [f"{file.relative_to(ROOT).as_posix()} {hashlib.sha256(read_bytes(file)).hexdigest()}" for file in files]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
