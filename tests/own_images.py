"""Folders of small images, as users bring them."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def draw_shapes(folder: Path, count: int, side: int = 28, mode: str = "L", seed: int = 0) -> Path:
    """Write `count` images of each of three shapes (bar, disc, frame) as `folder/SHAPE/NUMBER.png`; returns `folder`.

    Places, sizes and brightness are random, so that no two images are equal.
    """
    from PIL import Image, ImageDraw

    random = np.random.default_rng(seed)
    for name in ("bar", "disc", "frame"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            half, bright = side * random.uniform(0.22, 0.36), int(random.integers(150, 256))
            x, y = random.uniform(half, side - half, 2)
            image = Image.new("L", (side, side), int(random.integers(0, 40)))
            pen, box = ImageDraw.Draw(image), (x - half, y - half, x + half, y + half)
            if name == "bar":
                pen.rectangle((x - half, y - half / 3, x + half, y + half / 3), fill=bright)
            elif name == "disc":
                pen.ellipse(box, fill=bright)
            else:
                pen.rectangle(box, outline=bright, width=max(2, side // 14))
            image.convert(mode).save(folder / name / f"{number}.png")
    return folder
