"""A metric of the user's own, registered from one file, holds as a budget like those here."""

import numpy as np
import pytest

import pfrl.registry
from envs.decisions import Decisions
from envs.problem import Problem
from experiments.records.wording import axis_label, cost_phrase, unit_of
from pfrl.compression.policy import Policy
from pfrl.cost import Budget, BudgetError, CostModel
from pfrl.graph import trace
from pfrl.registry import load_plugin
from tests.support.tiny import made, resnet8, shape
from tests.support.toy import ToyTask

PLUGIN = '''
from pfrl.cost.metrics import Metric
from pfrl.registry import register


def weights_kept(costs, at):
    """Elements of all kernels."""
    names = {layer.kernel for layer in costs.graph.layers}
    shapes = ([axis.at(at.counts) for axis in costs.graph.axes[name]] for name in names)
    product = lambda shape: shape[0] * product(shape[1:]) if shape else 1
    return sum(product(shape) for shape in shapes)


register("metric", "weights_kept", Metric(weights_kept, monotone=True, noun="weights"))
'''


@pytest.fixture(scope="module")
def own_metric(tmp_path_factory):
    """``weights_kept`` from a user's file."""
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(PLUGIN)
    load_plugin(path)


def test_it_is_a_budget_in_shares_and_in_numbers(own_metric):
    assert Budget.parse("weights_kept=0.5") == Budget("weights_kept", 0.5, True)
    assert Budget.parse("weights_kept=2k") == Budget("weights_kept", 2000.0, False)
    with pytest.raises(BudgetError, match="'ms' is no unit of weights_kept"):
        Budget.parse("weights_kept=5ms")


def test_every_policy_costs_it(own_metric):
    graph = trace(made(resnet8), shape(1, 8, 8, 1))
    costs = CostModel(graph)
    assert costs.metrics == ("macs", "params", "bytes", "packed", "bops", "weights_kept")
    kernels = {layer.kernel for layer in graph.layers}
    assert costs.base["weights_kept"] == sum(
        np.size(graph.source.variables[kernel]) for kernel in kernels
    )
    assert costs.of(Policy.uniform(graph, 0.5))["weights_kept"] < costs.base["weights_kept"]


def test_decisions_keep_to_it(own_metric):
    graph = trace(made(resnet8), shape(1, 8, 8, 1))
    problem = Problem(ToyTask(), budget=Budget.parse("weights_kept=0.5"))
    decisions = Decisions(problem, graph, CostModel(graph))
    at = decisions.start
    for step in range(len(decisions.steps)):
        at, _, _ = decisions.execute(step, [1.0], at)
    whole = decisions.base
    assert decisions.limit == 0.5 * whole
    assert 0.4 * whole < decisions.cost(at) <= 0.5 * whole


def test_reports_write_it_with_and_without_the_file(own_metric, monkeypatch):
    assert cost_phrase("weights_kept", 12_300) == "12.3 k weights"
    assert axis_label("weights_kept", unit_of("weights_kept", 1e6)) == "weights kept (millions)"
    monkeypatch.delitem(pfrl.registry._items["metric"], "weights_kept")
    assert cost_phrase("weights_kept", 12_300) == "a weights kept of 12.3 k"
