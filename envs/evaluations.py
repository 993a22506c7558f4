"""Many policies evaluated side by side: by a process on every core, or on a device in one go."""

from collections.abc import Sequence
from dataclasses import replace

import jax

from envs.problem import Problem, ProblemError
from pfrl.compression.policy import Policy
from pfrl.cpu import core_pool, cores
from pfrl.cpu.backend import evaluates_at_once
from pfrl.evaluation.config import Evaluation


class Evaluations:
    """Evaluates batches of policies of one problem.

    A worker opens the problem when the first policies come, once, and is kept until
    ``close``: XLA compiles in each of them. On a GPU or TPU, which processes would have to
    share, this process evaluates all policies in one compiled function (``vmapped``).

    The accuracy of a policy does not depend on who evaluates it, unless an evaluation
    stops early (``EpisodeConfig.early_stop``: every worker compares with what it has seen
    itself). Policies that are evaluated in one function may get an image more or less right, by
    rounding, and some after many steps of fine-tuning. Evaluations on record are not made again.

    Args:
      problem: whose policies.
      workers: processes; 1 is this one.
      vmapped: whether one function evaluates all; None chooses by the device.

    Raises:
      ProblemError: if there is not at least one worker, or more than one and no CPU, or one
        function is to evaluate all and there are workers.
    """

    def __init__(self, problem: Problem, workers: int, vmapped: bool | None = None):
        if workers < 1:
            raise ProblemError(f"workers is a whole number from 1; got {workers}")
        if workers > 1 and jax.default_backend() != "cpu":
            raise ProblemError(
                f"workers share out the cores of a CPU, and JAX uses the {jax.default_backend()};"
                " take workers=1"
            )
        if vmapped and workers > 1:
            raise ProblemError(
                "policies are evaluated in one function by one worker; take workers=1, or leave"
                " out vmapped"
            )
        self._evaluator = problem.open().evaluator
        self._at_once = evaluates_at_once(jax.default_backend()) if vmapped is None else vmapped
        self._pool = None
        if workers > 1:
            # As this process does, so that workers do not measure anew which runtime is fastest.
            alike = problem.task.judged_by(self._evaluator.choice.runtime)
            self._pool = core_pool(workers, _take, replace(problem, task=alike))

    def __call__(self, policies: Sequence[Policy]) -> list[Evaluation]:
        """The evaluations, in the order of the policies."""
        if self._pool is not None:
            return self._evaluator.evaluate_batch(policies, self._by_workers)
        if self._at_once:
            return self._evaluator.evaluate_batch(policies)
        return [self._evaluator.evaluate(policy) for policy in policies]

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _by_workers(self, policies: Sequence[Policy]) -> list[Evaluation]:
        assert self._pool is not None
        return list(self._pool.map(_evaluate, policies))


def usual_workers(policies: int) -> int:
    """A worker for every core, but not more than there are policies; on a GPU or TPU one."""
    return min(policies, len(cores())) if jax.default_backend() == "cpu" else 1


_open: list[Problem] = []
"""In a worker, the one problem whose policies it evaluates."""


def _take(problem: Problem) -> None:
    _open.append(problem)


def _evaluate(policy: Policy) -> Evaluation:
    return _open[0].open().evaluator.evaluate(policy)
