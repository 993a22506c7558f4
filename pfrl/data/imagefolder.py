"""The user's own images: a folder or a .zip with a folder for every class."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pfrl.data.base import IMAGENET_MEAN, IMAGENET_STD, DataError, Dataset, Split, hold_out
from pfrl.data.crops import centre
from pfrl.data.kept import kept_pictures, kept_whole
from pfrl.data.layout import LAYOUT, Placed, labelled, open_zip
from pfrl.data.pictures import Broken, Reading, channels_of, read_all
from pfrl.data.sources import SPLIT_SEED
from pfrl.data.streams import IN_COLOUR, Pictures, open_file, too_many, undecoded
from pfrl.registry import register

SPLITS_IN_ORDER = ("train", "val", "test")
HELD_SHARE = 0.1


class Entries(NamedTuple):
    """The files of a split that are not yet read: names within the folder or .zip, and labels."""

    names: list[str]
    labels: np.ndarray

    def take(self, index: np.ndarray) -> "Entries":
        return Entries([self.names[i] for i in index], self.labels[index])


@register("dataset", "imagefolder:")
def imagefolder(path: str) -> Dataset:
    """The images of a folder or .zip, with ``train/``, ``val/`` and ``test/`` or classes alone.

    What folders mean is in ``pfrl.data.layout``. A split without a folder is cut from the training
    images: a tenth of them, with every class in it, always the same ones for the same file names.
    All images must be of one size, unless ``?size=224`` behind the path brings them to one: the
    short side is resized to 8/7 of it, and the centre is cut out; in training it is a random
    resized crop. With ``&skip_broken=1`` files that cannot be read are left out. Images are turned
    upright, as their EXIF says. They are grey ``[N, H, W, 1]`` if all of the training and search
    images are, else RGB ``[N, H, W, 3]``; transparency is dropped. Test images are decoded when the
    test split is opened, not before.

    Raises:
      DataError: if there is no such folder or .zip, if a split lacks a class
        or is too small to be cut, or if an image is damaged or of another size.
    """
    place, reading = Reading.parse(path)
    root = Path(place).expanduser()
    placed, ignored = labelled(root)
    classes = tuple(sorted({each.label for each in placed if each.split == "train"}))
    if len(classes) < 2:
        raise DataError(
            f"{root} has images of too few classes in train/, {len(classes)}; expected two or more:"
            f" {LAYOUT}. Pictures without classes are images:{place}"
            + (f" (ignored: {ignored})" if ignored else "")
        )
    train, search, test = (_entries(root, placed, split, classes) for split in SPLITS_IN_ORDER)
    held = max(round(HELD_SHARE * len(train.names)), len(classes))
    rng = np.random.default_rng(SPLIT_SEED)
    if not test.names:
        train, test = _cut(root, train, held, classes, "test", rng)
    if not search.names:
        train, search = _cut(root, train, held, classes, "val", rng)
    check_headers(root, test, reading)
    read = read_both(root, train, search, reading)
    _check_classes(root, read.train.labels, classes)
    height, width, channels = read.train.images.shape[1:]
    grey = channels == 1
    return Dataset(
        f"imagefolder:{path}",
        read.train,
        # Files come class by class; shuffled, the first so many search images are a fair sample.
        read.search.take(rng.permutation(len(read.search))),
        partial(open_rest, root, test, (height, width, channels), reading),
        classes,
        (0.5,) if grey else IMAGENET_MEAN,
        (0.5,) if grey else IMAGENET_STD,
        crop=min(height, width) // 8,
        ignored=", ".join(filter(None, [ignored, read.skipped])),
        wide=read.wide,
    )


class Read(NamedTuple):
    """Training and search images, what random crops are taken of, and how many are broken."""

    train: Split
    search: Split
    wide: Any
    skipped: str


def read_both(root: Path, train: Entries, search: Entries, reading: Reading) -> Read:
    """The pictures of two splits; more than fit into memory are read when they are needed.

    Raises:
      DataError: as ``decode``.
    """
    entries = Entries(train.names + search.names, np.r_[train.labels, search.labels])
    much = too_many(root, entries.names, reading)
    both, good = (_later if much else decode)(root, entries, reading)
    trained = int(good[: len(train.names)].sum())
    wide, both = cropped(both, reading, trained)
    count = len(good) - int(good.sum())
    skipped = "1 broken image" if count == 1 else f"{count:,} broken images" if count else ""
    return Read(both.take(slice(trained)), both.take(slice(trained, None)), wide, skipped)


def check_headers(root: Path, entries: Entries, reading: Reading) -> None:
    """See to it that a split that is opened late can be opened then, by its files' headers.

    Raises:
      DataError: if a file is no picture, and broken ones are not to be left out.
    """
    every = entries.names
    good = kept_whole(
        root, every, lambda: np.asarray([channels_of(root, name, open_file) > 0 for name in every])
    )
    names = tuple(name for name, whole in zip(every, good, strict=True) if not whole)
    _check_broken(root, Broken(names, "is no whole PNG, JPEG or WebP image"), good, reading)


def _later(
    root: Path, entries: Entries, reading: Reading, shape: tuple[int, int, int] | None = None
) -> tuple[Split, np.ndarray]:
    """As ``decode``, but only what the files' headers say is known."""
    pictures, good = undecoded(root, entries.names, reading)
    names = tuple(name for name, whole in zip(entries.names, good, strict=True) if not whole)
    _check_broken(root, Broken(names, "is no whole PNG, JPEG or WebP image"), good, reading)
    if shape is not None:
        sides = pictures.sides if reading.size else shape[:2]
        pictures = replace(pictures, sides=sides, channels=shape[-1])
    return Split(pictures, entries.labels[good]), good


def cropped(both: Split, reading: Reading, trained: int) -> tuple[Any, Split]:
    """What random crops are taken of, and the images from the centre; if a size is asked for."""
    if reading.size is None:
        return None, both
    if isinstance(both.images, Pictures):
        images: Any = replace(both.images, sides=(reading.size, reading.size))
    else:
        images = centre(both.images, reading.size)
    return both.images[:trained], Split(images, both.labels)


def _check_classes(root: Path, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    missing = np.setdiff1d(np.arange(len(classes)), labels)
    if len(missing):
        raise DataError(
            f"all training images of class '{classes[int(missing[0])]}' of {root} are broken; add"
            " whole ones, or remove the class"
        )


def open_rest(root: Path, test: Entries, shape: tuple[int, int, int], reading: Reading) -> Split:
    """A split that is read late; see ``decode``."""
    much = too_many(root, test.names, reading)
    split, _ = (_later if much else decode)(root, test, reading, shape)
    return cropped(split, reading, 0)[1]


def _reader(root: Path) -> Callable[[str], bytes]:
    """A function from an image's name to its bytes."""
    return (lambda name: (root / name).read_bytes()) if root.is_dir() else open_zip(root).read


def _entries(root: Path, placed: Sequence[Placed], split: str, classes: tuple[str, ...]) -> Entries:
    """The split's files, or none; a split that is there has the classes of the training split."""
    chosen = [each for each in placed if each.split == split]
    found = {each.label for each in chosen}
    if chosen and found != set(classes):
        odd = sorted(found ^ set(classes))[0]
        folder = "/".join(chosen[0].parts[:-2])
        where, lacks = ("train", folder) if odd in classes else (folder, "train")
        raise DataError(
            f"the classes of {folder}/ and train/ in {root} differ: '{odd}' has images in {where}/"
            f" and none in {lacks}/; both must have the same class folders"
        )
    number = {name: label for label, name in enumerate(classes)}
    labels = np.asarray([number[each.label] for each in chosen], np.int32)
    return Entries([each.path for each in chosen], labels)


def _cut(
    root: Path,
    entries: Entries,
    count: int,
    classes: tuple[str, ...],
    split: str,
    rng: np.random.Generator,
) -> tuple[Entries, Entries]:
    """``(rest, held)`` with ``count`` files held, some of every class on both sides."""
    rest, held = (entries.take(index) for index in hold_out(entries.labels, count, rng))
    for part in (rest, held):
        missing = np.setdiff1d(np.arange(len(classes)), part.labels)
        if len(missing):
            label = int(missing[0])
            raise DataError(
                f"class '{classes[label]}' of {root} has {int((entries.labels == label).sum())}"
                f" images, too few to cut {split}/ from train/;"
                f" add images or a folder {split}/ with every class"
            )
    return rest, held


def decode(
    root: Path, entries: Entries, reading: Reading, shape: tuple[int, int, int] | None = None
) -> tuple[Split, np.ndarray]:
    """The images of files that are whole, ``[N, H, W, C]``, and bool by file which they are.

    Without ``shape`` they have one channel if all files are grey, else three.

    Args:
      root: of the folder or .zip.
      entries: the files.
      reading: how they are read.
      shape: that of the training images, for other splits.

    Raises:
      DataError: if files are damaged, of different sizes, or in colour where ``shape`` is grey.
    """
    images, good = kept_pictures(
        root, entries.names, reading, shape, lambda: _decode(root, entries.names, reading, shape)
    )
    return Split(images, entries.labels[good]), good


def _decode(
    root: Path, every: list[str], reading: Reading, shape: tuple[int, int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    pictures, good, broken = read_all(every, _reader(root), reading)
    _check_broken(root, broken, good, reading)
    names = [name for name, whole in zip(every, good, strict=True) if whole]
    channels = max(each.shape[-1] for each in pictures)
    expected = pictures[0].shape[:2] if shape is None or reading.size else shape[:2]
    images = np.empty((len(pictures), *expected, shape[-1] if shape else channels), np.uint8)
    for index, pixels in enumerate(pictures):
        if pixels.shape[:2] != expected:
            raise DataError(
                f"{names[index]} in {root} has (height, width) {pixels.shape[:2]}, expected"
                f" {expected} as the images before it; give --image-size, to which all are resized"
            )
        if pixels.shape[-1] > images.shape[-1]:
            raise DataError(f"{names[index]} in {root} {IN_COLOUR}")
        images[index] = pixels
        pictures[index] = _NOTHING  # of many pictures not two copies at once
    return images, good


def _check_broken(root: Path, broken: Broken, good: np.ndarray, reading: Reading) -> None:
    if not broken.names or (reading.skip_broken and good.any()):
        return
    more = len(broken.names) - 1
    others = f"; {more:,} more of {len(good):,} images are broken" if more else ""
    raise DataError(
        f"{broken.names[0]} in {root} {broken.reason}{others}; mend or remove what is broken,"
        " or go on without it: --skip-broken"
    )


_NOTHING = np.empty((0, 0, 1), np.uint8)
