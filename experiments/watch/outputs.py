"""``pfrl ... | head``: a reader that has read enough ends the program without a word."""

import os
import select
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

LEFT = 141
"""Exit code, which a shell gives to programs that write to a pipe that nobody reads."""


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Within, an output that nobody reads any more ends the program quietly, with ``LEFT``.

    What is left in the streams' buffers is written here, not by the interpreter when it ends,
    which would tell of the error. Pipes of other kinds, to a worker that died, raise as ever.
    """
    try:
        try:
            yield
        finally:
            flush()
    except BrokenPipeError:
        if not _unread():
            raise
        _drop(_unread())
        raise SystemExit(LEFT) from None


def flush() -> None:
    """Write what the standard streams still hold.

    Raises:
      OSError: if one cannot take it, which is dropped: it would raise once more at the end.
    """
    for stream in _streams():
        try:
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError:
            _drop([stream.fileno()])
            raise


def _drop(numbers: Iterable[int]) -> None:
    """What is written to these file numbers from now on goes nowhere."""
    for number in numbers:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _unread() -> list[int]:
    """File numbers of the standard streams that are pipes without a reader."""
    poll = select.poll()
    for stream in _streams():
        poll.register(stream.fileno(), 0)
    return [number for number, event in poll.poll(0) if event & select.POLLERR]


def _streams() -> list[TextIO]:
    """Those that are open."""
    return [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
