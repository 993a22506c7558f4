"""Many policies evaluated at once: by a process on every core of a CPU, or on a device together."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax

from envs.problem import Problem, ProblemError
from envs.task import NetworkTask
from pfrl.compression.policy import Policy
from pfrl.cpu import core_pool, cores
from pfrl.evaluation.evaluator import Evaluation
from pfrl.training.backend import judges_together


class Judges:
    """Evaluates batches of policies of one problem.

    A worker opens the problem when the first policies come, once, and is kept until
    ``close``: XLA compiles in each of them. On a GPU or TPU, which processes would have to
    share, this process evaluates all policies in one compiled function (``vmapped``), if what
    evaluates can: it has a method ``together(policies)``, as
    ``pfrl.evaluation.evaluator.Evaluator`` has.

    The accuracy of a policy does not depend on who evaluates it, unless an evaluation
    stops early (``EpisodeConfig.early_stop``: every worker compares with what it has seen
    itself). Policies that are evaluated in one function may get an image more or less right, by
    rounding, and some after many steps of fine-tuning. Evaluations that ``evaluate`` has on
    record are not made again.

    Args:
      problem: whose policies.
      evaluate: judges a policy in this process.
      workers: processes; 1 is this one.
      vmapped: whether one function evaluates all; None chooses by the device.

    Raises:
      ProblemError: if there is not at least one worker, or more than one and no CPU, or one
        function is to evaluate all and there are workers, or nothing that could.
    """

    def __init__(
        self,
        problem: Problem,
        evaluate: Callable[[Policy], Evaluation],
        workers: int,
        vmapped: bool | None = None,
    ):
        if workers < 1:
            raise ProblemError(f"workers is a whole number from 1; got {workers}")
        if workers > 1 and jax.default_backend() != "cpu":
            raise ProblemError(
                f"workers share out the cores of a CPU, and JAX uses the {jax.default_backend()};"
                " take workers=1"
            )
        together = getattr(evaluate, "together", None)
        if vmapped and (together is None or workers > 1):
            raise ProblemError(
                "policies are evaluated in one function by one worker, and by an evaluator that"
                " can; take workers=1 and a task of pfrl, or leave out vmapped"
            )
        if vmapped is None:
            vmapped = judges_together(jax.default_backend())
        self._together = together if vmapped else None
        self._evaluate = evaluate
        self._pool = None
        if workers > 1:
            self._pool = core_pool(workers, _take, _as_chosen(problem, evaluate))

    def __call__(self, policies: Sequence[Policy]) -> list[Evaluation]:
        """The evaluations, in the order of the policies."""
        if self._together is not None:
            return self._together(policies)
        if self._pool is None:
            return [self._evaluate(policy) for policy in policies]
        recorded = getattr(self._evaluate, "recorded", lambda policy: None)
        known = [recorded(policy) for policy in policies]
        left = [p for p, found in zip(policies, known, strict=True) if found is None]
        judged = self._pool.map(_judge, left)
        return [next(judged) if found is None else found for found in known]

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def usual_workers(policies: int) -> int:
    """A worker for every core, but not more than there are policies; on a GPU or TPU one."""
    return min(policies, len(cores())) if jax.default_backend() == "cpu" else 1


def _as_chosen(problem: Problem, evaluate: Any) -> Problem:
    """The problem with the backend that this process chose, so that workers do not choose anew."""
    choice, task = getattr(evaluate, "choice", None), problem.task
    if choice is None or not isinstance(task, NetworkTask):
        return problem
    episode = replace(task.episode, validation=choice.backend)
    return replace(problem, task=replace(task, episode=episode))


_open: list[Problem] = []
"""In a worker, the one problem whose policies it evaluates."""


def _take(problem: Problem) -> None:
    _open.append(problem)


def _judge(policy: Policy) -> Evaluation:
    return _open[0].open().evaluate(policy)
