"""``python -m benchmarks.agent_share``: what an agent takes of a search at the shortest evaluation.

The updates of DDPG, TD3 and SAC are written out in NumPy (``agents.rl.numpy_updates``). Searches
with them and with stable-baselines3's own take turns on one core, and a table shows the agent's
share of the time with either: a share that differs by less than a point is not worth the code.
"""

import time
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import agents
from agents.rl.numpy_updates.deterministic import WrittenOutUpdates
from agents.rl.numpy_updates.stochastic import WrittenOutSAC
from envs import NetworkTask, Problem
from experiments.records.machine import machine
from experiments.records.wording import aligned
from pfrl.cost import Budget
from pfrl.cpu import core_pool
from pfrl.evaluation.config import EpisodeConfig
from pfrl.models.catalogue import pretrained_path

NAMES = ("ddpg", "td3", "sac")
SEEDS = (0, 1, 2)
EPISODES = 60
WARM_UP = 8
"""Episodes of a search before those that are timed: it imports and compiles."""


class Spent(NamedTuple):
    """Seconds of a search."""

    agent: float
    """All that is not evaluation: the environment's decisions too."""
    evaluation: float

    @property
    def share(self) -> float:
        """The agent's, in percent."""
        return 100 * self.agent / (self.agent + self.evaluation)


def problem() -> Problem:
    """30 % of the MACs of ResNet-8 on the digits, evaluated after a reconstruction alone."""
    episode = EpisodeConfig(fidelity="reconstruct")
    task = NetworkTask("resnet8", "digits", str(pretrained_path("resnet8", "digits")))
    task = NetworkTask(task.model, task.data, task.weights, episode=episode)
    return Problem(task, budget=Budget("macs", 0.3, True))


def spent(name: str, episodes: int, seed: int, library: bool) -> Spent:
    """Search once, with the updates of the library or those in NumPy."""
    WrittenOutUpdates._library = WrittenOutSAC._library = library
    start = time.perf_counter()
    history = agents.search(name, problem(), episodes, seed).history
    elapsed = time.perf_counter() - start
    evaluation = sum(episode.evaluation.seconds for episode in history)
    return Spent(elapsed - evaluation, evaluation)


def compare(name: str) -> tuple[list[Spent], list[Spent]]:
    """Searches of an agent with the library's updates and in NumPy, a pair for every seed."""
    agents.load(name)
    for library in (True, False):
        spent(name, WARM_UP, 0, library)
    pairs = [(spent(name, EPISODES, n, True), spent(name, EPISODES, n, False)) for n in SEEDS]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def row(name: str, library: Sequence[Spent], numpy: Sequence[Spent]) -> list[str]:
    """Medians over the seeds."""
    shares = [median(each.share for each in found) for found in (library, numpy)]
    episode = [1000 * median(each.agent for each in found) / EPISODES for found in (library, numpy)]
    evaluation = 1000 * median(each.evaluation for each in (*library, *numpy)) / EPISODES
    points = median(a.share - b.share for a, b in zip(library, numpy, strict=True))
    return [
        name,
        f"{shares[0]:.1f} %",
        f"{shares[1]:.1f} %",
        f"{points:.1f}",
        f"{episode[0]:.1f} ms",
        f"{episode[1]:.1f} ms",
        f"{evaluation:.1f} ms",
    ]


def main() -> None:
    """Measure every agent in a process on one core, and print the table."""
    head = ["agent", "library", "NumPy", "points", "library", "NumPy", "evaluation"]
    # core_pool makes processes that have one core and one thread each.
    pool = core_pool(1)
    try:
        rows = [row(name, *pool.submit(compare, name).result()) for name in NAMES]
    finally:
        pool.shutdown(cancel_futures=True)
    facts = machine()
    print(f"{facts['cpu']}, one core; {len(SEEDS)} seeds, {EPISODES} episodes")
    print("the agent's share of a search, the difference, and times of an episode:")
    print(aligned([head, *rows]))


if __name__ == "__main__":
    main()
