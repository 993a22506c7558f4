"""Budgets hold exactly, in every metric, whatever the agent asks for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import Problem
from envs.decisions import Decisions
from pfrl.compression.policy import Policy
from pfrl.cost import (
    Assignment,
    Budget,
    BudgetError,
    CostModel,
    largest_that_fit,
    largest_that_fits,
)
from pfrl.cost.metrics import METRICS
from pfrl.graph import trace
from tests.support.tiny import made, resnet8, shape

KNOBS = ("keep", "weight_bits", "act_bits")


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


def decisions_for(costs, metric, share, knobs=KNOBS, round_to=1) -> Decisions:
    budget = Budget(metric, share, True)
    problem = Problem(None, knobs, budget, round_to=round_to)  # type: ignore
    return Decisions(problem, costs.graph, costs)


@pytest.mark.parametrize("round_to", [1, 4])
@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_limit_holds_and_is_used(costs, metric, round_to, seed):
    rng = np.random.default_rng(seed)
    decisions = decisions_for(costs, metric, 0.9 if METRICS[metric].needs else 0.7, KNOBS, round_to)
    assert decisions.limit is not None
    at = decisions.start
    for step, (_, knobs) in enumerate(decisions.steps):
        edges, between = rng.choice([-1.0, 0.0, 1.0], 3), rng.uniform(-1, 1, 3)
        action = np.where(rng.random(3) < 0.3, edges, between).tolist()
        before = at
        at, executed, _ = decisions.execute(step, action, before)
        assert decisions.cost(at) <= decisions.limit
        trial = before.copy()
        for place, knob in enumerate(knobs):
            if knob is None:
                assert executed[place] == 0
                continue
            wanted, taken = (decisions.choice(knob, a[place]) for a in (action, executed))
            if taken == wanted:
                assert executed[place] == np.float32(action[place])
            else:
                # Every larger choice up to the wanted one was over the limit.
                for choice in range(taken + 1, wanted + 1):
                    knob.set(trial, choice)
                    assert decisions.cost(trial) > decisions.limit
            knob.set(trial, taken)
    assert at.policy(costs.graph).checked(costs.graph)
    assert costs.of(at.policy(costs.graph))[metric] <= decisions.limit


def test_everything_asked_for_leaves_less_than_one_channel_unspent(costs):
    decisions = decisions_for(costs, "macs", 0.5, ("keep",))
    assert decisions.limit is not None
    at = decisions.start
    for step in range(len(decisions.steps)):
        at, _, _ = decisions.execute(step, [1.0], at)
    for name, group in costs.graph.groups.items():
        if at.counts[name] < group.size:
            more = at.copy()
            more.counts[name] += 1
            assert decisions.cost(more) > decisions.limit


@pytest.fixture(scope="module")
def valley(costs) -> CostModel:
    """A latency that is least at three quarters of the channels, as integer kernels have it."""
    sizes = {name: group.size for name, group in costs.graph.groups.items()}
    return CostModel(
        costs.graph,
        lambda counts: 1 + sum(abs(4 * n - 3 * sizes[name]) for name, n in counts.items()),
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_limit_below_the_lowest_choices_cost_holds_where_others_are_cheaper(valley, seed):
    decisions = decisions_for(valley, "latency", 0.6, ("keep",))
    assert decisions.limit is not None
    lowest = {name: 0.2 for name in valley.graph.groups}
    assert valley.of(Policy.uniform(valley.graph))["latency"] > decisions.limit
    assert valley.of(replace(Policy.uniform(valley.graph), keep=lowest))["latency"] > (
        decisions.limit
    )
    rng, at = np.random.default_rng(seed), decisions.start
    for step in range(len(decisions.steps)):
        at, executed, _ = decisions.execute(step, rng.uniform(-1, 1, 1), at)
        again, _, _ = decisions.execute(step, executed, at)
        assert again == at
        assert decisions.cost(at) <= decisions.limit
    uniform = decisions.uniform(decisions.limit)
    assert decisions.cost(uniform) <= decisions.limit
    assert decisions.lowered(Assignment.of(Policy.uniform(valley.graph), valley.graph))
    least = decisions_for(valley, "latency", 1.0, ("keep",)).under(1.0)
    for name, group in valley.graph.groups.items():
        assert least.start.counts[name] == round(0.75 * group.size)
    with pytest.raises(BudgetError, match="cheapest that was found"):
        decisions.under(0.9)


def test_where_no_uniform_policy_meets_the_limit_it_is_what_the_limit_lets_through(valley):
    sizes = [group.size for group in valley.graph.groups.values()]
    uneven = CostModel(
        valley.graph,
        lambda counts: (
            1.0
            + sum(
                n if size < max(sizes) else size - n
                for n, size in zip(counts.values(), sizes, strict=True)
            )
        ),
    )
    decisions = decisions_for(uneven, "latency", 1.0, ("keep",))
    decisions = decisions.under(decisions.cost(decisions._cheapest()) + 2)
    limit = decisions.limit
    uniform = decisions.uniform(limit)
    assert limit is not None and decisions.cost(uniform) <= limit
    at = decisions.start
    for step in range(len(decisions.steps)):
        at, _, _ = decisions.execute(step, [0.0], at)
    assert at == uniform and not decisions.even
    assert decisions_for(uneven, "macs", 0.6, ("keep",)).even
    # Channels of the widest groups are the fewer the dearer: they are not narrowed.
    widest = [
        n for n, size in zip(uniform.counts.values(), sizes, strict=True) if size == max(sizes)
    ]
    assert set(widest) == {max(sizes)}
    shares = {n / size for n, size in zip(uniform.counts.values(), sizes, strict=True)}
    assert max(shares) - min(shares) > 0.2


def test_without_a_budget_nothing_is_clipped(costs):
    decisions = Decisions(Problem(None, ("keep",)), costs.graph, costs)  # type: ignore[arg-type]
    at = decisions.start
    for step in range(len(decisions.steps)):
        at, _, _ = decisions.execute(step, [1.0], at)
    assert at.counts == costs.graph.full_counts()


def test_an_infeasible_budget_is_refused_with_what_is_possible(costs):
    with pytest.raises(BudgetError, match=r"cannot be met.*still has"):
        decisions_for(costs, "macs", 0.001, ("keep",))
    with pytest.raises(BudgetError, match="no cost model for 'latency'"):
        decisions_for(CostModel(costs.graph), "latency", 0.5, ("keep",))


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_the_largest_choice_that_fits(fitting):
    """Against the definition: choice 0 is taken to fit, whatever is said of it."""
    largest = int(max([0, *np.flatnonzero(fitting)]))
    choices = range(len(fitting))
    assert largest_that_fits(choices, fitting.__getitem__, monotone=False) == largest
    assert largest_that_fits(choices, lambda n: n <= largest, monotone=True) == largest
    most = np.array([len(fitting) - 1, 0])
    assert list(largest_that_fit(most, lambda n: n <= largest)) == [largest, 0]


@pytest.mark.parametrize("metric", METRICS)
def test_the_uniform_policy_is_the_largest_that_fits(costs, metric):
    decisions = decisions_for(costs, metric, 0.9 if METRICS[metric].needs else 0.6, ("keep",))
    at = decisions.uniform(decisions.limit)
    assert decisions.limit is not None and decisions.cost(at) <= decisions.limit
    full = decisions.uniform(None)
    assert full.counts == costs.graph.full_counts()
    assert decisions.cost(full) > decisions.limit
