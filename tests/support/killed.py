"""A search on the toy problem that is killed at random moments; a program of its own.

``python -m tests.support.killed FOLDER AGENT:KILLS ...`` writes ``whole.jsonl``, of a search that
nobody disturbed, and ``killed.jsonl``, of one whose process was killed and started again and again.
"""

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

import agents.rl.ddpg  # noqa: F401  (loads the slow libraries)
from envs import OpenedTask, Problem, Task
from experiments.run.recorded import recorded_search
from pfrl.compression.policy import Policy
from pfrl.cost import Budget
from pfrl.evaluation.config import Evaluation
from tests.support.killing import finish, kill_often
from tests.support.toy import ToyTask, opened

EPISODES = 40


@dataclass(frozen=True)
class SlowTask(Task):
    """The toy's task, whose evaluations take some milliseconds."""

    def open(self) -> OpenedTask:
        graph, costs, evaluator, _ = ToyTask().open()

        def evaluate(policy: Policy) -> Evaluation:
            time.sleep(0.005)
            return evaluator.evaluate(policy)

        return opened(graph, costs, evaluate)


PROBLEM = Problem(SlowTask(), ("keep",), Budget.parse("macs=0.5"))


def search(agent: str, history: Path) -> None:
    """Begin, or go on."""
    recorded_search(agent, PROBLEM, EPISODES, 7, history)


def main(folder: Path, agent: str, kills: int) -> None:
    """Write the files ``AGENT-KILLS/{whole,killed}.jsonl``."""
    whole, killed = (folder / f"{agent}-{kills}" / f"{name}.jsonl" for name in ("whole", "killed"))
    finish(partial(search, agent, whole))
    more = range(max(2, EPISODES // kills))
    kill_often(partial(search, agent, killed), killed, kills, more, EPISODES, seed=0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    PROBLEM.open()
    for words in sys.argv[2:]:
        name, count = words.split(":")
        main(Path(sys.argv[1]), name, int(count))
