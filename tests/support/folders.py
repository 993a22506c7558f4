"""Folders and archives of pictures, no two alike."""

import zipfile

import numpy as np
from PIL import Image

from pfrl.data import load

COLOUR = (4, 6, 3)
GREY = (4, 6)


def draw(path, seed, shape=COLOUR, **options):
    """A file of random pixels; PNG, so that what is read is what was drawn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def seed_of(split, label, index):
    return [*split.encode(), label, index]


def fill(root, split, classes, count, shape=COLOUR):
    """``count`` images a class, no two alike."""
    for label, name in enumerate(classes):
        for i in range(count):
            seed = seed_of(split, label, i)
            draw(root / split / name / f"{i:03}.png", seed, shape)


def zipped(root):
    """The folder as a .zip beside it, entries in an order of its own."""
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.*"), reverse=True):
            archive.write(file, file.relative_to(root))
    return path


def read(root):
    return load(f"imagefolder:{root}")
