"""What an action stands for: the choices of the knobs, and the uniform policy at 0."""

import numpy as np
import pytest

from envs import Problem
from envs.decisions import Decisions
from pfrl.compression.recipe import Recipe
from pfrl.cost import Budget, BudgetError, CostModel
from pfrl.cost.metrics import METRICS
from pfrl.cost.model import Assignment
from pfrl.graph import trace
from tests.support.tiny import Shared, made, resnet8, shape

ALL = ("keep", "weight_bits", "act_bits", "sparsity")


def jagged(counts) -> float:
    """A latency with fast paths: an uneven count costs more than the next even one."""
    return 1.0 + sum(n + (3.0 if n % 4 else 0.0) for n in counts.values())


def aligned(counts, weight_bits, act_bits) -> float:
    """The size of a file whose arrays begin at certain places."""
    bits = np.mean([*weight_bits.values(), *act_bits.values()])
    return jagged(counts) * float(bits)


@pytest.fixture(scope="module")
def costs() -> CostModel:
    graph = trace(made(resnet8), shape(1, 8, 8, 1))
    return CostModel(graph, jagged, litert=aligned)  # type: ignore[arg-type]


def decisions_for(costs, budget, **options) -> Decisions:
    return Decisions(Problem(None, budget=budget, **options), costs.graph, costs)  # type: ignore[arg-type]


def played(decisions: Decisions, action: float) -> Assignment:
    """What the same action at every step yields; all of it must be executed as it is."""
    at = decisions.start
    for step, (_, knobs) in enumerate(decisions.steps):
        at, executed, _ = decisions.execute(step, np.full(len(knobs), action, np.float32), at)
        there = [knob is not None for knob in knobs]
        np.testing.assert_array_equal(executed, np.where(there, np.float32(action), 0))
    return at


@pytest.mark.parametrize("round_to", [1, 4])
@pytest.mark.parametrize("knobs", [("keep",), ("weight_bits", "keep", "sparsity", "act_bits")])
@pytest.mark.parametrize("metric", METRICS)
def test_the_action_0_is_the_uniform_policy(costs, metric, knobs, round_to):
    options = {"knobs": knobs, "round_to": round_to}
    tried = 0
    for share in (0.1, 0.25, 0.5, 0.7, 0.9, 0.97, 1.0):
        try:
            decisions = decisions_for(costs, Budget(metric, share, True), **options)
        except BudgetError:
            continue
        assert played(decisions, 0) == decisions.uniform(decisions.limit)
        tried += 1
    assert tried >= 2


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_actions_around_the_centre_lead_to_the_ends(costs, share):
    decisions = decisions_for(costs, Budget("macs", share, True))
    assert played(decisions, -1) == decisions.start
    # The raw actions from -1 to u, and from u to 1, are stretched over half of the actions each.
    u = decisions.centre[0, 0]
    assert -1 < u < 1 and (u > 0) == (share > 0.5)
    (_, (knob,)), *_ = decisions.steps
    assert knob is not None
    for action, raw in ((-1, -1), (-0.5, (u - 1) / 2), (0, u), (0.5, (1 + u) / 2), (1, 1)):
        at, executed, _ = decisions.execute(0, [action], decisions.start)
        taken = knob.values.index((at.counts[knob.names[0]],))
        assert taken <= knob.choice(raw)
        assert taken == knob.choice(raw) or executed[0] == np.float32(
            decisions.action_of(knob, taken)
        )


def test_the_action_of_a_choice_is_executed_as_that_choice(costs):
    decisions = decisions_for(costs, Budget("bytes", 0.5, True), knobs=ALL)
    assert decisions.limit is not None
    for step, (_, knobs) in enumerate(decisions.steps):
        for place, knob in enumerate(knobs):
            if knob is None:
                continue
            for choice in range(len(knob.values)):
                action = np.full(len(knobs), -1, np.float32)
                action[place] = decisions.action_of(knob, choice)
                at, executed, _ = decisions.execute(step, action, decisions.start)
                wanted = decisions.start.copy()
                knob.set(wanted, choice)
                if decisions.cost(wanted) <= decisions.limit:
                    assert at == wanted
                    np.testing.assert_array_equal(
                        executed, np.where([k is not None for k in knobs], action, 0)
                    )


def test_without_a_budget_actions_are_raw(costs):
    decisions = decisions_for(costs, None)
    assert (decisions.centre == 0).all()
    (_, (knob,)), *_ = decisions.steps
    assert knob is not None
    choices = range(len(knob.values))
    assert [decisions.action_of(knob, c) for c in choices] == [knob.action(c) for c in choices]


def test_shares_of_zeros(costs):
    decisions = decisions_for(costs, Budget("bytes", 0.5, True), knobs=("sparsity",))
    knobs = [knob for _, (knob,) in decisions.steps]
    assert knobs[0] is knobs[-1] is None
    knob = knobs[1]
    assert knob is not None
    assert [value for (value,) in knob.values] == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0]
    np.testing.assert_allclose([knob.level(c) for c in range(10)], np.arange(1, 11) / 10)
    # Zeros take no bytes and the same MACs.
    policy = decisions.start.policy(costs.graph)
    assert costs.of(policy)["macs"] == costs.base["macs"]
    assert costs.of(policy)["bytes"] == decisions.floor < 0.3 * costs.base["bytes"]
    dense = decisions.uniform(None).policy(costs.graph)
    assert costs.of(dense) == costs.base


def test_a_pattern_has_one_share_of_zeros():
    graph = trace(made(resnet8), shape(1, 8, 8, 1))
    costs = CostModel(graph, recipe=Recipe(pattern="2:4"))
    knob = decisions_for(costs, None, knobs=("sparsity",)).steps[1][1][0]
    assert knob is not None and knob.values == ((0.5,), (0.0,))


def test_zeros_of_a_shared_kernel_are_decided_once():
    costs = CostModel(trace(made(Shared), shape(1, 6, 6, 2)))
    decisions = decisions_for(costs, None, knobs=("sparsity", "weight_bits"))
    there = [[knob is not None for knob in knobs] for _, knobs in decisions.steps]
    assert there == [[False, False], [True, True], [False, True], [False, False]]
