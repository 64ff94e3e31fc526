"""Images by index: balanced, the same on every machine, split once and for all."""

import numpy as np
import pytest

from bench import data


def test_the_embedded_digits_are_split_into_4250_250_and_500():
    splits = {name: data.load("mnist5k", name) for name in ("train", "val", "test")}
    assert {name: len(split.images) for name, split in splits.items()} == {"train": 4250, "val": 250, "test": 500}
    rows = np.concatenate([split.images.reshape(len(split.images), -1) for split in splits.values()])
    assert len(np.unique(rows, axis=0)) == 5000  # no image is in two splits
    assert rows.dtype == np.float32 and rows.min() == 0 and rows.max() == 1


@pytest.mark.parametrize("count", [10, 20, 50, 100, 200, 250, 500])
def test_any_number_of_embedded_images_is_balanced_over_the_classes(count):
    split = data.load("mnist5k", "test")
    picked = split.pick(count)
    assert len(set(picked)) == count
    assert (np.bincount(split.labels[picked], minlength=10) == count // 10).all()


def test_a_published_protocol_takes_every_twentieth_image():
    split = data.Split("x", np.zeros((10_000, 1, 1, 1), np.float32), np.zeros(10_000, np.int64), ("a",))
    assert split.pick(500) == list(range(0, 10_000, 20))


@pytest.mark.parametrize("count", [0, 501])
def test_more_images_than_there_are_is_refused(count):
    with pytest.raises(ValueError, match="between 1 and 500"):
        data.load("mnist5k", "test").pick(count)


def test_cifar10_reads_parquet_files_of_the_hubs_schema(shared_data):
    split = data.load("cifar10", "test", str(shared_data / "cifar10-jpeg"))
    assert split.images.shape == (10_000, 3, 32, 32) and split.images.dtype == np.float32
    assert (np.bincount(split.labels) == 1000).all() and split.classes[3] == "cat"
