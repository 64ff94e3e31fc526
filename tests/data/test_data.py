"""Images by index: balanced, the same on every machine, split once and for all."""

import numpy as np
import pytest
from image_files import encoded, grey, random_pixels, write_folder, write_table

from bench import data


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The user's cache, empty: where data sets are put by hand."""
    monkeypatch.delenv(data.DATA_FOLDER, raising=False)
    monkeypatch.setattr("bench.data.split.user_cache_path", lambda *_, **__: tmp_path / "cache")
    return tmp_path / "cache"


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


def test_files_that_hold_jpegs_are_called_so_whatever_they_were_asked_for_as(shared_data, tmp_path):
    folder = str(shared_data / "cifar10-jpeg")
    for name in ("cifar10", "cifar10-jpeg"):
        split = data.load(name, "test", folder)
        assert (split.dataset, split.title) == ("cifar10-jpeg", "CIFAR-10 (JPEG)")
    write_table(tmp_path / "test.parquet", random_pixels(10), range(10))
    assert data.load("cifar10", "test", str(tmp_path)).title == "CIFAR-10"
    with pytest.raises(data.DataError, match="are not JPEGs; use the data set cifar10"):
        data.load("cifar10-jpeg", "test", str(tmp_path))


def test_cifar10_from_files_is_read_bit_by_bit_and_split_as_ever(tmp_path):
    pixels = random_pixels(20)
    write_table(tmp_path / "train.parquet", pixels, [i % 10 for i in range(20)])
    train, val = (data.load("cifar10", part, str(tmp_path)) for part in ("train", "val"))
    assert (len(train.images), len(val.images)) == (18, 2)
    both = np.concatenate([train.images, val.images])
    assert np.array_equal((both * 255).round().astype(np.uint8), pixels.transpose(0, 3, 1, 2))


def test_cifar100_has_its_fine_classes_by_name(tmp_path):
    names = [f"class {i}" for i in range(100)]
    write_table(tmp_path / "test.parquet", random_pixels(4), [99, 0, 7, 7], label="fine_label", names=names)
    split = data.load("cifar100", "test", str(tmp_path))
    assert split.labels.tolist() == [99, 0, 7, 7] and split.classes == tuple(names)
    assert split.images.shape == (4, 3, 32, 32)


def test_imagenet_stays_in_colour(tmp_path):
    write_table(tmp_path / "validation.parquet", random_pixels(1, 64), [0], image="image")
    split = data.load("imagenet64", "test", str(tmp_path))
    object.__setattr__(split.images, "read", lambda i: grey("L", 64)[0])
    assert split.images[0].shape == (3, 64, 64)


def test_the_pixel_hash_depends_on_pixels_and_size_and_not_on_the_encoding(tmp_path):
    def pixel_hash(size=None):
        split = data.load("folder", "test", str(tmp_path), size)
        return split.pixel_hash(len(split.labels) - 1)

    write_folder(tmp_path, (8, 8))
    path = max((tmp_path / "dog").iterdir())
    pixels = random_pixels(1, 8, 5)[0]
    path.write_bytes(encoded(pixels))
    first = pixel_hash()
    assert pixel_hash() == first and pixel_hash(6) != first
    path.write_bytes(encoded(pixels, "BMP"))
    assert pixel_hash() == first
    pixels[0, 0, 0] ^= 1
    path.write_bytes(encoded(pixels))
    assert pixel_hash() != first


def test_imagenet_is_cut_to_its_centre_and_scaled_to_64_pixels(tmp_path):
    for i in range(1000):
        (tmp_path / "val" / f"n{i:08d}").mkdir(parents=True)
    wide = np.zeros((140, 280, 3), np.uint8)
    wide[:, 70:210] = 200  # the centre is even, and what lies beside it is not
    (tmp_path / "val" / "n00000007" / "ILSVRC2012_val_00000001.JPEG").write_bytes(encoded(wide, "JPEG"))
    split = data.load("imagenet64", "test", str(tmp_path))
    assert split.labels.tolist() == [7] and len(split.classes) == 1000
    image = split.images[0]
    assert image.shape == (3, 64, 64) and image[:, :, 2:-2] == pytest.approx(200 / 255, abs=0.02)
    (tmp_path / "val" / "n00000999").rmdir()
    with pytest.raises(data.DataError, match="has 999 classes in subfolders"):
        data.load("imagenet64", "test", str(tmp_path))
    with pytest.raises(data.DataError, match="there is no train split"):
        data.load("imagenet64", "train", str(tmp_path))


def test_images_of_64_pixels_stay_as_they_are(tmp_path):
    pixels = random_pixels(2, 64)
    write_table(tmp_path / "validation.parquet", pixels, [999, 3], image="image")
    split = data.load("imagenet64", "test", str(tmp_path))
    assert np.array_equal((split.images[0] * 255).round(), pixels[0].transpose(2, 0, 1))


@pytest.fixture
def offline(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def absent(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", absent)


@pytest.mark.parametrize(
    ("name", "repository", "files"),
    [
        ("cifar10", "uoft-cs/cifar10", r"test.parquet"),
        ("cifar100", "uoft-cs/cifar100", r"test.parquet"),
        (
            "imagenet64",
            "ILSVRC/imagenet-1k",
            "the validation images, in one subfolder for each class (n01440764, ...),",
        ),
    ],
)
def test_offline_a_data_set_of_the_hub_names_its_files_their_place_and_where_their_checksums_are(
    offline, cache, name, repository, files
):
    with pytest.raises(data.DataError) as refused:
        data.load(name, "test")
    said = str(refused.value)
    assert f"{repository} could not be fetched" in said and "no route to host" in said
    assert f"Offline: put {files} into {cache / 'data' / name}, or" in said and "--data" in said
    assert f"https://huggingface.co/datasets/{repository}/tree/main shows the files and their SHA-256" in said


def test_a_data_set_that_was_put_by_hand_is_found_in_the_users_cache_or_where_the_variable_says(
    offline, cache, monkeypatch, tmp_path
):
    assert data.where("cifar10", None) is None
    for root, name in ((cache / "data", "test.parquet"), (tmp_path / "elsewhere", "test-00000-of-00001.parquet")):
        pixels = random_pixels(3, seed=len(name))
        write_table(root / "cifar10" / name, pixels, [0, 1, 2])
        assert np.array_equal((data.load("cifar10", "test").images[0] * 255).round(), pixels[0].transpose(2, 0, 1))
        monkeypatch.setenv(data.DATA_FOLDER, str(tmp_path / "elsewhere"))


def test_what_the_hubs_library_has_fetched_before_is_known_and_needs_no_connection(monkeypatch, tmp_path):
    """Written by the library itself, as it keeps what it downloads."""
    datasets = pytest.importorskip("datasets")
    from datasets.packaged_modules.parquet.parquet import Parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert data.cached("cifar10") == data.cached("mnist5k") == []
    features = {"img": datasets.Image(), "label": datasets.ClassLabel(names=[f"class {i}" for i in range(10)])}
    rows = {"img": [{"bytes": encoded(pixels), "path": None} for pixels in random_pixels(4)], "label": [3, 1, 4, 1]}
    datasets.Dataset.from_dict(rows, datasets.Features(features)).to_parquet(tmp_path / "test.parquet")
    files = {"test": [str(tmp_path / "test.parquet")]}
    where = {"cache_dir": str(tmp_path / "hub"), "dataset_name": "cifar10", "config_name": "plain_text", "hash": "0123"}
    Parquet(data_files=files, **where).download_and_prepare()
    (made,) = (tmp_path / "hub" / "cifar10").iterdir()  # of local files, and so called otherwise than those of the hub
    (tmp_path / "hub" / "uoft-cs___cifar10").mkdir()
    made.rename(tmp_path / "hub" / "uoft-cs___cifar10" / "plain_text")
    (kept,) = data.cached("cifar10")
    assert kept.name == "cifar10-test.arrow" and data.cached("cifar100") == []
    split = data.load("cifar10", "test")
    assert split.labels.tolist() == [3, 1, 4, 1] and split.images.shape == (4, 3, 32, 32)
    kept.parent.rename(kept.parent.with_name("0123.incomplete"))
    assert data.cached("cifar10") == []


def test_without_the_hubs_library_its_extra_is_named(monkeypatch):
    monkeypatch.setattr("bench.data.hub.find_spec", lambda name: None)
    with pytest.raises(data.DataError, match=r"uoft-cs/cifar10 needs `pip install purifybench\[hub\]`"):
        data.load("cifar10", "test")


def test_a_stride_takes_the_images_that_published_protocols_take():
    split = data.Split("x", np.zeros((10_000, 1, 1, 1), np.float32), np.zeros(10_000, np.int64), ("a",))
    assert split.every(20, 500) == list(range(0, 10_000, 20))
    assert split.every(20, 3) == [0, 20, 40] and split.every(1, 10_000) == list(range(10_000))
    with pytest.raises(ValueError, match="every 20 images there are 500 of the 10000 of x, and 501"):
        split.every(20, 501)


def test_the_pixel_hashes_of_the_embedded_digits_stay_the_same():
    """Stored runs hold them."""
    split = data.load("mnist5k", "test")
    assert split.part == "test" and data.load("mnist5k", "val").part == "val"
    assert [split.pixel_hash(i) for i in (0, 499)] == ["e086ec4e4fdd3819", "295b5710c5f7abc7"]
