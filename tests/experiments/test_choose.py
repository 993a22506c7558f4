"""Which candidate is handed over: hand-worked tables of held-out scores."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents import Episode
from envs.rewards import Reference
from experiments.report.differences import paired_differences
from experiments.run import choose
from experiments.run.choose import (
    HANDED_OVER,
    Candidate,
    best_found,
    cheapest_alike,
    choose_policy,
)
from experiments.settings.compression import CompressSettings
from pfrl.compression.policy import Policy
from pfrl.cost import Budget
from pfrl.deploy.timing import LatencyRatio
from pfrl.evaluation.config import Evaluation
from pfrl.tasks.judging import Judged


def row(cost, reward, low, *, diverged=False, ratio=None):
    """A candidate whose held-out quality is at least ``low`` below the best; None: the best."""
    behind = {"difference": 0.1, "low": low, "high": 0.9} if low is not None else None
    return {
        "cost": cost,
        "rescored_reward": reward,
        "behind_best": behind,
        "diverged": diverged,
        "latency_ratio": ratio,
        "latency_low": None if ratio is None else ratio - 0.01,
    }


def test_the_best_is_taken_where_all_others_are_clearly_worse():
    assert cheapest_alike([row(5, 0.8, 0.02), row(9, 0.9, None), row(1, 0.5, 0.3)], None) == 1


def test_of_those_that_cannot_be_told_apart_the_cheapest_is_taken():
    rows = [row(9, 0.9, None), row(7, 0.89, -0.005), row(8, 0.89, 0.0), row(3, 0.6, 0.2)]
    assert cheapest_alike(rows, None) == 1


def test_among_equal_costs_the_higher_reward_and_then_the_first_counts():
    assert cheapest_alike([row(7, 0.8, -0.1), row(7, 0.9, -0.1), row(7, 0.9, -0.1)], None) == 1


def test_a_network_that_diverged_is_not_taken():
    assert cheapest_alike([row(1, 0.99, -0.01, diverged=True), row(9, 0.9, -0.01)], None) == 1
    assert cheapest_alike([row(1, 0.1, -0.01, diverged=True)], None) == 0


def test_a_latency_budget_that_is_kept_to_comes_first():
    rows = [row(0.3, 0.99, -0.01, ratio=0.6), row(0.5, 0.9, -0.01, ratio=0.5)]
    assert cheapest_alike(rows, 0.5) == 1
    assert cheapest_alike(rows, 0.595) == 0  # as far as the interval of 0.6 can tell
    assert cheapest_alike(rows, 0.4) == 0  # nobody keeps to it


def test_the_best_found_leads_by_however_little_and_is_not_the_uniform_one():
    rows = [row(9, 0.90, 0.0), row(7, 0.91, -0.01), row(5, 0.91, -0.01), row(1, 0.95, None)]
    for place, each in enumerate(rows):
        each["episode"] = place if place < 3 else None
    assert best_found(rows, None) == 1, "the costlier of two that are equally good"
    assert best_found(rows[3:], None) == 0, "there is no other"


@pytest.mark.parametrize(("reward", "taken"), [("accuracy", 0), ("latency", 1)])
def test_ties_fall_to_the_cheapest_in_what_the_reward_weighs(tmp_path, monkeypatch, reward, taken):
    """Under a target of MACs: without a cost in the reward, the fewest of these."""
    history = [
        Episode(
            n, "warmup", Policy({"group": keep}, {}, {}), keep, Evaluation(keep, costs, 0, False)
        )
        for n, keep, costs in (
            (0, 0.5, {"macs": 40.0, "latency": 0.9}),
            (1, 0.4, {"macs": 50.0, "latency": 0.8}),
        )
    ]
    ratios = [LatencyRatio(value, value, value) for value in (0.98, 0.85, 1.0)]
    monkeypatch.setattr(choose, "_measure", lambda *_: ratios)
    judged = Judged(0.9, True, True, np.repeat([1.0, 0.0], [9, 1]))
    asked = []
    evaluator = SimpleNamespace(
        score=lambda policy, images, steps: asked.append(steps) or judged,
        dataset=SimpleNamespace(train=range(100), image_shape=(32, 32, 3)),
    )
    searched: Any = SimpleNamespace(
        result=SimpleNamespace(history=history),
        opened=SimpleNamespace(evaluator=evaluator),
        problem=SimpleNamespace(budget=Budget("macs", 0.5, True)),
    )
    settings = CompressSettings(reward=reward, out=tmp_path).resolved()
    folder: Any = SimpleNamespace(kept=lambda name, make: make())
    reference = Reference(0.9, {"macs": 100.0, "latency": 1.0}, 0.5, -0.5)
    costs = {"macs": 60.0, "latency": 1.0}
    uniform = Candidate(None, Policy({}, {}, {}), Evaluation(0.1, costs, 0, False))
    found, table = choose_policy(
        settings, folder, searched, reference, uniform, "macs", HANDED_OVER
    )
    assert found.episode == taken
    assert asked == [7] * 3, "four passes over 100 images, 64 a step"
    assert table["metric"] == ("macs" if taken == 0 else "latency")


def test_qualities_that_are_no_ones_and_zeros_have_the_interval_of_student():
    found, interval = paired_differences(np.asarray([0.5, 0.7]), {"a": np.asarray([0.4, 0.4])})
    # Differences 0.1 and 0.3: mean 0.2, deviation sqrt(0.02), quantile 12.706 of one degree.
    assert interval == "Student's t"
    assert found["a"].difference == pytest.approx(0.2)
    assert found["a"].high == 1.0  # 0.2 + 12.706 * 0.1 is more than there can be
    _, interval = paired_differences(np.asarray([1.0, 0]), {"a": np.asarray([0.0, 0])})
    assert interval == "Agresti and Min (2005)"
