"""Rewards: functions of an evaluation and of the base network, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pfrl.registry import Registry, register

if TYPE_CHECKING:  # settings read which rewards there are
    from pfrl.evaluation.config import Evaluation


class Reference(NamedTuple):
    """What rewards compare with: the base network and, for 'latency', the target and exponent."""

    accuracy: float
    costs: Mapping[str, float]
    latency_target: float
    latency_exponent: float


@dataclass(frozen=True)
class Reward:
    """What an agent maximizes, as ``pfrl.register("reward", name, ...)`` takes it.

    A bare function will do where nothing but accuracy and the usual costs is needed.
    """

    function: Callable[[Evaluation, Reference], float]
    """Of an evaluation that did not diverge; its docstring is the reward's wording."""
    needs: tuple[str, ...] = ()
    """Cost metrics that the reward is computed from, such as latency. Candidates of equal accuracy
    are told apart by the first one."""

    @property
    def wording(self) -> str:
        """One sentence about it."""
        return (self.function.__doc__ or self.function.__name__).strip().split("\n")[0]


REWARDS: Registry[Reward] = Registry(
    "reward",
    ("envs.rewards",),
    read=lambda item: item if isinstance(item, Reward) else Reward(item),
)
"""The rewards by name."""


@register("reward", "accuracy")
def accuracy(evaluation: Evaluation, base: Reference) -> float:
    """Accuracy on the search split, in [0, 1]."""
    return evaluation.accuracy


@register("reward", "-error")
def negative_error(evaluation: Evaluation, base: Reference) -> float:
    """``-(1 - accuracy)``: AMC's reward under a budget (arXiv 1802.03494, section 3.3)."""
    return evaluation.accuracy - 1


def negative_error_log_macs(evaluation: Evaluation, base: Reference) -> float:
    """``-(1 - accuracy) · ln(MACs)``: AMC's accuracy-guaranteed reward, equation 4."""
    return (evaluation.accuracy - 1) * math.log(evaluation.costs["macs"])


register("reward", "-error*log(macs)", Reward(negative_error_log_macs, needs=("macs",)))


@register("reward", "haq")
def haq(evaluation: Evaluation, base: Reference) -> float:
    """``0.1 · (accuracy - base accuracy)`` in percent (HAQ, arXiv 1811.08886, equation 5)."""
    return 0.1 * 100 * (evaluation.accuracy - base.accuracy)


def latency(evaluation: Evaluation, base: Reference) -> float:
    """``accuracy · (latency / target)^w``: MnasNet's soft constraint (arXiv 1807.11626, eq. 2)."""
    ratio = evaluation.costs["latency"] / base.latency_target
    return evaluation.accuracy * ratio**base.latency_exponent


register("reward", "latency", Reward(latency, needs=("latency",)))


def absolute(evaluation: Evaluation, base: Reference) -> float:
    """``accuracy + w · |latency / target - 1|`` (TuNAS, arXiv 2008.06120; Galen, 2212.07818)."""
    off = abs(evaluation.costs["latency"] / base.latency_target - 1)
    return evaluation.accuracy + base.latency_exponent * off


register("reward", "absolute", Reward(absolute, needs=("latency",)))


def reward_of(
    name: str,
    evaluation: Evaluation,
    base: Reference,
    above: tuple[str, float] | None = None,
) -> float:
    """The reward of an evaluation; of a diverged one the lowest that there is.

    That is the reward of accuracy 0 at the base network's costs, which no
    policy that yields an answer at all falls below.

    Args:
      name: of the reward.
      evaluation: of a policy.
      base: what rewards compare with.
      above: a metric and its limit, if the share by which a cost exceeds it is taken off.
    """
    if evaluation.diverged:
        evaluation = evaluation._replace(accuracy=0.0, costs=dict(base.costs))
    reward = REWARDS[name].function(evaluation, base)
    if above is None:
        return reward
    metric, limit = above
    return reward - max(evaluation.costs[metric] / limit - 1, 0.0)
