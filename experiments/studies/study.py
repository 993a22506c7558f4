"""A study: jobs shared out among processes of one core each, every finished one on disk.

XLA's convolutions on a small network hardly use a second core, so two processes do nearly
twice the work of one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from envs import NetworkTask, Problem
from experiments.records.history import Line
from experiments.records.run_folder import VALIDATION, RunFolder
from experiments.settings.blocks import NetworkBlock, SpaceBlock
from experiments.watch.progress import say, stage
from pfrl.compression.recipe import Recipe
from pfrl.cost import Budget
from pfrl.cpu import core_pool, cores
from pfrl.evaluation.config import EpisodeConfig

Given = TypeVar("Given")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=NamedTuple)


class Searches(Protocol):
    """Settings of a study that searches policies."""

    @property
    def network(self) -> NetworkBlock: ...
    @property
    def space(self) -> SpaceBlock: ...
    @property
    def episode(self) -> EpisodeConfig: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def out(self) -> Path: ...


def task_of(
    settings: Searches, weights: str, seed: int = 0, latency: Path | None = None
) -> NetworkTask:
    """The network and the data of a study, whose searches share evaluator and cache.

    Args:
      settings: of the study.
      weights: path of the base network's.
      seed: of the batches that evaluations are fine-tuned on.
      latency: a measured latency table, if latency matters.
    """
    return NetworkTask(
        settings.network.model,
        settings.network.data,
        weights,
        seed,
        episode=settings.episode,
        recipe=settings.recipe,
        latency_table=None if latency is None else str(latency),
        cache=str(settings.out / "evaluations.sqlite"),
        **settings.space.opened(),
    )


def judged_alike(folder: RunFolder, task: NetworkTask) -> EpisodeConfig:
    """The episodes of a study, judged by the runtime that was chosen when it began.

    Measured while no job runs beside it, for all processes and later starts.

    Args:
      folder: of the study; it is begun here.
      task: whose evaluations, as the study's settings describe them.
    """
    folder.begin()
    if task.episode.validation != "auto":
        return task.episode
    with stage("measuring which runtime judges"):
        chosen = folder.kept(VALIDATION, lambda: task.open().evaluator.choice._asdict())
    return task.judged_by(chosen["runtime"]).episode


def problem_of(
    settings: Searches, task: NetworkTask, target: str, reward: str = "accuracy"
) -> Problem:
    """The problem of one budget.

    Args:
      settings: of the study.
      task: as of ``task_of``.
      target: the budget, such as 'macs=0.5'.
      reward: what episodes are rewarded by.

    Raises:
      BudgetError, ProblemError: if it is no budget, or the search space makes no sense.
    """
    return Problem(task, budget=Budget.parse(target), reward=reward, **settings.space.bounds())


def complete(
    folder: RunFolder,
    jobs: Sequence[Key],
    work: Callable[[Key], dict[str, Any]],
    workers: int = 0,
    noun: str = "jobs",
) -> list[Line]:
    """Do those jobs that the folder does not hold yet; started again, it goes on from there.

    A finished job is one line: the job's fields, by which it is known again, and what ``work``
    found. Lines of jobs that nobody asks for now stay.

    Args:
      folder: of the study; it is begun here.
      jobs: all jobs, each with a key of plain values; begun in this order.
      work: with more than one worker, a function that can be pickled.
      workers: processes, each on a core of its own; 0 is one a core. With 1 this process works.
      noun: what a job is called while one waits.

    Returns:
      The lines of the jobs, in their order, and of others that an earlier command asked for.

    Raises:
      FileError: if the folder cannot be written to; what ``work`` raises.
    """
    folder.begin()

    def key(line: Line) -> Any:
        return type(jobs[0])._make(line[name] for name in jobs[0]._fields)

    done = {key(line) for line in folder.recorded}
    left = [job for job in jobs if job not in done]
    workers = min(workers or len(cores()), max(len(left), 1))
    say(f"{len(left)} of {len(jobs)} {noun}")
    with stage(noun, len(left), noun) as progress:
        lines = share_out(partial(_line, work), left, workers)
        for number, line in enumerate(lines, 1):
            folder.append(line)
            folder.recorded.append(line)
            progress(number, len(left))
    place = {job: number for number, job in enumerate(jobs)}
    return sorted(folder.recorded, key=lambda line: place.get(key(line), len(jobs)))


def _line(work: Callable[[Any], dict[str, Any]], job: Any) -> Line:
    return {**job._asdict(), **work(job)}


def share_out(
    function: Callable[[Given], Result], tasks: Iterable[Given], workers: int
) -> Iterator[Result]:
    """Results of ``function(task)``, each as soon as it is there.

    Tasks are begun in their order. Where one fails, its error is raised here and no other is
    begun.

    Args:
      function: with more than one worker, one that can be pickled, as its tasks and results.
      tasks: what there is to do.
      workers: processes, each on a core of its own; with 1 this process does it.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    pool = core_pool(workers)
    try:
        for future in as_completed([pool.submit(function, task) for task in tasks]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
