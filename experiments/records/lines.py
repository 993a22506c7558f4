"""Files of one JSON object a line, which grow as work is done and outlive a kill."""

import json
import os
from pathlib import Path

from experiments.records.history import Line, read_history
from pfrl.files import FileError, write_text


def mend_lines(path: Path) -> list[Line]:
    """The lines of a file; one that a kill cut off, which would swallow the next, goes.

    Raises:
      FileError: if another line is no JSON.
    """
    lines = read_history(path)
    if path.exists():
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    return lines


class FileLines:
    """The lines of a file."""

    def __init__(self, path: Path):
        self.name, self._path = path.name, path

    def read(self) -> list[Line]:
        """All whole lines in their order; none if there is no file yet."""
        return read_history(self._path)

    def mend(self) -> list[Line]:
        """See ``mend_lines``."""
        return mend_lines(self._path)

    def append(self, line: Line) -> None:
        """See ``append_line``."""
        append_line(self._path, line)


def append_line(path: Path, line: Line) -> None:
    """One more line, on disk when this returns.

    Raises:
      FileError: if the disk is full or the place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise FileError(
            f"cannot write {path}: {error.strerror}; free some space and start the same"
            " command again: what was finished is kept"
        ) from error
