"""Jobs for worker processes, in a module that imports nothing slow: every worker imports it."""

import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

from pfrl.cpu import cores


class Refused(Exception):
    """What a job may raise."""


def square(number: int) -> tuple[int, int, int]:
    """The square, the process and how many cores it has."""
    if number < 0:
        raise Refused(f"{number} is below 0")
    return number * number, os.getpid(), len(cores())


def dies_once(task: tuple[str, int, bool]) -> int:
    """The number; where it is asked to, it ends its process by force the first time."""
    folder, number, dies = task
    mark = Path(folder) / str(number)
    if dies and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def deadly(number: int) -> int:
    """The number, unless it is 1: then it ends its process by force, every time."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def linger(file: str) -> None:
    """Tell which process this is, and go on for much longer than the test waits."""
    Path(file).write_text(str(os.getpid()))
    time.sleep(300)


class Product(NamedTuple):
    """One job of a study."""

    number: int


class Multiply(NamedTuple):
    """Does a ``Product``, by a factor; it can be pickled."""

    factor: int

    def __call__(self, job: Product) -> dict[str, Any]:
        time.sleep(0.02)
        return {"product": self.factor * job.number, "process": os.getpid()}
