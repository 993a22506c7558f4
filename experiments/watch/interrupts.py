"""Ctrl-C, delivered again where Python would drop it."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN_SECONDS = 0.05
"""Until an interrupt that was dropped is delivered again: what dropped it is over by then."""


@contextmanager
def delivered() -> Iterator[None]:
    """Within, an interrupt always reaches the main thread.

    Python reports an exception in a destructor or in a callback of its garbage collector and
    goes on. JAX has such a callback, so that a Ctrl-C during any collection, which takes a
    noticeable part of a run, would change nothing but a line on the terminal.
    """
    report = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            report(unraisable)
            return
        # Not at once: it would be raised, and dropped, within this very function.
        main = threading.main_thread().ident
        again = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = report
