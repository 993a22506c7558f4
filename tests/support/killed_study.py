"""A study of toy jobs that is killed at random moments, in a process of its own.

``main(folder, jobs, workers, kills)`` starts it again after every kill, and at last to its end.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from experiments.records.run_folder import RunFolder
from experiments.settings.launching import LaunchBlock
from experiments.studies.study import complete
from tests.support.jobs import Multiply, Product
from tests.support.killing import kill_often


@dataclass(frozen=True)
class ToySettings:
    """Of the toy study."""

    FREE: ClassVar = ("out",)

    out: Path
    factor: int = 3


def study(out: Path, jobs: int, workers: int) -> None:
    """What is left of the jobs."""
    settings = ToySettings(out)
    folder = RunFolder("toy", settings, Path(__file__))
    complete(
        folder, [Product(n) for n in range(jobs)], Multiply(settings.factor), LaunchBlock(workers)
    )


def main(out: str, jobs: int, workers: int, kills: int) -> None:
    work = partial(study, Path(out), jobs, workers)
    kill_often(work, Path(out) / "results.jsonl", kills, range(1, 4), jobs, seed=workers)
