"""Images by index, as float32 in [0,1]. Every data set is split once and for all: train, val, test."""

from __future__ import annotations

from bench.data.sets import DATASETS, SIZES, load, where
from bench.data.split import DATA_FOLDER, TITLES, DataError, Split

__all__ = ["DATASETS", "DATA_FOLDER", "SIZES", "TITLES", "DataError", "Split", "load", "where"]
