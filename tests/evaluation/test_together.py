"""Policies that are judged in one compiled function get what they get one by one."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from envs import Problem
from envs.problem import ProblemError
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.cost import Budget, CostModel
from pfrl.evaluation.compilations import compilations
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.evaluation.make import make_evaluator
from pfrl.evaluation.recorded import RecordError
from pfrl.graph import trace
from tests.envs.test_env import network_task
from tests.envs.test_vector import actions_of
from tests.support.tiny import TwoConvs, at_home, made, shape, stripes

DATA = stripes()
ONE_IMAGE = 1.5 / 264
HALF = Budget("macs", 0.5, True)


@pytest.fixture(scope="module")
def graph():
    return at_home(trace(made(TwoConvs, seed=2), shape(2, 8, 8, 1)), DATA)


def evaluator(graph, quantized=False, sparse=False, cache=None, **config):
    settings = {"batch": 32, "statistics_images": 64, "validation": "xla", **config}
    costs, recipe = CostModel(graph), Recipe(repair="least_squares", images=128)
    plain = NetworkEvaluator(
        graph, DATA, costs, EpisodeConfig(**settings), 3, quantized, recipe, sparse, cache
    )
    return make_evaluator(plain, cache)


def mixed(graph, quantized, sparse):
    """Four policies that differ in everything that is decided."""
    made = [Policy.uniform(graph, keep) for keep in (1.0, 0.8, 0.6, 0.4)]
    names = [layer.name for layer in graph.layers]
    if quantized:
        widths = [dict.fromkeys(names, bits) for bits in (8, 3, 4, 6)]
        made = [
            dataclasses.replace(p, weight_bits=w, act_bits=w)
            for p, w in zip(made, widths, strict=True)
        ]
    if sparse:
        made = [
            dataclasses.replace(p, sparsity={names[1]: share})
            for p, share in zip(made, (0.0, 0.3, 0.6, 0.9), strict=True)
        ]
    return made


@pytest.mark.parametrize(
    ("quantized", "sparse", "config"),
    [
        (False, False, {"fidelity": "reconstruct"}),
        (False, False, {"fidelity": "finetune", "steps": 3}),
        (True, False, {"fidelity": "reconstruct"}),
        pytest.param(False, True, {"fidelity": "reconstruct"}, marks=pytest.mark.ci),
    ],
)
def test_together_is_one_by_one(graph, quantized, sparse, config):
    found = evaluator(graph, quantized, sparse, **config)
    policies = mixed(graph, quantized, sparse)
    alone = [found.evaluate(policy) for policy in policies]
    batch = found.evaluate_batch(policies)
    accuracies = [evaluation.accuracy for evaluation in alone]
    assert len(set(accuracies)) > 1
    np.testing.assert_allclose([e.accuracy for e in batch], accuracies, atol=ONE_IMAGE)
    assert [e.costs for e in batch] == [e.costs for e in alone]
    assert all(e.exact and not e.diverged for e in batch)


def test_divergence_is_told_of_every_policy(graph):
    found = evaluator(graph, fidelity="finetune", steps=2, learning_rate=1e30)
    assert [(e.accuracy, e.diverged) for e in found.evaluate_batch(mixed(graph, False, False))] == [
        (0.0, True)
    ] * 4


def test_batches_have_a_cache_and_compile_once(graph, tmp_path):
    found = evaluator(graph, cache=tmp_path / "cache.sqlite", fidelity="reconstruct")
    policies = mixed(graph, False, False)
    first = found.evaluate_batch([*policies[:2], policies[0], policies[1]])
    assert first[0] == first[2] and first[1] == first[3] and first[0] != first[1]
    before = compilations()
    second = found.evaluate_batch(policies)
    assert (found.hits, compilations()) == (2, before)
    assert second[:2] == first[:2]
    again = evaluator(graph, cache=tmp_path / "cache.sqlite", fidelity="reconstruct")
    assert again.evaluate_batch(policies) == second and again.hits == 4
    # What was judged alone is kept apart: it may be another by an image.
    again.evaluate(policies[0])
    assert again.hits == 4


def test_batches_replay_what_was_recorded(graph):
    found = evaluator(graph, fidelity="reconstruct")
    policies = mixed(graph, False, False)
    batch = found.evaluate_batch(policies)
    known = zip(policies[:3], batch[:3], strict=True)
    recorded = [(p.to_json(), e._replace(accuracy=0.5)) for p, e in known]
    found.resume(recorded)
    assert [e.accuracy for e in found.evaluate_batch(policies)][:3] == [0.5] * 3
    found.resume(recorded)
    with pytest.raises(RecordError):
        found.evaluate_batch(policies[::-1])


@pytest.mark.ci
def test_the_vmapped_environment_rewards_as_the_single_one():
    problem = Problem(network_task(), budget=HALF)
    env = gymnasium.make_vec("pfrl/Compression-v0", num_envs=3, problem=problem, vmapped=True)
    single = gymnasium.make("pfrl/Compression-v0", problem=problem)
    env.reset()
    actions = actions_of(env)
    for each in actions:
        rewards = env.step(each)[1]
    for number, reward in enumerate(rewards):
        single.reset()
        for action in actions[:, number]:
            alone = single.step(action)[1]
        assert abs(reward - float(alone)) <= 1.5 / 50


def test_workers_do_not_share_one_function():
    problem = Problem(network_task(), budget=HALF)
    with pytest.raises(ProblemError, match="take workers=1, or leave out vmapped"):
        gymnasium.make_vec(
            "pfrl/Compression-v0", num_envs=2, problem=problem, workers=2, vmapped=True
        )
