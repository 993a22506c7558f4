"""Memory of a search in a process of its own: its peak, and whether it grows with the episodes.

python -m benchmarks.memory --episodes 400
"""

import resource
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

import tyro

import agents
from envs import NetworkTask, Problem
from experiments.records.wording import aligned, number
from experiments.run.inputs import find_weights
from experiments.settings.blocks import NetworkBlock
from pfrl.bounds import Count
from pfrl.cost import Budget
from pfrl.cpu import keep_memory
from pfrl.cpu.process import resident
from pfrl.evaluation.config import EpisodeConfig, Fidelity


@dataclass(frozen=True)
class MemorySettings:
    """Follow the memory of a search for half the MACs."""

    model: str = "resnet8"
    """Name in the zoo."""
    data: str = "digits"
    """Data set, as of 'pfrl compress'."""
    weights: Path | None = None
    """Trained weights (.npz). Default: those that come with the package for this model and data."""
    fidelity: Fidelity = "reconstruct"
    """Of the evaluations; by default the one with the least work, so that episodes are many."""
    agent: str = "ddpg"
    """Who searches; 'random' tells what evaluations take without an agent."""
    episodes: Count = 400
    """Of the search; four at least."""
    seed: int = 0
    """Of the search."""


class Memory(NamedTuple):
    """What a search takes, in MiB.

    Attributes:
      episodes: of the search.
      peak: largest resident memory of its process.
      early, late: resident memory after an episode, the medians over the second quarter of them
        and over the last one.
      growth: in a hundred episodes, from the middle of the one quarter to that of the other.
    """

    episodes: int
    peak: float
    early: float
    late: float
    growth: float


def measure_memory(settings: MemorySettings) -> Memory:
    """Play the search in a fresh process, which keeps what it frees as those of ``pfrl`` do.

    Raises:
      ModelError, DataError: if there are no such weights or data.
    """
    weights = find_weights(NetworkBlock(settings.model, settings.data, weights=settings.weights))
    task = NetworkTask(
        settings.model,
        settings.data,
        str(weights),
        settings.seed,
        episode=EpisodeConfig(fidelity=settings.fidelity),
    )
    problem = Problem(task, budget=Budget.parse("macs=0.5"), round_to=4)
    with ProcessPoolExecutor(1, get_context("spawn"), keep_memory) as pool:
        asked = (problem, settings.agent, settings.episodes, settings.seed)
        return summarize(*pool.submit(follow, *asked).result())


def follow(problem: Problem, agent: str, episodes: int, seed: int) -> tuple[list[float], float]:
    """Resident memory after every episode of a search in this process, and the peak, in MiB."""
    found: list[float] = []
    agents.search(
        agent, problem, episodes, seed, lambda episode: found.append(resident() / 2**20 or peak())
    )
    # The system counts the one a little later than the other.
    return found, max(peak(), *found)


def summarize(found: Sequence[float], most: float) -> Memory:
    """Of the memory after each episode and the peak; the first quarter is left out, for programs
    and an agent's memory come with it."""
    quarter = max(len(found) // 4, 1)
    early, late = median(found[quarter : 2 * quarter] or found), median(found[-quarter:])
    between = max(len(found) - 2 * quarter, 1)
    return Memory(len(found), most, early, late, 100 * (late - early) / between)


def peak() -> float:
    """Largest resident memory of this process so far in MiB; Linux counts KiB, macOS bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def describe_memory(settings: MemorySettings, found: Memory) -> str:
    """A title and a line for each number."""
    rows = [
        ("peak", number(found.peak)),
        ("after an episode of the second quarter, median", number(found.early)),
        ("after one of the last quarter, median", number(found.late)),
        ("growth in a hundred episodes", number(found.growth)),
    ]
    return (
        f"Memory of a search in its own process, MiB: {settings.model} on {settings.data},"
        f" {settings.fidelity}, {found.episodes} episodes of {settings.agent}\n{aligned(rows)}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m benchmarks.memory``."""
    settings = tyro.cli(MemorySettings, prog="python -m benchmarks.memory", args=arguments)
    print(describe_memory(settings, measure_memory(settings)))


if __name__ == "__main__":
    main()
