"""How the pictures of a folder or .zip are arranged: splits, classes, and what is neither."""

import zipfile
from collections.abc import Collection, Iterator, Set
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pfrl.data.base import DataError
from pfrl.data.pictures import SUFFIXES

LAYOUT = (
    "train/<class>/*.png|jpg|jpeg|webp, and if you have them val/<class>/ and test/<class>/, or"
    " <class>/*.png|jpg|jpeg|webp alone"
)
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "search"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""The split that a folder is, by its name in small letters."""


class Placed(NamedTuple):
    """A picture by its place.

    Attributes:
      split: 'train', 'val' or 'test'.
      label: its class; empty where classes do not count.
      path: within the folder or .zip.
    """

    split: str
    label: str
    path: PurePosixPath


def labelled(root: Path) -> tuple[list[Placed], str]:
    """The pictures of ``<split>/<class>/`` in order, and what else there is, as a ``Dataset`` says.

    Where no folder has the name of a split, the folders are classes, and all pictures are for
    training. A folder that holds everything else, as archives often have, may be around them.
    Hidden files, and what macOS adds to archives, are left out of both.

    Raises:
      DataError: if there is no such folder or .zip, or two folders are the same split.
    """
    every, folders = listed(root)
    pictures = [path for path in every if path.suffix.lower() in SUFFIXES]
    around = _around(pictures, 2)
    parted = any(_split(path, around) for path in pictures if len(path.parts) > around + 1)
    classes = around + 2 if parted else around + 1
    found = [
        Placed(split, path.parts[classes - 1], path)
        for path in pictures
        if len(path.parts) == classes + 1 and (split := _split(path, around) if parted else "train")
    ]
    if parted:
        _check_once(root, found, around)
    used = {each.path for each in found}
    empty = {path for path in folders | {p.parent for p in every} if len(path.parts) == classes}
    empty = {path for path in empty if not parted or _split(path, around)}
    # By parts, as paths are compared, but without a call for each comparison.
    in_order = sorted(found, key=lambda each: each.path.parts)
    return in_order, _ignored(every - used, empty - {path.parent for path in used})


def unlabelled(root: Path) -> list[Placed]:
    """All pictures, however they are arranged: those of split folders, if one is for training, or
    all for training.

    Raises:
      DataError: if there is no such folder or .zip, or two folders are the same split.
    """
    every, _ = listed(root)
    pictures = sorted(path for path in every if path.suffix.lower() in SUFFIXES)
    around = _around(pictures, 1)
    inside = [path for path in pictures if len(path.parts) > around + 1]
    found = [Placed(split, "", path) for path in inside if (split := _split(path, around))]
    if not any(each.split == "train" for each in found):
        return [Placed("train", "", path) for path in pictures]
    _check_once(root, found, around)
    return found


def _around(pictures: Collection[PurePosixPath], below: int) -> int:
    """How many folders lie around all pictures, one in the other; a folder that is a split is none.

    Args:
      pictures: within the folder or .zip.
      below: names that are left of every path at least.
    """
    count = 0
    while pictures and all(len(path.parts) > count + below for path in pictures):
        heads = {path.parts[count] for path in pictures}
        if len(heads) > 1 or heads.pop().lower() in SPLITS:
            break
        count += 1
    return count


def _split(path: PurePosixPath, around: int) -> str:
    """The split of a path below ``around`` folders; empty if it is in none."""
    return SPLITS.get(path.parts[around].lower(), "")


def _check_once(root: Path, found: Collection[Placed], around: int) -> None:
    for split in dict.fromkeys(SPLITS.values()):
        folders = sorted({each.path.parts[around] for each in found if each.split == split})
        if len(folders) > 1:
            raise DataError(
                f"{root} has both {folders[0]}/ and {folders[1]}/, which mean the same; keep one of"
                " them"
            )


def listed(root: Path) -> tuple[set[PurePosixPath], set[PurePosixPath]]:
    """Files and folders of a folder or .zip, without hidden ones.

    Raises:
      DataError: if there is no such folder or .zip.
    """
    if root.is_dir():
        # The patterns follow links to folders, which ``rglob`` does not.
        paths = {*root.rglob("*"), *root.glob("*/*"), *root.glob("*/*/*")}
        found = [(PurePosixPath(p.relative_to(root).as_posix()), p.is_dir()) for p in paths]
    elif root.is_file():
        with open_zip(root) as archive:
            found = [(PurePosixPath(name), name.endswith("/")) for name in archive.namelist()]
    else:
        raise DataError(f"no folder or .zip file at {root}; expected one with {LAYOUT}")
    shown = [
        (path, folder)
        for path, folder in found
        if not any(part.startswith((".", "__MACOSX")) for part in path.parts)
    ]
    files = {path for path, folder in shown if not folder}
    return files, {path for path, folder in shown if folder}


@contextmanager
def open_zip(root: Path) -> Iterator[zipfile.ZipFile]:
    """An archive for reading.

    Raises:
      DataError: if it is none, or damaged.
    """
    try:
        archive = zipfile.ZipFile(root)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{root} is neither a folder nor a whole .zip file ({error}); expected {LAYOUT}"
        ) from error
    with archive:
        yield archive


def _ignored(files: Set[PurePosixPath], empty: Set[PurePosixPath]) -> str:
    """``3 files, 1 empty class``, each with an example and with what to do."""
    parts = []
    if files:
        noun = "files" if len(files) > 1 else "file"
        parts.append(
            f"{len(files):,} {noun} such as {min(files)} (expected PNG, JPEG or WebP files in a"
            " folder of their class: convert or move them)"
        )
    if empty:
        noun = "classes" if len(empty) > 1 else "class"
        parts.append(f"{len(empty)} empty {noun} such as {min(empty)}/ (add images to it)")
    return ", ".join(parts)
