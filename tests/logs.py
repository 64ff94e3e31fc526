"""Published logs in the format of Cohen et al., and their import by the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime"
GOOD = ((0, 3, 3, 0.378, 1), (20, 7, -1, 0.0, 0), (40, 4, 5, 0.341, 0), (60, 7, 7, 0.9, 1))


def log_writer(folder: Path) -> Callable[..., Path]:
    """A factory of logs in a folder, from rows of text or of (idx, label, predict, radius, correct)."""

    def write(*rows: Any, header: str = HEADER, name: str = "log.tsv") -> Path:
        lines = [row if isinstance(row, str) else "\t".join(map(str, (*row, 15.4)[:6])) for row in rows]
        path = folder / name
        path.write_text("\n".join([header, *lines]) + "\n")
        return path

    return write


def import_cli(cli, path, out, name="Cohen 2019", sigma=0.25, dataset="cifar10", **options):
    given = [word for key, value in options.items() for word in (f"--{key}", value)]
    return cli("import", path, "--sigma", sigma, "--name", name, "--dataset", dataset, "--out", out, *given)
