"""Folders and tables of images, as a user has them."""

from __future__ import annotations

import io
import json

import numpy as np


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """An image `[H,W,3]` of bytes as a file holds it."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def random_pixels(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def write_table(path, pixels, labels, image="img", label="label", kind="PNG", names=None, nested=True):
    """A parquet file of images, as `datasets` writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    bytes_ = [encoded(p, kind) for p in pixels]
    column = [{"bytes": b, "path": None} for b in bytes_] if nested else bytes_
    table = pa.table({image: column, label: pa.array(labels, pa.int64())})
    if names:
        features = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path)
    return path


def write_folder(root, sides, classes=("cat", "dog")):
    for name in classes:
        (root / name).mkdir(parents=True)
        for i, side in enumerate(sides):
            (root / name / f"{i}.png").write_bytes(encoded(random_pixels(1, side, i)[0]))
    return root


def grey(mode, side=8):
    from PIL import Image

    buffer = io.BytesIO()
    pixels = random_pixels(1, side)[0, :, :, 0]
    image = Image.fromarray(pixels.astype(np.uint16) * 257 if mode == "I;16" else pixels)
    (image if mode in ("L", "I;16") else image.convert(mode)).save(buffer, "PNG")
    return buffer.getvalue(), pixels
