"""The batched environments play what the single one plays, and judge it in one batch."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO

from envs import Problem
from envs.problem import ProblemError
from envs.sb3_vec import SB3VecEnv
from envs.vector import CompressionVectorEnv
from pfrl.compression.policy import Policy
from pfrl.cost import Budget
from pfrl.evaluation.config import Evaluation
from tests.envs.test_env import REGISTERED, problem_for
from tests.support.toy import Signed, ToyTask

HALF = Problem(ToyTask(), budget=Budget("macs", 0.5, True))
COUNT = 3


def vector(problem: Problem = HALF, workers: int = 1) -> CompressionVectorEnv:
    env = gymnasium.make_vec(
        "pfrl/Compression-v0", num_envs=COUNT, problem=problem, workers=workers
    )
    assert isinstance(env, CompressionVectorEnv)
    return env


def actions_of(env, seed: int = 0) -> np.ndarray:
    """``[L, E, K]`` float32."""
    shape = (env.steps, *env.action_space.shape)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def same(evaluation: Evaluation, other: Evaluation) -> bool:
    return evaluation._replace(seconds=0.0) == other._replace(seconds=0.0)


@pytest.mark.parametrize("name", REGISTERED)
def test_every_environment_has_a_batched_one(name):
    problem = problem_for(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make_vec(name, num_envs=COUNT, problem=problem, workers=1)
        assert isinstance(env, CompressionVectorEnv)
        observations, _ = env.reset(seed=3)
        assert env.observation_space.contains(observations)
        for action in actions_of(env):
            observations, rewards, _, truncated, infos = env.step(action)
            assert env.observation_space.contains(observations)
            assert not truncated.any()
        assert rewards.shape == (COUNT,) and np.all(rewards > 0)
        assert (
            infos["executed_action"].shape == env.action_space.shape == (COUNT, len(problem.knobs))
        )
        env.close()


@pytest.mark.parametrize("name", list(REGISTERED)[1:])
def test_batched_ones_refuse_the_same_problems(name):
    others = tuple({"keep", "act_bits"} - set(REGISTERED[name]))
    with pytest.raises(ProblemError, match="use pfrl/Compression-v0 for other knobs"):
        gymnasium.make_vec(name, num_envs=COUNT, problem=problem_for(name, knobs=others))


@pytest.mark.parametrize("knobs", [("keep",), ("weight_bits", "keep")])
def test_it_is_the_single_environment_times_e(knobs):
    problem = Problem(ToyTask(), knobs, Budget("bytes", 0.5, True))
    env, single = vector(problem), gymnasium.make("pfrl/Compression-v0", problem=problem)
    actions = actions_of(env)
    batches = [env.reset()[0]]
    steps = [env.step(each) for each in actions]
    batches += [observations for observations, *_ in steps]
    for number in range(COUNT):
        observation, _ = single.reset()
        np.testing.assert_array_equal(batches[0][number], observation)
        for batch, action in zip(steps, actions[:, number], strict=True):
            observation, reward, terminated, truncated, info = single.step(action)
            observations, rewards, ended, cut, infos = batch
            np.testing.assert_array_equal(observations[number], observation)
            assert rewards[number] == reward
            assert (ended[number], cut[number]) == (terminated, truncated)
            np.testing.assert_array_equal(infos["executed_action"][number], info["executed_action"])
        assert infos["policy"][number] == info["policy"]
        assert infos["evaluation"][number] == info["evaluation"]


def test_infos_are_in_the_vector_format():
    env = vector()
    env.reset()
    batches = [env.step(each)[-1] for each in actions_of(env)]
    for infos in batches:
        assert infos["executed_action"].shape == (COUNT, 1)
        assert infos["executed_action"].dtype == np.float32
        assert infos["_executed_action"].all()
    assert all(infos.keys() == {"executed_action", "_executed_action"} for infos in batches[:-1])
    for key, kind in (("policy", Policy), ("evaluation", Evaluation)):
        values, mask = batches[-1][key], batches[-1][f"_{key}"]
        assert values.shape == mask.shape == (COUNT,) and mask.all()
        assert values.dtype == object and all(isinstance(value, kind) for value in values)


def test_the_step_after_the_last_begins_anew():
    env = vector()
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    first, _ = env.reset()
    actions = actions_of(env)
    episode = [env.step(each)[:3] for each in actions]
    observations, rewards, terminated, truncated, infos = env.step(actions[0])
    np.testing.assert_array_equal(observations, first)
    assert not rewards.any() and not terminated.any() and not truncated.any() and infos == {}
    for before, after in zip(episode, [env.step(each)[:3] for each in actions], strict=True):
        for ours, theirs in zip(before, after, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_two_workers_judge_as_this_process_does():
    env, alone = vector(Problem(Signed(), budget=HALF.budget), workers=2), vector()
    try:
        makers = set()
        for seed in range(2):
            actions = actions_of(env, seed)
            env.reset()
            alone.reset()
            for each in actions:
                batch, expected = env.step(each), alone.step(each)
            np.testing.assert_array_equal(batch[1], expected[1])
            pairs = zip(batch[-1]["evaluation"], expected[-1]["evaluation"], strict=True)
            assert all(same(*pair) for pair in pairs)
            makers |= {evaluation.seconds for evaluation in batch[-1]["evaluation"]}
        assert os.getpid() not in makers and len(makers) <= 2
    finally:
        env.close()


def test_workers_that_cannot_be_are_refused(monkeypatch):
    with pytest.raises(ProblemError, match="workers is a whole number from 1"):
        vector(workers=0)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    with pytest.raises(ProblemError, match="cores of a CPU, and JAX uses the gpu"):
        vector(workers=2)
    gymnasium.make_vec("pfrl/Compression-v0", num_envs=2, problem=HALF).close()


def test_stable_baselines3_sees_the_first_observation_of_the_next_episode():
    adapter, env = SB3VecEnv(vector()), vector()
    first = adapter.reset()
    env.reset()
    for step, each in enumerate(actions_of(env)):
        observations, rewards, ended, infos = adapter.step(each)
        expected = env.step(each)
        np.testing.assert_array_equal(rewards, np.float32(expected[1]))
        np.testing.assert_array_equal(ended, expected[2])
        assert ended.all() == (step == env.steps - 1)
        for number, info in enumerate(infos):
            executed = expected[-1]["executed_action"][number]
            np.testing.assert_array_equal(info["executed_action"], executed)
            assert ("terminal_observation" in info) == ended[number]
    np.testing.assert_array_equal(observations, first)
    for number, info in enumerate(infos):
        np.testing.assert_array_equal(info["terminal_observation"], expected[0][number])
        assert info["policy"] == expected[-1]["policy"][number]
        assert not info["TimeLimit.truncated"]
    assert adapter.get_attr("steps", [0, 2]) == [env.steps] * 2


def test_ppo_collects_episodes_in_batches():
    env = vector()
    adapter, steps = SB3VecEnv(env), env.steps
    model = PPO("MlpPolicy", adapter, n_steps=steps, batch_size=steps, n_epochs=1, device="cpu")
    model.learn(2 * steps * COUNT)
    assert model.num_timesteps == 2 * steps * COUNT
    assert len(model.ep_info_buffer or ()) == 0  # nothing is wrapped that would count episodes
    assert model.rollout_buffer.episode_starts[0].all()


def test_torch_is_not_imported_by_the_environments():
    code = "import sys, envs.vector; assert not {'torch', 'stable_baselines3'} & set(sys.modules)"
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
