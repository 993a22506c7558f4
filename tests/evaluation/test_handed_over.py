"""The network that is handed over: sliced, with all that was learned, and fine-tuned for long."""

import jax
import numpy as np
import pytest

from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.cost import CostModel
from pfrl.evaluation import evaluator as evaluation
from pfrl.evaluation import short_training
from pfrl.evaluation.base import Tuning
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.graph import trace
from pfrl.tasks.judging import validate
from tests.support.tiny import TwoConvs, made, shape, stripes

DATA = stripes()


@pytest.fixture(scope="module")
def graph():
    return trace(made(TwoConvs), shape(2, 8, 8, 1))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(weights="lsq", clips="lsq", images=128),
        Recipe(weights="codebook_clusters", images=128),
    ],
)
def test_what_is_handed_over_answers_as_what_was_judged(graph, recipe):
    """What quantizers keep for every output channel or weight is sliced with the kernels."""
    config = EpisodeConfig(steps=0, batch=32, statistics_images=64, validation="xla")
    found = NetworkEvaluator(graph, DATA, CostModel(graph), config, 3, True, recipe)
    policy = Policy.uniform(graph, 0.6, 4, 4)
    small, tuned = found.network(policy), found.network(policy, Tuning(64, 0.01, 0))
    judged = validate(jax.jit(small), found.images["reward"], DATA.task).quality
    assert judged == pytest.approx(found.evaluate(policy).accuracy, abs=1.5 / 264)
    shapes = [{name: np.shape(v) for name, v in each.variables.items()} for each in (small, tuned)]
    assert shapes[0] == shapes[1]
    kernel = graph.layers[0].kernel
    assert (np.asarray(small.variables[kernel]) != np.asarray(tuned.variables[kernel])).any()


@pytest.mark.parametrize("bits", [32, 4])
def test_a_long_fine_tuning_of_the_sliced_network_is_that_of_the_masked_one(
    graph, monkeypatch, bits
):
    recipe = Recipe(weights="lsq", clips="lsq", images=128)
    config = EpisodeConfig(steps=0, batch=32, statistics_images=64, validation="xla")
    found = NetworkEvaluator(graph, DATA, CostModel(graph), config, 3, True, recipe)
    told = []
    tuning = Tuning(96, 0.01, 0, lambda *far: told.append(far))
    policy = Policy.uniform(graph, 0.6, bits, bits)
    monkeypatch.setattr(short_training, "TELL_EVERY", 2)
    masked = found.network(policy, tuning).variables
    monkeypatch.setattr(evaluation, "WORTH_COMPILING", 3)
    sliced = found.network(policy, tuning).variables
    assert told == 2 * [(2, 3)], "steps done and in all"
    assert masked.keys() == sliced.keys()
    for name, value in masked.items():
        np.testing.assert_allclose(sliced[name], value, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.fixture
def stopped(graph, monkeypatch, tmp_path):
    """An evaluator, a policy and its fine-tuning of 9 steps, which was stopped after the sixth."""
    config = EpisodeConfig(steps=0, batch=32, statistics_images=64, validation="xla")
    found = NetworkEvaluator(graph, DATA, CostModel(graph), config, 3, False)
    monkeypatch.setattr(evaluation, "WORTH_COMPILING", 1)
    monkeypatch.setattr(short_training, "TELL_EVERY", 1)
    monkeypatch.setattr("pfrl.training.checkpoint.SECONDS", 0.0)

    def stop(done, steps):
        if done == 6:
            raise KeyboardInterrupt

    tuning, policy = Tuning(32 * 9, 0.05, 0, stop, tmp_path / "t.npz"), Policy.uniform(graph, 0.6)
    with pytest.raises(KeyboardInterrupt):
        found.network(policy, tuning)
    return found, policy, tuning


def test_a_fine_tuning_that_was_stopped_goes_on_and_ends_as_it_would_have(stopped):
    found, policy, tuning = stopped
    told = []
    again = tuning._replace(progress=lambda *far: told.append(far))
    variables = found.network(policy, again).variables
    assert told == [(done, 9) for done in (6, 7, 8, 9)]
    assert not tuning.checkpoint.exists()
    for name, value in found.network(policy, again._replace(checkpoint=None)).variables.items():
        np.testing.assert_array_equal(variables[name], value, err_msg=name)


@pytest.mark.parametrize("change", [{"seed": 1}, {"learning_rate": 0.01}, {"images": 32 * 10}])
def test_another_fine_tuning_does_not_go_on_from_it(stopped, change):
    found, policy, tuning = stopped
    told = []
    other = tuning._replace(progress=lambda done, steps: told.append(done), **change)
    found.network(policy, other)
    assert told[0] == 1


def test_that_of_another_policy_does_not_go_on_from_it(graph, stopped):
    found, _, tuning = stopped
    told = []
    other = tuning._replace(progress=lambda done, steps: told.append(done))
    found.network(Policy.uniform(graph, 0.8), other)
    assert told[0] == 1
