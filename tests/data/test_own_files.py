"""Images of the user's own: folders and tables, their parts, classes, channels and sizes."""

import struct
import zlib

import numpy as np
import pytest
from image_files import encoded, grey, random_pixels, write_folder, write_table
from PIL import Image

from bench import data
from bench.data.pixels import PixelError


@pytest.mark.parametrize(("image", "nested"), [("img", True), ("image", True), ("image", False)])
def test_any_table_of_images_is_read_from_a_file_or_a_folder(tmp_path, image, nested):
    pixels = random_pixels(5, side=9)
    file = write_table(tmp_path / "test.parquet", pixels, [0, 1, 2, 1, 0], image=image, nested=nested)
    for path in (file, tmp_path):
        split = data.load("parquet", "test", str(path))
        assert split.classes == ("0", "1", "2") and split.labels.tolist() == [0, 1, 2, 1, 0]
        assert np.array_equal((split.images[3] * 255).round(), pixels[3].transpose(2, 0, 1))
        assert split.images.shape == (5, 3, 9, 9)
        assert np.array_equal(split.images[[3, 0]], np.stack([split.images[3], split.images[0]]))


def test_a_table_says_which_column_or_file_it_lacks(tmp_path):
    file = write_table(tmp_path / "a" / "test.parquet", random_pixels(2), [0, 1], image="picture")
    with pytest.raises(data.DataError, match=r"no column img or image; it has picture, label"):
        data.load("parquet", "test", str(file))
    with pytest.raises(data.DataError, match=r"train\.parquet is missing"):
        data.load("parquet", "train", str(tmp_path / "a"))
    negative = write_table(tmp_path / "b" / "test.parquet", random_pixels(2), [0, -1])
    with pytest.raises(data.DataError, match="class numbers from 0 to 999,999"):
        data.load("parquet", "test", str(negative))
    negative.write_bytes(b"PAR1 and no more")
    with pytest.raises(data.DataError, match="cannot be read as a table of images"):
        data.load("parquet", "test", str(negative))


def test_any_folder_of_images_has_a_class_for_each_subfolder(tmp_path):
    write_folder(tmp_path / "own", (8, 8, 8))
    (tmp_path / "own" / "cat" / "notes.txt").write_text("no image")
    split = data.load("folder", "test", str(tmp_path / "own"))
    assert split.classes == ("cat", "dog") and split.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert split.images.shape == (6, 3, 8, 8) and split.images[0].dtype == np.float32
    assert np.array_equal((split.images[1] * 255).round(), random_pixels(1, 8, 1)[0].transpose(2, 0, 1))


def test_a_folder_may_have_parts(tmp_path):
    for part, sides in (("train", (8, 8, 8)), ("val", (8,)), ("test", (8, 8))):
        write_folder(tmp_path / part, sides)
    sizes = {part: len(data.load("folder", part, str(tmp_path)).images) for part in ("train", "val", "test")}
    assert sizes == {"train": 6, "val": 2, "test": 4}
    with pytest.raises(data.DataError, match="has no part `train`"):
        data.load("folder", "train", str(tmp_path / "val"))


@pytest.mark.parametrize("evaluated", ["test", "val"])
@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_without_validation_images_of_its_own_a_tenth_of_the_training_images_serves(tmp_path, kind, evaluated):
    """A part `val` without a part `test` is the test images, on which no choice may be made."""
    sides = (8,) * 25
    if kind == "folder":
        write_folder(tmp_path / "train", sides)
        write_folder(tmp_path / evaluated, (8,))
    else:
        write_table(tmp_path / "train.parquet", random_pixels(50, 8), [0, 1] * 25)
        write_table(tmp_path / f"{evaluated}.parquet", random_pixels(2, 8, seed=1), [0, 1])
    splits = {part: data.load(kind, part, str(tmp_path)) for part in ("train", "val", "test")}
    assert {part: np.bincount(split.labels).tolist() for part, split in splits.items()} == {
        "train": [22, 22],
        "val": [3, 3],
        "test": [1, 1],
    }
    hashes = [{split.pixel_hash(i) for i in range(len(split.images))} for split in splits.values()]
    if kind == "parquet":  # all its images differ
        assert len(set.union(*hashes)) == 52
    else:  # the same 25 images in both classes, of which the test part has the first
        assert len(hashes[0] | hashes[1]) == 25 and not hashes[0] & hashes[1]


def test_a_single_training_image_of_each_class_leaves_none_for_validation(tmp_path):
    write_folder(tmp_path / "train", (8,))
    assert len(data.load("folder", "train", str(tmp_path)).images) == 2
    with pytest.raises(data.DataError, match="no class has two training images"):
        data.load("folder", "val", str(tmp_path))


def test_a_label_means_the_same_class_in_every_part(tmp_path):
    write_folder(tmp_path / "train", (8, 8), ("ant", "bee", "cow"))
    write_folder(tmp_path / "test", (8,), ("ant", "cow"))
    (tmp_path / "test" / ".cache").mkdir()
    split = data.load("folder", "test", str(tmp_path))
    assert split.classes == ("ant", "bee", "cow") and split.labels.tolist() == [0, 2]


def test_greyscale_files_have_one_channel_unless_one_of_them_is_in_colour(tmp_path):
    content, pixels = grey("L")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(content)
    (tmp_path / "dog" / "1.png").write_bytes(grey("LA")[0])
    split = data.load("folder", "test", str(tmp_path))
    assert split.images.shape == (3, 1, 8, 8)
    assert np.array_equal((split.images[2] * 255).round(), pixels[None])  # without its opacity
    assert data.load("folder", "test", str(tmp_path), 6).images[[0, 1]].shape == (2, 1, 6, 6)
    (tmp_path / "dog" / "2.png").write_bytes(encoded(np.stack([pixels] * 3, 2)))  # grey pixels in a file of colours
    split = data.load("folder", "test", str(tmp_path))
    assert split.images.shape == (4, 3, 8, 8)
    assert np.array_equal((split.images[0] * 255).round(), np.stack([pixels] * 3))


def test_a_table_of_greyscale_files_has_one_channel(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    content, pixels = grey("L")
    pq.write_table(pa.table({"image": [content] * 2, "label": pa.array([0, 1], pa.int64())}), tmp_path / "t.parquet")
    split = data.load("parquet", "test", str(tmp_path / "t.parquet"))
    assert split.images.shape == (2, 1, 8, 8) and np.array_equal((split.images[1] * 255).round(), pixels[None])


def test_an_image_of_16_bits_is_refused_because_pillow_would_make_it_white(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "0.png").write_bytes(grey("I;16")[0])
    with pytest.raises(PixelError, match=r"cat/0\.png: it has more than 8 bits a channel .*save it with 8"):
        data.load("folder", "test", str(tmp_path)).images[0]


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2)], ids=["RGB", "grey and alpha"])
def test_a_colour_image_of_16_bits_is_refused_because_pillow_would_round_it(tmp_path, colour, channels):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = zlib.compress((b"\0" + bytes(range(16)) * channels) * 8)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, colour, 0, 0, 0))
    (tmp_path / "cat").mkdir()
    image = tmp_path / "cat" / "0.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    Image.open(image).load()  # is a valid file
    with pytest.raises(PixelError, match=r"more than 8 bits a channel \(mode .*;16B\).*save it with 8"):
        data.load("folder", "test", str(tmp_path)).images[0]


def test_images_of_several_sizes_are_refused_by_name_unless_a_size_is_given(tmp_path):
    write_folder(tmp_path, (8, 12))
    split = data.load("folder", "test", str(tmp_path))
    with pytest.raises(PixelError, match=r"cat/1\.png has 12x12 pixels, cat/0\.png has 8x8; set `size` in the preset"):
        split.images[1]
    assert data.load("folder", "test", str(tmp_path), 6).images[[0, 1]].shape == (2, 3, 6, 6)
    with pytest.raises(data.DataError, match="`size` is only for: folder, parquet"):
        data.load("mnist5k", "test", None, 6)


def test_a_damaged_image_is_named(tmp_path):
    write_folder(tmp_path, (8, 8))
    (tmp_path / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(PixelError, match=r"dog/1\.png cannot be read as an image"):
        data.load("folder", "test", str(tmp_path)).images[3]


@pytest.mark.parametrize("name", ["folder", "parquet"])
def test_own_data_says_how_to_name_its_place(name, tmp_path):
    with pytest.raises(data.DataError, match="needs the path of your files: set `data`"):
        data.load(name, "test")
    with pytest.raises(data.DataError, match=r"is not a folder|is missing"):
        data.load(name, "test", str(tmp_path / "absent"))
