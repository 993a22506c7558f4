"""Files that appear under their final name only when they are whole; arrays that are no pickles."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

META_KEY = "__meta__"


class FileError(ValueError):
    """A file that is missing, damaged or cannot be written; the message says what to do."""


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Let ``write(stream)`` fill a temporary file beside ``path``, sync it, and rename it.

    Raises:
      FileError: if the disk is full or the place cannot be written to; nothing
        is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}; choose another place") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        raise FileError(
            f"cannot write {path}: {error.strerror}; free some space or choose another place"
        ) from error
    finally:
        if os.path.exists(name):
            os.unlink(name)
    return path


def write_text(path: Path, text: str) -> Path:
    return write_whole(path, lambda stream: stream.write(text.encode()))


def write_json(path: Path, value: Any) -> Path:
    return write_text(path, json.dumps(value, indent=2) + "\n")


def check_folders(*paths: Path) -> None:
    """Raises FileError if one is no folder."""
    for path in paths:
        if not path.is_dir():
            raise FileError(f"there is no folder {path}; give one that a command of pfrl wrote")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
      FileError: if it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read ({error}); make it again") from error


def locked(path: Path, wait: bool = False) -> IO[bytes] | None:
    """The lock that a file stands for: held until it is closed or this process ends, however.

    Args:
      wait: for whoever holds it, on this machine or on another with the same file system.

    Returns:
      What is to be closed; None where another one holds the lock.

    Raises:
      OSError: if there is no place for the file, or its file system has no locks.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("ab")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        stream.close()
        return None
    except BaseException:
        stream.close()
        raise
    return stream


def save_arrays(
    path: Path, arrays: Mapping[str, Any], meta: Mapping[str, Any], compress: bool = True
) -> Path:
    """Arrays by name and JSON-able ``meta`` as one ``.npz``.

    Args:
      compress: what is kept; trained weights become 7 % smaller, for 50 ms a megabyte.
    """
    packed = {name: np.asarray(value) for name, value in arrays.items()}
    packed[META_KEY] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    write: Any = np.savez_compressed if compress else np.savez
    return write_whole(path, lambda stream: write(stream, **packed))


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """``(arrays, meta)`` of an ``.npz``; ``meta`` is empty for files that we did not write.

    Raises:
      FileError: if the file is missing or no whole ``.npz`` of plain arrays.
    """
    if not path.is_file():
        raise FileError(f"no file {path}; expected an .npz of weights")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(arrays.pop(META_KEY).tobytes()) if META_KEY in arrays else {}
    except Exception as error:  # zipfile, zlib, numpy and json each raise their own
        # What numpy says of a pickle is how to load one all the same.
        why = "" if "pickle" in str(error) else f" ({error})"
        raise FileError(
            f"{path} is no whole .npz file of plain arrays{why}; fetch or make it again"
        ) from error
    return arrays, meta
