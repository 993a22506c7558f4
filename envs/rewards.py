"""Rewards: functions of an evaluation and of the base network, by name."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pfrl.evaluation.config import Evaluation


class Reference(NamedTuple):
    """What rewards compare with: the base network and, for 'latency', the target and exponent."""

    accuracy: float
    costs: Mapping[str, float]
    latency_target: float
    latency_exponent: float


def accuracy(evaluation: Evaluation, base: Reference) -> float:
    """Accuracy on the search split, in [0, 1]."""
    return evaluation.accuracy


def negative_error(evaluation: Evaluation, base: Reference) -> float:
    """``-(1 - accuracy)``: AMC's reward under a budget (arXiv 1802.03494, section 3.3)."""
    return evaluation.accuracy - 1


def negative_error_log_macs(evaluation: Evaluation, base: Reference) -> float:
    """``-(1 - accuracy) · ln(MACs)``: AMC's accuracy-guaranteed reward, equation 4."""
    return (evaluation.accuracy - 1) * math.log(evaluation.costs["macs"])


def haq(evaluation: Evaluation, base: Reference) -> float:
    """``0.1 · (accuracy - base accuracy)`` in percent (HAQ, arXiv 1811.08886, equation 5)."""
    return 0.1 * 100 * (evaluation.accuracy - base.accuracy)


def latency(evaluation: Evaluation, base: Reference) -> float:
    """``accuracy · (latency / target)^w``: MnasNet's soft constraint (arXiv 1807.11626, eq. 2)."""
    ratio = evaluation.costs["latency"] / base.latency_target
    return evaluation.accuracy * ratio**base.latency_exponent


REWARDS: dict[str, Callable[[Evaluation, Reference], float]] = {
    "accuracy": accuracy,
    "-error": negative_error,
    "-error*log(macs)": negative_error_log_macs,
    "haq": haq,
    "latency": latency,
}


def reward_of(name: str, evaluation: Evaluation, base: Reference) -> float:
    """The reward of an evaluation; of a diverged one the lowest that there is.

    That is the reward of accuracy 0 at the base network's costs, which no
    policy that yields an answer at all falls below.
    """
    if evaluation.diverged:
        evaluation = evaluation._replace(accuracy=0.0, costs=dict(base.costs))
    return REWARDS[name](evaluation, base)
