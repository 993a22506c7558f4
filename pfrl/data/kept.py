"""Decoded pictures in the user's cache folder: a second run maps them into its memory."""

import os
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pfrl.data.pictures import Reading
from pfrl.files import FileError, write_whole
from pfrl.user_cache import digest, digest_of_code, drop_oldest, kept_json, known, user_cache

LIMIT = 4 * 2**30
"""Bytes of pictures that are kept; those not used for longest go first."""
FEWEST = 4 * 2**20
"""Bytes of decoded pictures below which decoding them again takes no time."""

Pictures = tuple[np.ndarray, np.ndarray]
"""uint8 ``[N, H, W, C]``, and bool by file whether it was whole."""


def kept_pictures(
    root: Path,
    names: list[str],
    reading: Reading,
    shape: tuple[int, ...] | None,
    make: Callable[[], Pictures],
) -> Pictures:
    """The pictures of files as an earlier start decoded them, mapped into memory.

    They are found by the names, sizes and times of change of the files, how they are read, and
    the code that reads them. What was decoded now is mapped too, so that it takes no memory that
    the system cannot take back, and processes share it.

    Args:
      root: folder or .zip.
      names: of the files in it.
      reading: how they are read.
      shape: that they are to have, if it is known.
      make: decodes them.
    """
    folder = user_cache() / "pictures"
    try:
        path = folder / f"{_key(root, names, reading, shape)[:32]}.npy"
    except OSError:  # a file that is gone: who decodes it says so
        return make()
    if (found := known(path, _mapped)) is not None:
        return found
    images, good = make()
    if not FEWEST <= images.nbytes <= LIMIT:
        return images, good
    with suppress(FileError, OSError):
        _write(_beside(path), good)
        _write(path, images)
        # Only then they may go: what is mapped stays readable without its name.
        mapped = known(path, _mapped)
        drop_oldest(folder, LIMIT)
        return mapped or (images, good)
    return images, good


def kept_whole(root: Path, names: list[str], make: Callable[[], np.ndarray]) -> np.ndarray:
    """Bool by file, whether it is a picture by its header, as an earlier start found it.

    Args:
      root, names: as in ``kept_pictures``.
      make: looks at the headers.
    """
    try:
        key = _key(root, names, "headers", None)
    except OSError:  # a file that is gone: who reads it says so
        return make()
    broken = kept_json("headers", key, lambda: np.flatnonzero(~make()).tolist())
    return ~np.isin(np.arange(len(names)), broken)


def _key(
    root: Path, names: list[str], reading: Reading | str, shape: tuple[int, ...] | None
) -> str:
    files = [root / name for name in names] if root.is_dir() else [root]
    stats = [(each.st_size, each.st_mtime_ns) for each in map(os.stat, files)]
    code = digest_of_code(Path(__file__), Path(__file__).with_name("pictures.py"),
                          Path(__file__).with_name("imagefolder.py"))  # fmt: skip
    versions = version("pillow"), version("numpy")
    return digest([str(root.resolve()), names, stats, reading, shape, code, versions])


def _mapped(path: Path) -> Pictures:
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    good = np.load(_beside(path), allow_pickle=False)
    if images.dtype != np.uint8 or images.ndim != 4 or good.sum() != len(images):
        raise ValueError("other pictures")
    return np.asarray(images), good


def _beside(path: Path) -> Path:
    """The file that says which files were whole."""
    return path.with_suffix(".good.npy")


def _write(path: Path, array: np.ndarray) -> None:
    save: Any = np.save
    write_whole(path, lambda stream: save(stream, array, allow_pickle=False))
