"""A study: jobs shared out among workers of one core each, every finished one on disk.

XLA's convolutions on a small network hardly use a second core, so two processes do nearly
twice the work of one.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from operator import eq
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple, Protocol, TypeVar

from envs import NetworkTask, Problem
from envs.task import read_latency
from experiments.launch.opened import opened
from experiments.launch.running import carry_out
from experiments.records.history import Line
from experiments.records.run_folder import VALIDATION, RunFolder
from experiments.records.wording import DASH, aligned, duration
from experiments.run.latency import LATENCY_FILE, latency_in
from experiments.settings.blocks import NetworkBlock, SpaceBlock
from experiments.settings.launching import LaunchBlock
from experiments.watch.jobs import write_job
from experiments.watch.progress import say, stage
from experiments.watch.runs import RunsTable
from pfrl.compression.recipe import Recipe
from pfrl.cost import Budget
from pfrl.cost.latency import NetworkLatency
from pfrl.evaluation.config import EpisodeConfig
from pfrl.files import locked
from pfrl.graph import Graph

LOCKS = ".locks"
"""Folder of what says that a job is being worked on."""
ONE_PER_CORE = LaunchBlock()
ONE_BY_ONE = LaunchBlock(workers=1)

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


def latency_of(
    settings: Searches, folder: RunFolder, graph: Graph, task: NetworkTask, seed: int = 0
) -> NetworkLatency:
    """The latency model of a study's searches: its folder's, or one that is measured now.

    Args:
      settings: of the study.
      folder: of it; nothing is written there.
      graph, task: of the base network.
      seed: of what is measured.
    """
    path = folder.path / LATENCY_FILE
    if folder.begun and path.exists():
        return read_latency(graph, path)
    return latency_in(settings.space, graph, task, seed)


def keep_latency(folder: RunFolder, model: NetworkLatency) -> Path:
    """Begin a study's folder with its latency model, if that is not there yet; its path."""
    folder.begin()
    folder.kept(LATENCY_FILE, model.to_json)
    return folder.path / LATENCY_FILE


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
    launch: LaunchBlock = ONE_PER_CORE,
    noun: str = "jobs",
    watched: bool = False,
) -> list[Line]:
    """Do those jobs that the folder does not hold yet; started again, it goes on from there.

    A finished job is one line: the job's fields, by which it is known again, what ``work`` found,
    and ``job_seconds`` that it took. Lines of jobs that nobody asks for now stay.

    Args:
      folder: of the study; it is begun here.
      jobs: all jobs, each with a key of plain values; begun in this order.
      work: with more than one worker, a function that can be pickled.
      launch: where, and how many at once. With one worker and no cluster this process works, and
        a job may depend on the lines before it.
      noun: what a job is called while one waits.
      watched: whether TensorBoard gets a run of each job. Searches write their own.

    Returns:
      The lines of the jobs, in their order, and of others that an earlier command asked for.

    Raises:
      SettingsError: if another process is at work in the folder.
      FileError: if the folder cannot be written to.
      LaunchError: if the jobs cannot be carried out there.
      Exception: what ``work`` raises; other jobs are done before, where they do not depend on it.
    """
    with folder.held():
        folder.begin()
        left, expected = _left(folder, jobs)
        say(f"{len(left)} of {len(jobs)} {noun}")
        if left:
            launcher = opened(launch, len(left))
            locks = folder.path / LOCKS
            with RunsTable([called(job) for job in left], noun, launcher.room, expected) as table:
                for number, line in carry_out(partial(_line, work, locks), left, launcher, table):
                    folder.append(line)
                    if watched:
                        write_job(folder.path, left[number], line)
                    folder.recorded.append(line)
            shutil.rmtree(locks, ignore_errors=True)
        folder.copy_out()
    place = {job: number for number, job in enumerate(jobs)}
    return sorted(folder.recorded, key=lambda line: place.get(_key(jobs, line), len(jobs)))


def show_plan(
    folder: RunFolder,
    jobs: Sequence[Key],
    launch: LaunchBlock,
    noun: str = "jobs",
    measured: Callable[[Key], float] | None = None,
) -> None:
    """Print which jobs ``complete`` would do, and how long it will take; nothing is written.

    Args:
      folder, jobs, launch, noun: as of ``complete``.
      measured: seconds of a job, about, asked where no job like it is finished.
    """
    folder.look()
    left, expected = _left(folder, jobs)
    if measured is not None and None in expected:
        with stage("finding out how long a job takes"):
            pairs = zip(left, expected, strict=True)
            expected = [measured(job) if known is None else known for job, known in pairs]
    times = dict(zip(left, expected, strict=True))
    rows = [("", "expected")]
    for job in jobs:
        rows.append((called(job), duration(times[job]) if job in times else "finished"))
    launcher = opened(launch, len(left))
    try:
        room = max(min(launcher.room(), len(left)), 1)
    finally:
        launcher.close()
    known = [each for each in expected if each is not None]
    where = "this machine" if launch.ray is None else f"the Ray cluster {launch.ray}"
    print(aligned(rows))
    print(f"{len(left)} of {len(jobs)} {noun} are left, {room} at once on {where}")
    if left and len(known) == len(left):
        print(f"about {duration(max(sum(known) / room, max(known)))} in all")
    elif left:
        print("how long is known when some are finished: ask again then")


def called(job: NamedTuple) -> str:
    """A job in a line of text: words as they are, numbers with what they are of."""
    parts = []
    for name, value in job._asdict().items():
        told = DASH if value is None else value
        parts.append(value if isinstance(value, str) else f"{name} {told}")
    return " ".join(parts)


def _key(jobs: Sequence[Key], line: Line) -> Key:
    return type(jobs[0])._make(line[name] for name in jobs[0]._fields)


def _left(folder: RunFolder, jobs: Sequence[Key]) -> tuple[list[Key], list[float | None]]:
    """The jobs that have no line, and what each will take: as long as those most like it took."""
    took = {_key(jobs, line): line.get("job_seconds") for line in folder.recorded}
    known = {job: seconds for job, seconds in took.items() if seconds is not None}
    left = [job for job in jobs if job not in took]

    def expected(job: Key) -> float | None:
        alike = {other: sum(map(eq, job, other)) for other in known}
        closest = max(alike.values(), default=0)
        return mean(known[other] for other in known if alike[other] == closest) if known else None

    return left, [expected(job) for job in left]


def _line(work: Callable[[Any], dict[str, Any]], locks: Path, job: Any) -> Line:
    # A worker whose command was killed may still be at its last step when the next one begins.
    digest = hashlib.sha256(repr(job).encode()).hexdigest()[:16]
    try:
        lock = locked(locks / digest, wait=True)
    except OSError:
        lock = None  # a file system without locks
    try:
        start = time.perf_counter()
        return {**job._asdict(), **work(job), "job_seconds": time.perf_counter() - start}
    finally:
        if lock is not None:
            lock.close()
