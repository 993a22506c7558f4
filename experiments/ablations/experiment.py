"""What an experiment is: a question of a paper as data, and the registry of all by name.

An experiment is a table: a row is a *cell*, which is repeated under several seeds. What all cells
have in common at a scale is one ``Shared``; a cell says what differs. How a job is done is
one function, most often the ``search`` of ``works/searching.py``. A user's file registers more::

    pfrl.register("experiment", "kappa", Experiment(...))
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from experiments.report.studies.layout import Column, Layout
from experiments.settings.blocks import SettingsError
from experiments.studies.sweep.settings import SweepSettings
from pfrl.registry import Registry

Scale = Literal["smoke", "small", "paper"]
"""Seconds in CI; minutes to two hours on two cores; the paper's own setting, on a GPU."""
SCALES: tuple[Scale, ...] = ("smoke", "small", "paper")


class Shared(SweepSettings):
    """What all cells of an experiment have in common: settings of a sweep, of which budgets decide
    about results."""

    FREE: ClassVar = ("agents", "seeds", "launch", "out")


class Job(NamedTuple):
    """One job: a cell under a seed."""

    cell: str
    seed: int


SEARCHED = (
    Column("search_accuracy", unit="share"),
    Column("test_accuracy", "test accuracy after fine-tuning", "share", compared=True),
)
"""What most experiments compare: before fine-tuning on search images, and after it on the test
images."""


@dataclass(frozen=True)
class Cell:
    """A row of the table: what differs there from the settings that all cells share."""

    name: str
    agent: str = "ddpg"
    """Who searches, where the cell searches."""
    options: Any = None
    """Of the agent; None takes its defaults."""
    target: str | None = None
    """The budget, 'none' is no budget; None is the first target of the settings."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """By the path to a setting, such as 'episode.fidelity', its value in this cell."""
    problem: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``envs.Problem`` that the settings do not have."""


class Context(NamedTuple):
    """What the jobs of one run of an experiment share; can be pickled."""

    name: str
    """Of the experiment."""
    settings: Shared
    """What all cells have in common; ``out`` is the folder of the run."""
    weights: str
    """Path of the base network's."""
    latency: Path | None = None
    """A measured latency table, if the experiment predicts latencies."""

    def cell(self, name: str) -> Cell:
        """The cell of that name."""
        cells = EXPERIMENTS[self.name].cells(self.settings)
        return next(cell for cell in cells if cell.name == name)


SEARCH = "experiments.ablations.works.searching:search"


@dataclass(frozen=True)
class Experiment:
    """A question, and how it is answered: as many searches or trainings as cells times seeds."""

    title: str
    """In a few words."""
    paper: str
    table: str
    """Of the paper, or where else it stands there."""
    claim: str
    """What is tested, one sentence that can turn out false."""
    scales: Mapping[Scale, Shared]
    """What all cells have in common; scales differ in the numbers alone."""
    cells: Callable[[Shared], Sequence[Cell]]
    """The rows, of the settings of a scale; their names are different."""
    columns: tuple[Column, ...]
    """What is compared, the first one seed by seed."""
    against: str
    """The cell that the others are compared with, seed by seed."""
    tasks: bool = False
    """Whether cells are compared target by target, and named by their agent there."""
    work: Callable[[Context, Job], dict[str, Any]] | str = SEARCH
    """Does a job, or where the function is ('module:function'), so that it is imported late."""
    derive: str = ""
    """Where a function is that fills in what needs the lines of several jobs: list to list."""
    latency: bool = False
    """Whether latencies are predicted, and so the base network's layers measured at the start."""
    alone: bool = False
    """Whether a job measures latencies, so that none may run beside it."""
    limits: int = 1
    """At how many limits a job searches, each with the evaluations of the settings."""
    lacks: str = ""
    """What the framework does not have yet of what the paper compares."""

    @property
    def layout(self) -> Layout:
        """How lines become tables."""
        cell, task = (("agent",), ("target",)) if self.tasks else (("cell",), ())
        return Layout(cell, self.columns, task, (self.against,))

    def jobs(self, settings: Shared, seeds: int) -> list[Job]:
        """All of them, seed by seed, so that what is there early is a comparison already."""
        names = [cell.name for cell in self.cells(settings)]
        return [Job(name, seed) for seed in range(seeds) for name in names]


EXPERIMENTS: Registry[Experiment] = Registry("experiment", ("experiments.ablations.papers",))
"""The experiments by name."""


def do(context: Context, job: Job) -> dict[str, Any]:
    """A job's results: what its line says besides the job. ``partial(do, context)`` is pickled."""
    work = EXPERIMENTS[context.name].work
    return (found(work) if isinstance(work, str) else work)(context, job)


def found(place: str) -> Callable[..., Any]:
    """The function at 'module:function'."""
    module, name = place.split(":")
    return getattr(import_module(module), name)


def changed(settings: Any, changes: Mapping[str, Any]) -> Any:
    """A dataclass with other values at some paths, such as ``{"episode.fidelity": "finetune"}``.

    Raises:
      SettingsError: if there is no such setting.
    """
    for path, value in changes.items():
        first, _, rest = path.partition(".")
        if first not in {each.name for each in fields(settings)}:
            raise SettingsError(f"{type(settings).__name__} has no setting '{first}'")
        inner = changed(getattr(settings, first), {rest: value}) if rest else value
        settings = replace(settings, **{first: inner})
    return settings
