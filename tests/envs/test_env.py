"""The registered environments keep the rules of their libraries and their own specification."""

import copy
import math
import pickle
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import get_args

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import envs
from envs import NetworkTask, OpenedTask, Problem, Task
from envs.compression import CompressionEnv
from envs.knobs import KNOBS, KnobName, needed
from envs.observation import AMC_FEATURES
from envs.problem import ProblemError
from envs.rewards import REWARDS, Reference, reward_of
from envs.task import at_full_rank
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.cost import Budget, CostModel
from pfrl.evaluation.config import EpisodeConfig, Evaluation
from pfrl.graph import trace
from pfrl.models.catalogue import pretrained_path
from pfrl.registry import RegistryError
from tests.support.tiny import made, resnet8, shape
from tests.support.toy import opened

ALL = ("keep", "weight_bits", "act_bits", "sparsity")
REGISTERED = {
    "pfrl/Compression-v0": ALL,
    "pfrl/ChannelPruning-v0": ("keep",),
    "pfrl/MixedPrecision-v0": ("weight_bits", "act_bits"),
    "pfrl/Sparsity-v0": ("sparsity",),
    "pfrl/LowRank-v0": ("rank",),
}


@dataclass(frozen=True)
class Mean(Task):
    """A task whose accuracy is the mean keep share."""

    low_rank: bool = False

    def open(self) -> OpenedTask:
        graph = trace(made(resnet8), shape(1, 8, 8, 1))
        if self.low_rank:
            graph = at_full_rank(graph, "channel")
        costs = CostModel(graph)

        def evaluate(policy: Policy) -> Evaluation:
            accuracy = sum(policy.keep.values()) / len(policy.keep)
            return Evaluation(accuracy, costs.of(policy), 0.0, False)

        return opened(graph, costs, evaluate)


HALF_BYTES = Budget("bytes", 0.5, True)
HALF_PACKED = Budget("packed", 0.5, True)


def made_of(problem: Problem, name: str = "pfrl/Compression-v0") -> CompressionEnv:
    env = gymnasium.make(name, problem=problem).unwrapped
    assert isinstance(env, CompressionEnv)
    return env


def make(**options) -> CompressionEnv:
    return made_of(Problem(**{"task": Mean(), "budget": Budget("macs", 0.5, True), **options}))


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


def problem_for(name: str, **options) -> Problem:
    """A problem with the knobs of a registered environment and a budget of half the bytes."""
    task = Mean(low_rank="rank" in REGISTERED[name])
    return Problem(task, **{"knobs": REGISTERED[name], "budget": HALF_BYTES, **options})


@pytest.mark.parametrize("name", REGISTERED)
def test_both_checkers_are_content(name):
    env = gymnasium.make(name, problem=problem_for(name)).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
        check_env_sb3(env)


def network_task(**options) -> NetworkTask:
    weights = pretrained_path("resnet8", "digits")
    episode = EpisodeConfig(
        steps=1, batch=16, search_images=50, statistics_images=16, validation="xla"
    )
    return NetworkTask("resnet8", "digits", str(weights), episode=episode, **options)


def test_both_checkers_are_content_with_a_real_network():
    problem = Problem(network_task(), budget=Budget("macs", 0.5, True))
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
    [
        {"knobs": ("speed",)},
        {"knobs": ()},
        {"reward": "luck"},
        {"bits": (1, 8)},
        {"keep_min": 0.0},
        {"sparsity": (0.5, 1.0)},
        {"sparsity_step": 0.35},
        {"sparsity_step": 0.0},
    ],
)
def test_problems_that_make_no_sense_are_refused(wrong):
    with pytest.raises((ProblemError, RegistryError)):
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
    actions = rng.uniform(-1, 1, (env.steps, len(ALL)))
    changed = actions.copy()
    changed[1] = -actions[1]
    before, *_ = play(env, actions)
    after, *_ = play(env, changed)
    np.testing.assert_array_equal(before[1], after[1])
    # A decision is remembered to the end, not only by the next layer.
    assert all((a != b).any() for a, b in zip(before[2:], after[2:], strict=True))


def test_knobs_that_a_layer_lacks_are_flagged_and_do_nothing():
    env = make(knobs=ALL, budget=None)
    observations, infos, _ = play(env, np.ones((env.steps, len(ALL))))
    for (_, knobs), observation, info in zip(
        env.decisions.steps, observations, infos, strict=False
    ):
        there = [knob is not None for knob in knobs]
        np.testing.assert_array_equal(
            observation[17 : 17 + len(ALL)], np.asarray(there, np.float32)
        )
        np.testing.assert_array_equal(info["executed_action"], np.asarray(there, np.float32))
    policy = infos[-1]["policy"]
    bits = list(policy.weight_bits.values())
    assert bits[0] == bits[-1] == 8  # first and last layer
    layers = [layer.name for layer in env.decisions.graph.layers]
    assert list(policy.sparsity) == layers[1:-1]


def test_episodes_are_deterministic_and_end():
    env = make(knobs=ALL)
    actions = np.random.default_rng(1).uniform(-1, 1, (env.steps, len(ALL)))
    first, infos, reward = play(env, actions)
    again, _, same = play(env, actions)
    assert reward == same == infos[-1]["evaluation"].accuracy
    np.testing.assert_array_equal(first, again)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(len(ALL), np.float32))


def test_rewards_by_hand():
    base = Reference(0.9, {"macs": 1000.0, "latency": 2.0}, 1.0, -0.07)
    evaluation = Evaluation(0.8, {"macs": 500.0, "latency": 1.5}, 0.0, False)
    expected = {
        "accuracy": 0.8,
        "-error": -0.2,
        "-error*log(macs)": -0.2 * math.log(500),
        "haq": 0.1 * (80 - 90),
        "latency": 0.8 * 1.5**-0.07,
        "absolute": 0.8 - 0.07 * 0.5,
    }
    assert set(expected) == set(REWARDS)
    for name, value in expected.items():
        assert reward_of(name, evaluation, base) == pytest.approx(value)
        wrong = evaluation._replace(accuracy=0.0)
        diverged = evaluation._replace(accuracy=float("nan"), diverged=True)
        assert reward_of(name, diverged, base) <= reward_of(name, wrong, base)


def test_every_environment_of_the_project_is_in_the_table():
    # Episodes of one differ by the limit that they draw: tests/envs/test_any_budget.py.
    every = {*REGISTERED, "pfrl/AnyBudget-v0"}
    assert {name for name in gymnasium.registry if name.startswith("pfrl/")} == every
    assert envs.__doc__ is not None
    assert all(name in envs.__doc__ for name in every)


@pytest.mark.parametrize("name", list(REGISTERED)[1:])
def test_problems_with_other_knobs_are_refused(name):
    other = "keep" if "keep" not in REGISTERED[name] else "act_bits"
    with pytest.raises(ProblemError, match=f"not {other}; use pfrl/Compression-v0"):
        gymnasium.make(name, problem=problem_for(name, knobs=(*REGISTERED[name], other)))


def test_either_bit_width_alone_will_do():
    env = gymnasium.make(
        "pfrl/MixedPrecision-v0", problem=Problem(Mean(), ("weight_bits",), HALF_BYTES)
    )
    assert env.action_space.shape == (1,)


def test_knobs_that_evaluations_take_no_notice_of_are_refused():
    task = NetworkTask("resnet8", "digits", "weights.npz")
    needs: dict[KnobName, str] = {name: knob.needs for name, knob in KNOBS.items() if knob.needs}
    assert needed(KNOBS) == {"quantized", "sparse", "decompose"} == set(needs.values())
    assert needed(("keep", "act_bits")) == {"quantized"}
    for knob in ("weight_bits", "act_bits", "sparsity"):
        field = needs[knob]
        with pytest.raises(ProblemError, match=f"no notice of the knob {knob}; give it {field}"):
            gymnasium.make("pfrl/Compression-v0", problem=Problem(task, (knob,)))


def test_knobs_are_declared_once():
    assert tuple(KNOBS) == get_args(KnobName)
    code = "import sys, envs.knobs; assert not {'jax', 'torch'} & set(sys.modules), sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ranks_are_the_groups_between_the_two_layers():
    env = make(task=Mean(low_rank=True), knobs=("rank",), budget=None)
    knobs = {layer.name: knob for layer, (knob,) in env.decisions.steps if knob is not None}
    assert knobs and all(name.endswith(".first") for name in knobs)
    graph = env.decisions.graph
    for name, knob in knobs.items():
        size = graph.groups[name].size
        assert knob.values == tuple((rank,) for rank in range(1, size + 1))
    _, infos, reward = play(env, -np.ones((env.steps, 1)))
    assert reward == infos[-1]["evaluation"].accuracy < 1
    counts = infos[-1]["policy"].counts(graph)
    assert counts == {g.name: 1 if g.name in knobs else g.size for g in graph.groups.values()}
    both = make(task=Mean(low_rank=True), knobs=("keep", "rank"), budget=None)
    assert not any(keep and rank for _, (keep, rank) in both.decisions.steps)
    with pytest.raises(ProblemError, match="no ranks to decide"):
        make(knobs=("rank",))


@pytest.mark.ci
def test_a_network_at_full_rank_answers_as_before_and_shares_are_of_what_it_was():
    plain = network_task().open()
    task = network_task(decompose="channel", recipe=Recipe(criterion="l2"))
    runtime = task.open()
    assert runtime.base_accuracy == pytest.approx(plain.base_accuracy, abs=0.005)
    assert runtime.costs.base == plain.costs.base
    problem = Problem(task, ("rank",), Budget("macs", 0.6, True))
    env = made_of(problem, "pfrl/LowRank-v0")
    _, infos, reward = play(env, np.zeros((env.steps, 1)))
    assert infos[-1]["evaluation"].costs["macs"] <= 0.6 * plain.costs.base["macs"]
    assert reward > 0
    with pytest.raises(ProblemError, match="chosen by the criterion 'l2'"):
        network_task(decompose="channel")


def test_a_sparse_network_is_evaluated():
    problem = Problem(network_task(sparse=True), ("sparsity",), HALF_PACKED)
    env = made_of(problem, "pfrl/Sparsity-v0")
    _, infos, reward = play(env, np.zeros((env.steps, 1)))
    base = env.decisions.base
    assert 0.4 * base < infos[-1]["evaluation"].costs["packed"] <= 0.5 * base
    assert reward > 0
    assert len(set(infos[-1]["policy"].sparsity.values())) == 1  # all layers alike
