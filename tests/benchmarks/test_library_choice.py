"""Torch-Pruning's own choice: it meets the limit, and leaves the network alone."""

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("torch_pruning") is None:
    pytest.skip(
        "torch-pruning is not installed: pip install -c constraints.txt -e '.[benchmarks]'",
        allow_module_level=True,
    )

import torch

from benchmarks.library_choice.experiment import choose, macs
from benchmarks.peers_torch import CifarResNet, tune, with_weights
from pfrl.cost import CostModel
from pfrl.graph import trace
from tests.support.tiny import made, resnet8, shape

X = torch.from_numpy(np.random.default_rng(3).normal(size=(2, 1, 8, 8)).astype(np.float32))


def networks():
    graph = trace(made(resnet8), shape(1, 8, 8, 1))
    return graph, with_weights(CifarResNet(8, 4, 1, width=4), graph.source.variables).eval()


@pytest.mark.parametrize("isomorphic", [False, True])
@pytest.mark.parametrize("limit", [0.3, 0.6])
def test_the_limit_is_met_in_both_libraries_measure(limit, isomorphic):
    graph, model = networks()
    whole = CostModel(graph).base["macs"]
    assert macs(model, X) == whole
    small, share = choose(model, X, limit, isomorphic)
    assert 0.5 * limit < share <= limit
    assert share == macs(small, X) / whole and macs(model, X) == whole
    with torch.no_grad():
        assert small(X).shape == (2, 4)


def test_a_limit_that_is_out_of_reach():
    with pytest.raises(ValueError, match="leaves more than 1% of the MACs"):
        choose(networks()[1], X, 0.01, False)


def test_the_learning_rate_falls_to_nothing():
    """The last of two steps has half of the rate of a constant one."""
    batches, found = [(X, torch.tensor([0, 1]))], {}
    for steps in (None, 1, 2):
        model = networks()[1]
        tune(model, batches * 2, 0.1, 0.0, falls_over=steps)
        found[steps] = model.linear.bias.detach().clone()
    _, start = networks()
    moved = {steps: (bias - start.linear.bias).norm().item() for steps, bias in found.items()}
    assert moved[1] < moved[2] < moved[None]
