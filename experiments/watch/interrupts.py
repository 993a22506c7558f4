"""Ctrl-C: delivered again where Python would drop it, and a second one ends the program at once."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

AGAIN_SECONDS = 0.05
"""Until an interrupt that was dropped is delivered again: what dropped it is over by then."""
SAME_SECONDS = 0.5
"""Within which another interrupt is the first one once more: programs that start others, such as
``timeout``, pass a Ctrl-C on to a process that the terminal has sent it already."""
INTERRUPTED = 130
"""Exit code of a program that an interrupt ended."""


@contextmanager
def delivered() -> Iterator[None]:
    """Within, the first interrupt always reaches the main thread, as ``KeyboardInterrupt``.

    Python reports an exception in a destructor or in a callback of its garbage collector and
    goes on. JAX has such a callback, so that a Ctrl-C during any collection, which takes a
    noticeable part of a run, would change nothing but a line on the terminal.

    A second interrupt while the first one is on its way out ends the program without a word,
    unless it comes in the same moment: what was finished is on the disk.
    """
    report, before = sys.unraisablehook, signal.getsignal(signal.SIGINT)
    since: float | None = None

    def interrupt(*_: Any) -> None:
        nonlocal since
        if since is None:
            since = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() > since + SAME_SECONDS:
            os._exit(INTERRUPTED)

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        nonlocal since
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            report(unraisable)
            return
        since = None
        # Not at once: it would be raised, and dropped, within this very function.
        main = threading.main_thread().ident
        again = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()

    taken = threading.current_thread() is threading.main_thread() and callable(before)
    sys.unraisablehook = hook
    if taken:  # not where a shell's background job ignores Ctrl-C
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        sys.unraisablehook = report
        if taken:
            signal.signal(signal.SIGINT, before)


def end_quietly() -> None:
    """From now on an interrupt ends the program without a word: it is ending anyway."""
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
