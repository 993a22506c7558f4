"""Many policies evaluated at once: by worker processes of one core each, or here one by one."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.queues import Queue

import jax
import threadpoolctl

from envs.problem import Problem, ProblemError
from pfrl.cpu import take_core
from pfrl.evaluate import Evaluation
from pfrl.policy import Policy


def cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class Judges:
    """Evaluates batches of policies of one problem.

    A worker opens the problem when the first policies come, once, and is kept until
    ``close``: XLA compiles in each of them. Each policy is evaluated alone; nothing is
    batched over policies inside a compiled function. On a GPU or TPU the evaluations
    are made one after the other by this process, for several would share the device.

    The accuracy of a policy does not depend on who evaluates it, unless an evaluation
    stops early (``EpisodeConfig.early_stop``: every worker compares with what it has seen
    itself) or chooses its backend by what is faster (``validation='auto'``).

    Args:
      problem: whose policies.
      evaluate: judges a policy in this process.
      workers: processes; 1 is this one.

    Raises:
      ProblemError: if there is not at least one worker, or more than one and no CPU.
    """

    def __init__(self, problem: Problem, evaluate: Callable[[Policy], Evaluation], workers: int):
        if workers < 1:
            raise ProblemError(f"workers is a whole number from 1; got {workers}")
        if workers > 1 and jax.default_backend() != "cpu":
            raise ProblemError(
                f"workers share out the cores of a CPU, and JAX uses the {jax.default_backend()};"
                " take workers=1"
            )
        self._evaluate = evaluate
        self._pool = None
        if workers > 1:
            self._pool = _pool(problem, workers)

    def __call__(self, policies: Sequence[Policy]) -> list[Evaluation]:
        """The evaluations, in the order of the policies."""
        judge = map if self._pool is None else self._pool.map
        return list(judge(self._evaluate if self._pool is None else _judge, policies))

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def usual_workers(policies: int) -> int:
    """A worker for every core, but not more than there are policies; on a GPU or TPU one."""
    return min(policies, len(cores())) if jax.default_backend() == "cpu" else 1


def _pool(problem: Problem, workers: int) -> ProcessPoolExecutor:
    # A forked copy of a process in which XLA's threads run may wait for one of them for ever.
    context = multiprocessing.get_context("spawn")
    free: Queue[int] = context.Queue()
    own = cores()
    for number in range(workers):
        free.put(own[number % len(own)])
    return ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(free, problem))


_open: list[Problem] = []
"""In a worker, the one problem whose policies it evaluates."""


def _begin(free: "Queue[int]", problem: Problem) -> None:
    take_core(free.get())
    threadpoolctl.threadpool_limits(1)
    _open.append(problem)


def _judge(policy: Policy) -> Evaluation:
    return _open[0].open().evaluate(policy)
