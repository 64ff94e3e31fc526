"""The notebook of the documentation runs, and shows the figures that it has in the repository."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

nbclient = pytest.importorskip("nbclient", reason="needs the extra `docs`")
nbformat = pytest.importorskip("nbformat", reason="needs the extra `docs`")


def _stderr(output) -> bool:
    return output.get("name") == "stderr"


def outputs(notebook) -> list[str]:
    """The printed lines and results of each cell, as text."""
    return [
        "".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in cell.outputs if not _stderr(o))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_tutorial_runs_and_shows_the_figures_that_it_is_published_with(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    published = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    fresh = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    client = nbclient.NotebookClient(fresh, timeout=300, resources={"metadata": {"path": str(ROOT / "docs")}})
    client.execute()
    here, there = outputs(published), outputs(fresh)
    assert here[1].startswith("Use ") and "acc@0.25" in here[0]
    assert there[:3] == here[:3]  # of the reference run
    figures = re.compile(r"\d+\.\d+")  # of draws that are made anew: another processor may round one otherwise
    assert [figures.sub("", text) for text in there[4:]] == [figures.sub("", text) for text in here[4:]]
