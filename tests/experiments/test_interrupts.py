"""An interrupt ends a run wherever it strikes."""

import gc
import signal
import sys
import time

import pytest

from experiments.watch.interrupts import delivered


def test_an_interrupt_that_strikes_in_a_collection_is_delivered(interruptible):
    strikes = [signal.SIGINT]

    def strike(phase, info):
        if strikes:
            signal.raise_signal(strikes.pop())

    with pytest.raises(KeyboardInterrupt), delivered():
        gc.callbacks.append(strike)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(strike)
        assert not strikes, "nothing was collected"
        time.sleep(10)


def test_other_exceptions_that_python_ignores_are_reported_as_ever(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(unraisable))
    hook = sys.unraisablehook

    class Fails:
        def __del__(self):
            raise OSError("in a destructor")

    with delivered():
        Fails()
    assert [unraisable.exc_type for unraisable in reported] == [OSError]
    assert sys.unraisablehook is hook
