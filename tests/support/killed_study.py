"""A study of toy jobs; a program of its own, to be killed.

``python -m tests.support.killed_study FOLDER JOBS WORKERS`` does what is left of the jobs.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from experiments.records.run_folder import RunFolder
from experiments.studies.study import complete


@dataclass(frozen=True)
class ToySettings:
    """Of the toy study."""

    FREE: ClassVar = ("out",)

    out: Path
    factor: int = 3


class Product(NamedTuple):
    """One job."""

    number: int


def multiply(factor: int, job: Product) -> dict[str, Any]:
    time.sleep(0.02)
    return {"product": factor * job.number, "process": os.getpid()}


class Multiply(NamedTuple):
    """``multiply`` by a factor; it can be pickled."""

    factor: int

    def __call__(self, job: Product) -> dict[str, Any]:
        return multiply(self.factor, job)


def main(out: Path, jobs: int, workers: int) -> None:
    settings = ToySettings(out)
    folder = RunFolder("toy", settings, Path(__file__))
    complete(folder, [Product(n) for n in range(jobs)], Multiply(settings.factor), workers)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
