"""The user's own images: a folder or a .zip of ``train/<class>/*.png|jpg|jpeg|webp``."""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from pfrl.data.base import IMAGENET_MEAN, IMAGENET_STD, DataError, Dataset, Split, hold_out
from pfrl.data.sources import SPLIT_SEED
from pfrl.registry import register

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
FORMATS = ("PNG", "JPEG", "WEBP")
SEARCH_FOLDERS = ("val", "search")
HELD_SHARE = 0.1
LAYOUT = "train/<class>/*.png|jpg|jpeg|webp, and if you have them val/<class>/ and test/<class>/"
ONE_BYTE_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


class Entries(NamedTuple):
    """The files of a split that are not yet read: names within the folder or .zip, and labels."""

    names: list[str]
    labels: np.ndarray

    def take(self, index: np.ndarray) -> "Entries":
        return Entries([self.names[i] for i in index], self.labels[index])


@register("dataset", "imagefolder:")
def imagefolder(path: str) -> Dataset:
    """The images of a folder or .zip, with ``train/``, ``val/`` (or ``search/``) and ``test/``.

    A split without a folder is cut from the training images: a tenth of them,
    with every class in it, always the same ones for the same file names. All
    images must be of one size. They are grey ``[N, H, W, 1]`` if all of
    ``train/`` and ``val/`` are, else RGB ``[N, H, W, 3]``; transparency is
    dropped. Test images are decoded when the test split is opened, not before.

    Raises:
      DataError: if there is no such folder or .zip, if a split lacks a class
        or is too small to be cut, or if an image is damaged or of another size.
    """
    root = Path(path).expanduser()
    files, ignored = _image_files(root)
    classes = tuple(sorted({file.parts[1] for file in files if file.parts[0] == "train"}))
    if len(classes) < 2:
        raise DataError(
            f"{root} has images of {len(classes)} classes in train/, expected two or more: {LAYOUT}"
            + (f" (ignored: {ignored})" if ignored else "")
        )
    train = _entries(root, files, "train", classes)
    search = _search_entries(root, files, classes)
    test = _entries(root, files, "test", classes)
    held = max(round(HELD_SHARE * len(train.names)), len(classes))
    rng = np.random.default_rng(SPLIT_SEED)
    if not test.names:
        train, test = _cut(root, train, held, classes, "test", rng)
    if not search.names:
        train, search = _cut(root, train, held, classes, "val", rng)
    both = _decode(root, Entries(train.names + search.names, np.r_[train.labels, search.labels]))
    grey = both.images.shape[-1] == 1
    height, width = both.images.shape[1:3]
    return Dataset(
        f"imagefolder:{path}",
        both.take(slice(len(train.names))),
        # Files come class by class; shuffled, the first so many search images are a fair sample.
        both.take(len(train.names) + rng.permutation(len(search.names))),
        partial(_decode, root, test, both.images.shape[1:]),
        classes,
        (0.5,) if grey else IMAGENET_MEAN,
        (0.5,) if grey else IMAGENET_STD,
        crop=min(height, width) // 8,
        ignored=ignored,
    )


def _image_files(root: Path) -> tuple[list[PurePosixPath], str]:
    """Sorted ``<split>/<class>/<image>`` paths, and what else there is, as a ``Dataset`` tells it.

    Hidden files, and what macOS adds to archives, are left out of both.
    """
    if root.is_dir():
        # The pattern follows links to folders, which ``rglob`` does not.
        paths = {*root.rglob("*"), *root.glob("*/*/*")}
        found = [(PurePosixPath(p.relative_to(root).as_posix()), p.is_dir()) for p in paths]
    elif root.is_file():
        with _open(root) as archive:
            found = [(PurePosixPath(name), name.endswith("/")) for name in archive.namelist()]
    else:
        raise DataError(f"no folder or .zip file at {root}; expected one with {LAYOUT}")
    shown = {
        (path, folder)
        for path, folder in found
        if not any(part.startswith((".", "__MACOSX")) for part in path.parts)
    }
    every = {path for path, folder in shown if not folder}
    images = {p for p in every if len(p.parts) == 3 and p.suffix.lower() in SUFFIXES}
    folders = {path for path, folder in shown if folder} | {p.parent for p in every}
    classes = {path for path in folders if len(path.parts) == 2}
    return sorted(images), _ignored(every - images, classes - {path.parent for path in images})


def _ignored(files: Set[PurePosixPath], empty: Set[PurePosixPath]) -> str:
    """``3 files, 1 empty class``, each with an example and with what to do."""
    parts = []
    if files:
        noun = "files" if len(files) > 1 else "file"
        parts.append(
            f"{len(files):,} {noun} such as {min(files)} (expected PNG, JPEG or WebP files at"
            " <split>/<class>/: convert or move them)"
        )
    if empty:
        noun = "classes" if len(empty) > 1 else "class"
        parts.append(f"{len(empty)} empty {noun} such as {min(empty)}/ (add images to it)")
    return ", ".join(parts)


@contextmanager
def _open(root: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(root)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{root} is neither a folder nor a whole .zip file ({error}); expected {LAYOUT}"
        ) from error
    with archive:
        yield archive


@contextmanager
def _reader(root: Path) -> Iterator[Callable[[str], bytes]]:
    """A function from an image's name to its bytes."""
    if root.is_dir():
        yield lambda name: (root / name).read_bytes()
    else:
        with _open(root) as archive:
            yield archive.read


def _entries(
    root: Path, files: Sequence[PurePosixPath], split: str, classes: tuple[str, ...]
) -> Entries:
    """The split's files, or none; a split that is there has the classes of the training split."""
    chosen = [file for file in files if file.parts[0] == split]
    found = {file.parts[1] for file in chosen}
    if chosen and found != set(classes):
        odd = sorted(found ^ set(classes))[0]
        where, lacks = ("train", split) if odd in classes else (split, "train")
        raise DataError(
            f"the classes of {split}/ and train/ in {root} differ: '{odd}' has images in {where}/"
            f" and none in {lacks}/; both must have the same class folders"
        )
    number = {name: label for label, name in enumerate(classes)}
    labels = np.asarray([number[file.parts[1]] for file in chosen], np.int32)
    return Entries([str(file) for file in chosen], labels)


def _search_entries(
    root: Path, files: Sequence[PurePosixPath], classes: tuple[str, ...]
) -> Entries:
    val, search = (_entries(root, files, split, classes) for split in SEARCH_FOLDERS)
    if val.names and search.names:
        raise DataError(f"{root} has both val/ and search/, which mean the same; keep one of them")
    return val if val.names else search


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


def _decode(root: Path, entries: Entries, shape: tuple[int, int, int] | None = None) -> Split:
    """The files' images as ``[N, *shape]``; without ``shape``, of the first one's size.

    Without ``shape`` they have one channel if all files are grey, else three.

    Raises:
      DataError: for the first file that is damaged, of another size, or in
        colour where ``shape`` is grey.
    """
    count = len(entries.names)
    images = np.empty((count, *shape) if shape else (count, 0, 0, 1), np.uint8)
    with _reader(root) as read:
        for index, name in enumerate(entries.names):
            pixels = _pixels(root, name, read)
            if images.size == 0:
                images = np.empty((count, *pixels.shape), np.uint8)
            if pixels.shape[:2] != images.shape[1:3]:
                raise DataError(
                    f"{name} in {root} has (height, width) {pixels.shape[:2]}, expected"
                    f" {images.shape[1:3]} as the images before it; resize all to one size"
                )
            if pixels.shape[-1] > images.shape[-1]:
                if shape is not None:
                    raise DataError(
                        f"{name} in {root} is in colour, but all of train/ and val/ is grey;"
                        " make all images grey or some of train/ RGB"
                    )
                images = np.repeat(images, 3, axis=-1)
            images[index] = pixels
    return Split(images, entries.labels)


def _pixels(root: Path, name: str, read: Callable[[str], bytes]) -> np.ndarray:
    """One image as uint8 ``[H, W, 1]`` if its file is grey, else ``[H, W, 3]``."""
    try:
        with Image.open(io.BytesIO(read(name)), formats=FORMATS) as image:
            mode = image.mode
            if mode in ("1", "L"):
                pixels = np.asarray(image.convert("L"))[..., None]
            else:
                # By way of RGBA: Pillow warns when it drops a palette's transparency in one go.
                opaque = image.convert("RGBA") if "transparency" in image.info else image
                pixels = np.asarray(opaque.convert("RGB"))
    except Exception as error:  # Pillow's and zipfile's decoders each raise their own
        raise DataError(
            f"{name} in {root} is no whole PNG, JPEG or WebP image ({error}); mend or remove it"
        ) from error
    if mode not in ONE_BYTE_MODES:
        raise DataError(
            f"{name} in {root} has pixels of mode {mode}, expected 8 bits per channel; convert it"
        )
    return pixels
