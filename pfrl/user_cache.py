"""What was computed before, in the user's cache folder: found by a digest of all that decides
about it, so that nothing ever has to be declared out of date."""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pfrl.files import FileError, load_arrays, write_json, write_whole
from pfrl.registry import plugins

Value = TypeVar("Value")
Arrays = dict[str, np.ndarray]

LIMIT = 2**30
"""Bytes of one kind of thing that are kept; what was not used for longest goes first."""


def user_cache() -> Path:
    """The folder ``$PFRL_CACHE``, or ``pfrl`` in the user's cache folder."""
    own = os.environ.get("PFRL_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pfrl"


def drop_oldest(root: Path, limit: int) -> None:
    """Remove the files below a folder that were not read for longest until the others have
    ``limit`` bytes."""
    total, found = 0, []
    for file in root.rglob("*"):
        with suppress(FileNotFoundError):  # another process drops some, too
            if file.is_file():
                found.append((file, file.stat()))
    for file, stat in sorted(found, key=lambda pair: pair[1].st_atime, reverse=True):
        total += stat.st_size
        if total > limit:
            file.unlink(missing_ok=True)


def digest(facts: Any, arrays: Iterable[tuple[str, Any]] = ()) -> str:
    """Of plain data and of arrays by name: equal only if they are, but for a collision of SHA-256.

    Args:
      facts: what JSON can hold.
      arrays: their names and they.
    """
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, value in arrays:
        array = np.ascontiguousarray(value)
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


@cache
def digest_of_code(*places: Path) -> str:
    """Of the source of the project, or of these files of it, and of the user's plugins."""
    here = Path(__file__).parent
    found = hashlib.sha256()
    for path in [*(places or sorted(here.rglob("*.py"))), *plugins()]:
        found.update(path.read_bytes())
    return found.hexdigest()


def instructions() -> str:
    """A short name of the kind of processor and the instructions that it knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        known = next(line for line in lines if line.lower().startswith(("flags", "features")))
    except (OSError, StopIteration):
        known = platform.processor()
    found = hashlib.sha256(" ".join(sorted(known.split())).encode()).hexdigest()
    return f"{platform.machine()}-{found[:12]}"


def kept(
    path: Path,
    read: Callable[[Path], Value],
    make: Callable[[], Value],
    write: Callable[[Path, Value], object],
    limit: int = LIMIT,
) -> Value:
    """What an earlier call wrote; where there is nothing, or it is damaged, it is made again.

    A cache that cannot be written is no reason to stop.

    Args:
      path: of the file.
      read: takes the file.
      make: makes it.
      write: puts it into the file.
      limit: bytes of the path's folder.
    """
    if (found := known(path, read)) is not None:
        return found
    made = make()
    with suppress(FileError, OSError):
        write(path, made)
        drop_oldest(path.parent, limit)
    return made


def known(path: Path, read: Callable[[Path], Value]) -> Value | None:
    """What a file of the cache holds; None if there is none, or it is damaged."""
    try:
        found = read(path)
        os.utime(path)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found


def kept_arrays(kind: str, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Arrays by name, as in ``kept``.

    Args:
      kind: of things; a folder of the cache.
      key: digest of all that decides about them.
      make: makes them.
    """
    save: Any = np.savez  # compressing takes longer than reading more

    def write(path: Path, arrays: Arrays) -> None:
        if sum(each.nbytes for each in arrays.values()) <= LIMIT:
            write_whole(path, lambda stream: save(stream, **arrays))

    path = user_cache() / kind / f"{key[:32]}.npz"
    return kept(path, lambda p: load_arrays(p)[0], make, write)


def kept_json(kind: str, key: str, make: Callable[[], Value]) -> Value:
    """Plain data, as in ``kept_arrays``."""
    path = user_cache() / kind / f"{key[:32]}.json"
    return kept(path, lambda p: json.loads(p.read_text()), make, write_json)
