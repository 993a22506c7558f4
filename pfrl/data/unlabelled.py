"""The user's own images without labels: a folder or a .zip of pictures, however it is arranged."""

from functools import partial
from pathlib import Path

import numpy as np

from pfrl.data.base import IMAGENET_MEAN, IMAGENET_STD, DataError, Dataset, hold_out
from pfrl.data.imagefolder import (
    SPLITS_IN_ORDER,
    Entries,
    check_headers,
    open_rest,
    read_both,
)
from pfrl.data.layout import Placed, unlabelled
from pfrl.data.pictures import Reading
from pfrl.data.sources import SPLIT_SEED
from pfrl.registry import register
from pfrl.tasks.agreement import Unlabelled

HELD_SHARE = 0.1
FEWEST = 10


@register("dataset", "images:")
def images(path: str) -> Dataset:
    """All pictures of a folder or .zip and of the folders in it; the base network answers for them.

    A folder with ``train/`` has its splits in ``train/``, ``val/`` and ``test/`` (other names are
    in ``pfrl.data.layout``), and what else is in it is left out. A split that is missing is a tenth
    of the training images, always the same ones for the same file names. Pictures are read as
    ``imagefolder:`` reads them, with the same options behind a question mark.

    Raises:
      DataError: if there is no such folder or .zip, if it has too few pictures, or as
        ``imagefolder`` for pictures that cannot be read.
    """
    place, reading = Reading.parse(path)
    root = Path(place).expanduser()
    rng = np.random.default_rng(SPLIT_SEED)
    train, search, test = _splits(root, unlabelled(root), rng)
    check_headers(root, test, reading)
    read = read_both(root, train, search, reading)
    shape = read.train.images.shape[1:]
    grey = shape[-1] == 1
    if min(len(read.train), len(read.search)) == 0:
        raise DataError(f"{root} has no whole pictures to train on, or none to search with")
    return Dataset(
        f"images:{path}",
        read.train,
        read.search.take(rng.permutation(len(read.search))),
        partial(open_rest, root, test, shape, reading),
        (),
        (0.5,) if grey else IMAGENET_MEAN,
        (0.5,) if grey else IMAGENET_STD,
        crop=min(shape[:2]) // 8,
        task=Unlabelled(),
        ignored=read.skipped,
        wide=read.wide,
    )


def _splits(
    root: Path, placed: list[Placed], rng: np.random.Generator
) -> tuple[Entries, Entries, Entries]:
    """Training, search and test images."""
    train, search, test = (
        _entries([each for each in placed if each.split == split]) for split in SPLITS_IN_ORDER
    )
    if len(train.names) < FEWEST:
        raise DataError(
            f"{root} has too few pictures (PNG, JPEG or WebP) to train on, {len(train.names)};"
            f" expected {FEWEST} at least"
        )
    held = max(round(HELD_SHARE * len(train.names)), 1)
    parts = [train, search, test]
    for place in (2, 1):
        if not parts[place].names:
            rest, chosen = hold_out(parts[0].labels, held, rng)
            parts[0], parts[place] = parts[0].take(rest), parts[0].take(chosen)
    return parts[0], parts[1], parts[2]


def _entries(placed: list[Placed]) -> Entries:
    return Entries([each.path for each in placed], np.zeros(len(placed), np.int32))
