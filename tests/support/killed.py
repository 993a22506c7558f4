"""A search on the toy problem that is killed at random moments; a program of its own.

``python -m tests.support.killed FOLDER AGENT KILLS`` writes ``whole.jsonl``, of a search that
nobody disturbed, and ``killed.jsonl``, of one whose process was killed and started again and again.
It forks after everything is loaded, so that a start costs nothing.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import agents.rl.ddpg  # noqa: F401  (loads the slow libraries)
from envs import OpenedTask, Problem, Task
from experiments.run.recorded import recorded_search
from pfrl.compression.policy import Policy
from pfrl.cost import Budget
from pfrl.evaluation.config import Evaluation
from tests.support.toy import ToyTask, opened

EPISODES = 40
JITTER = 0.03
"""Seconds, at the most, between the last episode that a process is granted and its end."""


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


def start(agent: str, history: Path) -> int:
    """Begin, or go on, in a process of its own; its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            recorded_search(agent, PROBLEM, EPISODES, 7, history)
            code = 0
        finally:
            os._exit(code)
    return child


def lines_of(history: Path) -> int:
    return history.read_bytes().count(b"\n") if history.exists() else 0


def finish(child: int) -> None:
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise SystemExit(f"the search ended with status {status}")


def main(folder: Path, agent: str, kills: int) -> None:
    torch.set_num_threads(1)
    PROBLEM.open()
    finish(start(agent, folder / "whole.jsonl"))
    rng, history = np.random.default_rng(0), folder / "killed.jsonl"
    for _ in range(kills):
        child = start(agent, history)
        granted = min(lines_of(history) + int(rng.integers(0, max(2, EPISODES // kills))), EPISODES)
        while lines_of(history) < granted:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, JITTER))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    finish(start(agent, history))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
