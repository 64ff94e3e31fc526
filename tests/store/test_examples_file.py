"""Example images survive on disk, and files that are damaged or do not fit are named."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from drawn import (
    synthetic_examples,
)

from bench.store.examples import read_examples, write_examples


def test_examples_survive_a_round_trip(tmp_path):
    examples = synthetic_examples(sigmas=(0.25, 1.0), channels=3)
    assert read_examples(tmp_path) is None
    path = write_examples(tmp_path / "run", examples)
    assert path.name == "examples.npz" and [p.name for p in path.parent.iterdir()] == ["examples.npz"]
    found = read_examples(tmp_path / "run")
    assert found is not None and found.classes == examples.classes
    for field in ("images", "labels", "clean"):
        np.testing.assert_array_equal(getattr(found, field), getattr(examples, field))
    assert [(p.cell, p.sigma) for p in found.panels] == [(p.cell, p.sigma) for p in examples.panels]
    for mine, theirs in zip(found.panels, examples.panels, strict=True):
        for field in ("noisy", "purified", "predicted"):
            np.testing.assert_array_equal(getattr(mine, field), getattr(theirs, field))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.arange(5)}, "labels: expected"),
        ({"labels": np.full(6, 10)}, "outside the 10 classes"),
        ({"images": np.arange(6.0)}, "images: expected"),
        ({"clean": np.zeros((6, 28, 28), np.uint8)}, r"clean: expected \[M,C,H,W\]"),
        ({"clean": np.zeros((6, 1, 28, 28), np.float32)}, "clean: expected"),
        ({"clean": np.zeros((6, 1, 32, 32), np.uint8)}, "noisy of none at sigma = 1: expected"),
    ],
)
def test_examples_that_do_not_belong_together_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(synthetic_examples(), **change)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"text", lambda b: b[:-200], lambda b: flip(b)])
def test_a_damaged_file_of_examples_is_named(damage, tmp_path):
    path = write_examples(tmp_path, synthetic_examples(["none"]))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} cannot be read"):
        read_examples(tmp_path)


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(b ^ 0xFF for b in data[middle : middle + 64]) + data[middle + 64 :]


def test_a_file_that_lacks_a_panel_or_is_of_a_later_format_is_named(tmp_path):
    path = write_examples(tmp_path, synthetic_examples(["none"]))
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{k: v for k, v in arrays.items() if k != "purified_0"})
    with pytest.raises(ValueError, match="purified_0"):
        read_examples(tmp_path)
    np.savez(path, **{**arrays, "format": np.array(2)})
    with pytest.raises(ValueError, match="format is 2"):
        read_examples(tmp_path)
