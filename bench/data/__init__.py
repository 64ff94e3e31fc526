"""Data sets: images by index, as float32 in [0,1], in fixed splits train, val and test."""

from __future__ import annotations

from bench.data.hub import EXTRA, REPOSITORIES, cached, installed
from bench.data.sets import DATASETS, load, where
from bench.data.split import DATA_FOLDER, TITLES, DataError, Split, by_hand

__all__ = [
    "DATASETS",
    "DATA_FOLDER",
    "EXTRA",
    "REPOSITORIES",
    "TITLES",
    "DataError",
    "Split",
    "by_hand",
    "cached",
    "installed",
    "load",
    "where",
]
