"""An interrupt ends a run wherever it strikes."""

import gc
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.watch.interrupts import INTERRUPTED, delivered

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.ci
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


TWICE = """
import os, signal, sys, time
from experiments.watch.interrupts import SAME_SECONDS, delivered
try:
    with delivered():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
except KeyboardInterrupt:
    pass
finally:
    print("first", flush=True)
with delivered():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    finally:
        # As 'timeout', which signals its child and then the child's group.
        os.kill(os.getpid(), signal.SIGINT)
        print("the same", flush=True)
        time.sleep(SAME_SECONDS + 0.1)
        # As a run that closes its files, when somebody is in a hurry.
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
"""


def test_a_second_interrupt_ends_the_program_without_a_word(interruptible):
    found = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, cwd=ROOT)
    assert (found.returncode, found.stdout, found.stderr) == (INTERRUPTED, "first\nthe same\n", "")


def test_an_interrupt_at_the_end_of_a_program_ends_it_without_a_word(interruptible):
    code = (
        "import os, signal, time; from experiments.watch.interrupts import end_quietly;"
        " end_quietly(); os.kill(os.getpid(), signal.SIGINT); time.sleep(10)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (found.returncode, found.stderr) == (INTERRUPTED, "")
