"""``pfrl/Compression-v0`` keeps the rules of its libraries and its own specification."""

import copy
import math
import pickle
import warnings
from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import envs
from envs import NetworkTask, Problem, Runtime
from envs.compression import CompressionEnv
from envs.observation import AMC_FEATURES
from envs.problem import ProblemError
from envs.rewards import REWARDS, Reference, reward_of
from pfrl.cost import Budget, CostModel
from pfrl.evaluate import EpisodeConfig, Evaluation
from pfrl.graph import trace
from pfrl.models.zoo import pretrained_path
from pfrl.policy import Policy
from tests.tiny import made, resnet8, shape

ALL = ("keep", "weight_bits", "act_bits")


@dataclass(frozen=True)
class Mean:
    """A task whose accuracy is the mean keep share."""

    def open(self) -> Runtime:
        graph = trace(made(resnet8), shape(1, 8, 8, 1))
        costs = CostModel(graph)

        def evaluate(policy: Policy) -> Evaluation:
            accuracy = sum(policy.keep.values()) / len(policy.keep)
            return Evaluation(accuracy, costs.of(policy), 0.0, False)

        return Runtime(graph, costs, evaluate, 1.0)


def make(**options) -> CompressionEnv:
    problem = Problem(Mean(), **{"budget": Budget("macs", 0.5, True), **options})
    env = gymnasium.make("pfrl/Compression-v0", problem=problem).unwrapped
    assert isinstance(env, CompressionEnv)
    return env


def play(env, actions):
    """The observations, the infos and the last reward of an episode."""
    observations, infos = [env.reset()[0]], []
    for step, action in enumerate(actions):
        observation, reward, terminated, truncated, info = env.step(np.float32(action))
        observations.append(observation)
        infos.append(info)
        assert not truncated
        assert terminated == (step == env.steps - 1)
        assert terminated or reward == 0
    return observations, infos, reward


@pytest.mark.parametrize("knobs", [("keep",), ALL])
def test_both_checkers_are_content(knobs):
    env = make(knobs=knobs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
        check_env_sb3(env)


def test_both_checkers_are_content_with_a_real_network():
    weights = pretrained_path("resnet8", "digits")
    episode = EpisodeConfig(steps=1, batch=16, search_images=50, statistics_images=16)
    task = NetworkTask("resnet8", "digits", str(weights), episode=episode)
    problem = Problem(task, budget=Budget("macs", 0.5, True))
    env = gymnasium.make("pfrl/Compression-v0", problem=problem).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
        check_env_sb3(env)


def test_a_problem_is_plain_data():
    problem = Problem(
        NetworkTask("resnet8", "digits", "weights.npz"), ALL, Budget("macs", 0.5, True)
    )
    assert pickle.loads(pickle.dumps(problem)) == problem == copy.deepcopy(problem)
    assert hash(copy.deepcopy(problem)) == hash(problem)


@pytest.mark.parametrize(
    "wrong",
    [{"knobs": ("speed",)}, {"knobs": ()}, {"reward": "luck"}, {"bits": (1, 8)}, {"keep_min": 0.0}],
)
def test_problems_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ProblemError):
        Problem(Mean(), **wrong)


def test_the_first_observation_holds_amcs_features():
    env = make()
    observation, _ = env.reset()
    layers = [layer for layer, _ in env.decisions.steps]
    full = env.decisions.graph.full_counts()
    assert len(AMC_FEATURES) == 11
    first = layers[0]  # the stem: 1 to 4 channels of 8 x 8 pixels, 3 x 3 kernels, stride 1
    assert (first.c_in.at(full), first.c_out.at(full)) == (1, 4)
    # Largest over the layers: 16 channels out and in, 8 pixels, stride 2, kernel 3.
    expected = [0, 4 / 16, 1 / 16, 1, 1, 1 / 2, 1, first.macs / max(la.macs for la in layers), 0]
    np.testing.assert_allclose(observation[:9], expected, rtol=1e-6)
    np.testing.assert_allclose(observation[9], 1 - first.macs / env.decisions.graph.macs, rtol=1e-6)
    limit, spent, left = observation[14:17]
    assert limit == 0.5
    assert spent == pytest.approx(env.decisions.floor / env.decisions.base)
    assert left == pytest.approx(limit - spent)


def test_the_observation_tells_histories_apart():
    env = make(knobs=ALL, budget=None)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (env.steps, 3))
    changed = actions.copy()
    changed[1] = -actions[1]
    before, *_ = play(env, actions)
    after, *_ = play(env, changed)
    np.testing.assert_array_equal(before[1], after[1])
    # A decision is remembered to the end, not only by the next layer.
    assert all((a != b).any() for a, b in zip(before[2:], after[2:], strict=True))


def test_knobs_that_a_layer_lacks_are_flagged_and_do_nothing():
    env = make(knobs=ALL, budget=None)
    observations, infos, _ = play(env, np.ones((env.steps, 3)))
    for (_, knobs), observation, info in zip(
        env.decisions.steps, observations, infos, strict=False
    ):
        there = [knob is not None for knob in knobs]
        np.testing.assert_array_equal(observation[17:20], np.asarray(there, np.float32))
        np.testing.assert_array_equal(info["executed_action"], np.asarray(there, np.float32))
    policy = infos[-1]["policy"]
    bits = list(policy.weight_bits.values())
    assert bits[0] == bits[-1] == 8  # first and last layer


def test_episodes_are_deterministic_and_end():
    env = make(knobs=ALL)
    actions = np.random.default_rng(1).uniform(-1, 1, (env.steps, 3))
    first, infos, reward = play(env, actions)
    again, _, same = play(env, actions)
    assert reward == same == infos[-1]["evaluation"].accuracy
    np.testing.assert_array_equal(first, again)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(3, np.float32))


def test_rewards_by_hand():
    base = Reference(0.9, {"macs": 1000.0, "latency": 2.0}, 1.0, -0.07)
    evaluation = Evaluation(0.8, {"macs": 500.0, "latency": 1.5}, 0.0, False)
    expected = {
        "accuracy": 0.8,
        "-error": -0.2,
        "-error*log(macs)": -0.2 * math.log(500),
        "haq": 0.1 * (80 - 90),
        "latency": 0.8 * 1.5**-0.07,
    }
    assert set(expected) == set(REWARDS)
    for name, value in expected.items():
        assert reward_of(name, evaluation, base) == pytest.approx(value)
        wrong = evaluation._replace(accuracy=0.0)
        diverged = evaluation._replace(accuracy=float("nan"), diverged=True)
        assert reward_of(name, diverged, base) <= reward_of(name, wrong, base)


def test_the_environment_is_registered():
    assert envs.__name__ == "envs"
    assert "pfrl/Compression-v0" in gymnasium.registry
