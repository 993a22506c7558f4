"""``python -m benchmarks.launching``: how many more runs two workers finish than one, a core each.

Run it on a machine that does nothing else. A run is a search of random policies for ResNet-8 on
the digits; the first one of every worker, which imports and compiles, is not counted.
"""

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from envs import NetworkTask, Problem
from experiments.launch.opened import at_work
from experiments.launch.running import carry_out
from experiments.records.machine import machine
from experiments.records.wording import aligned
from experiments.run.recorded import recorded_search
from experiments.settings.launching import LaunchBlock
from experiments.watch.runs import RunsTable
from pfrl.bounds import Count
from pfrl.cost import Budget
from pfrl.evaluation.config import EpisodeConfig
from pfrl.models.catalogue import pretrained_path


@dataclass(frozen=True)
class LaunchingSettings:
    """Runs a second of one worker and of several, in turns."""

    workers: Count = 2
    """How many are compared with one."""
    runs: Count = 6
    """Of every worker, besides its first."""
    episodes: Count = 20
    """Of a run."""
    rounds: Count = 3
    """How often one worker and several take turns."""
    ray: str | None = None
    """Address of a Ray cluster, in place of processes of this machine."""


class Span(NamedTuple):
    """When a run was worked on, in seconds, and by which process."""

    process: str
    start: float
    end: float


def search(task: tuple[int, int]) -> Span:
    """A run: ``(seed, episodes)``."""
    seed, episodes = task
    start = time.time()
    weights = str(pretrained_path("resnet8", "digits"))
    episode = EpisodeConfig(fidelity="reconstruct", validation="xla")
    problem = Problem(
        NetworkTask("resnet8", "digits", weights, episode=episode), budget=Budget("macs", 0.5, True)
    )
    with TemporaryDirectory() as folder:
        recorded_search("random", problem, episodes, seed, Path(folder) / "history.jsonl")
    return Span(f"{socket.gethostname()} {os.getpid()}", start, time.time())


def throughput(spans: Sequence[Span]) -> float:
    """Runs a second, while every worker is past its first run and none has ended its last."""
    of_workers: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start):
        of_workers.setdefault(span.process, []).append(span)
    begin = max(own[0].end for own in of_workers.values())
    end = min(own[-1].end for own in of_workers.values())
    done = sum(
        max(min(span.end, end) - max(span.start, begin), 0.0) / (span.end - span.start)
        for span in spans
    )
    return done / (end - begin)


def measured(settings: LaunchingSettings, workers: int) -> float:
    """Runs a second of so many workers."""
    tasks = [(seed, settings.episodes) for seed in range(workers * (settings.runs + 1))]
    launcher = at_work(LaunchBlock(workers, settings.ray))
    with RunsTable([f"seed {seed}" for seed, _ in tasks], "runs", launcher.room) as table:
        return throughput([done.result for done in carry_out(search, tasks, launcher, table)])


def main(settings: LaunchingSettings) -> None:
    rounds = [
        [measured(settings, n) for n in (1, settings.workers)] for _ in range(settings.rounds)
    ]
    rows: list[tuple[str, ...]] = [
        ("runs a minute", "1 worker", f"{settings.workers} workers", "ratio")
    ]
    for number, (one, several) in enumerate(rounds, 1):
        rows.append((f"round {number}", *(f"{60 * x:.1f}" for x in (one, several)),
                     f"{several / one:.2f}"))  # fmt: skip
    print(aligned(rows))
    ratio = median(several / one for one, several in rounds)
    print(f"median ratio {ratio:.2f}, on {machine()['cpu']}, {machine()['cores']} cores")
