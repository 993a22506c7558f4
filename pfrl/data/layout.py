"""How the pictures of a folder or .zip are arranged: splits, classes, and what is neither."""

import zipfile
from collections.abc import Collection, Set
from functools import lru_cache
from os.path import splitext
from pathlib import Path
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

Parts = tuple[str, ...]
"""The names on the way to a file: of 60,000 files as ``pathlib`` has them it takes seconds."""


class Placed(NamedTuple):
    """A picture by its place.

    Attributes:
      split: 'train', 'val' or 'test'.
      label: its class; empty where classes do not count.
      parts: the way to it within the folder or .zip.
    """

    split: str
    label: str
    parts: Parts

    @property
    def path(self) -> str:
        """Its name within the folder or .zip."""
        return "/".join(self.parts)


def labelled(root: Path) -> tuple[list[Placed], str]:
    """The pictures of ``<split>/<class>/`` in order, and what else there is, as a ``Dataset`` says.

    Where no folder has the name of a split, the folders are classes, and all pictures are for
    training. A folder that holds everything else, as archives often have, may be around them.
    Hidden files, and what macOS adds to archives, are left out of both.

    Raises:
      DataError: if there is no such folder or .zip, or two folders are the same split.
    """
    every, folders = listed(root)
    pictures = [parts for parts in every if _is_picture(parts)]
    around = _around(pictures, 2)
    parted = any(_split(parts, around) for parts in pictures if len(parts) > around + 1)
    classes = around + 2 if parted else around + 1
    found = [
        Placed(split, parts[classes - 1], parts)
        for parts in pictures
        if len(parts) == classes + 1 and (split := _split(parts, around) if parted else "train")
    ]
    if parted:
        _check_once(root, found, around)
    used = {each.parts for each in found}
    empty = {parts for parts in folders | {p[:-1] for p in every} if len(parts) == classes}
    empty = {parts for parts in empty if not parted or _split(parts, around)}
    in_order = sorted(found, key=lambda each: each.parts)
    return in_order, _ignored(every - used, empty - {parts[:-1] for parts in used})


def unlabelled(root: Path) -> list[Placed]:
    """All pictures, however they are arranged: those of split folders, if one is for training, or
    all for training.

    Raises:
      DataError: if there is no such folder or .zip, or two folders are the same split.
    """
    every, _ = listed(root)
    pictures = sorted(parts for parts in every if _is_picture(parts))
    around = _around(pictures, 1)
    inside = [parts for parts in pictures if len(parts) > around + 1]
    found = [Placed(split, "", parts) for parts in inside if (split := _split(parts, around))]
    if not any(each.split == "train" for each in found):
        return [Placed("train", "", parts) for parts in pictures]
    _check_once(root, found, around)
    return found


def _is_picture(parts: Parts) -> bool:
    return splitext(parts[-1])[1].lower() in SUFFIXES


def _around(pictures: Collection[Parts], below: int) -> int:
    """How many folders lie around all pictures, one in the other; a folder that is a split is none.

    Args:
      pictures: within the folder or .zip.
      below: names that are left of every path at least.
    """
    count = 0
    while pictures and all(len(parts) > count + below for parts in pictures):
        heads = {parts[count] for parts in pictures}
        if len(heads) > 1 or heads.pop().lower() in SPLITS:
            break
        count += 1
    return count


def _split(parts: Parts, around: int) -> str:
    """The split of a path below ``around`` folders; empty if it is in none."""
    return SPLITS.get(parts[around].lower(), "")


def _check_once(root: Path, found: Collection[Placed], around: int) -> None:
    for split in dict.fromkeys(SPLITS.values()):
        folders = sorted({each.parts[around] for each in found if each.split == split})
        if len(folders) > 1:
            raise DataError(
                f"{root} has both {folders[0]}/ and {folders[1]}/, which mean the same; keep one of"
                " them"
            )


def listed(root: Path) -> tuple[set[Parts], set[Parts]]:
    """Files and folders of a folder or .zip, without hidden ones.

    Raises:
      DataError: if there is no such folder or .zip.
    """
    if root.is_dir():
        # The patterns follow links to folders, which ``rglob`` does not.
        paths = {*root.rglob("*"), *root.glob("*/*"), *root.glob("*/*/*")}
        found = [(p.relative_to(root).parts, p.is_dir()) for p in paths]
    elif root.is_file():
        names = open_zip(root).namelist()
        found = [(tuple(filter(None, name.split("/"))), name.endswith("/")) for name in names]
    else:
        raise DataError(f"no folder or .zip file at {root}; expected one with {LAYOUT}")
    shown = [
        (parts, folder)
        for parts, folder in found
        if parts and not any(part.startswith((".", "__MACOSX")) for part in parts)
    ]
    files = {parts for parts, folder in shown if not folder}
    return files, {parts for parts, folder in shown if folder}


def open_zip(root: Path) -> zipfile.ZipFile:
    """An archive for reading.

    Raises:
      DataError: if it is none, or damaged.
    """
    try:
        return archive(root)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{root} is neither a folder nor a whole .zip file ({error}); expected {LAYOUT}"
        ) from error


def archive(path: Path) -> zipfile.ZipFile:
    """A .zip, opened once, for of 60,000 files the list alone takes most of a second.

    Threads may read it at the same time. A file that was replaced is another one.

    Raises:
      OSError: if it cannot be read.
      zipfile.BadZipFile: if it is no .zip, or damaged.
    """
    now = path.stat()
    return _opened(path, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=1)
def _opened(path: Path, changed: int, size: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _ignored(files: Set[Parts], empty: Set[Parts]) -> str:
    """``3 files, 1 empty class``, each with an example and with what to do."""
    parts = []
    if files:
        noun = "files" if len(files) > 1 else "file"
        example = "/".join(min(files))
        parts.append(
            f"{len(files):,} {noun} such as {example} (expected PNG, JPEG or WebP files in a"
            " folder of their class: convert or move them)"
        )
    if empty:
        noun = "classes" if len(empty) > 1 else "class"
        example = "/".join(min(empty))
        parts.append(f"{len(empty)} empty {noun} such as {example}/ (add images to it)")
    return ", ".join(parts)
