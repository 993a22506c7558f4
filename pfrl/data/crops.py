"""Crops of pictures: from the centre to judge, at random to train."""

import numpy as np
from PIL import Image


def centre(images: np.ndarray, size: int) -> np.ndarray:
    """The middle ``size`` pixels of ``[N, H, W, C]``; a view."""
    top, left = ((side - size) // 2 for side in images.shape[1:3])
    return images[:, top : top + size, left : left + size]


def random_crops(images: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Random resized crops (arXiv 1409.4842, section 6) of uint8 ``[N, H, W, C]``.

    Every crop is from 8 to 100 % of the area, its aspect from 3/4 to 4/3, resized to ``size``
    pixels a side.
    """
    n, height, width, channels = images.shape
    area = rng.uniform(0.08, 1, n) * height * width
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), n))
    tall = np.minimum(np.sqrt(area / aspect), height)
    broad = np.minimum(np.sqrt(area * aspect), width)
    top, left = rng.random(n) * (height - tall), rng.random(n) * (width - broad)
    crops = np.empty((n, size, size, channels), np.uint8)
    for i, pixels in enumerate(images):
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        box = (left[i], top[i], left[i] + broad[i], top[i] + tall[i])
        resized = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
        crops[i] = np.asarray(resized).reshape(size, size, channels)
    return crops
