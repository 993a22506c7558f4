"""AMC's changes in every off-policy agent, the start at the centre, and screening."""

import time
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.logger import Logger

from agents import (
    DDPGOptions,
    PPOOptions,
    SACOptions,
    TD3Options,
    TQCOptions,
    search,
    search_environment,
)
from agents.base import Recorder
from agents.rl.bounded import InvertingGradients
from agents.rl.ddpg import AMCAgent
from agents.rl.sac import SACAgent
from agents.rl.screening.surrogate import RewardModel, fit, matern, predict
from agents.rl.td3 import TD3Agent
from agents.rl.tqc import TQCAgent
from envs import Problem
from pfrl.cost import Budget
from tests.support.share_toy import OPTIMUM, STEPS, Toy
from tests.support.toy import ToyTask

AGENTS: dict[str, Any] = {
    "ddpg": (AMCAgent, DDPGOptions),
    "td3": (TD3Agent, TD3Options),
    "sac": (SACAgent, SACOptions),
    "tqc": (TQCAgent, TQCOptions),
}
EVERY = pytest.mark.parametrize("name", list(AGENTS))
SMALL: dict[str, Any] = {"hidden": (16, 16), "batch": 8, "warmup": 0.25}


class Rehearsing(Toy):
    """The toy, which plays an episode without evaluating it, too."""

    def __init__(self):
        super().__init__()
        self.rehearsed: list[np.ndarray] = []

    def rollout(self, act):
        other = Toy()
        observation, _ = other.reset()
        for _ in range(STEPS):
            observation, *_ = other.step(act(observation))
        self.rehearsed.append(np.array([step["executed"] for step in other.episodes[0]]))
        return self.rehearsed[-1]

    def project(self, actions):
        found = []
        for episode in actions:
            steps = iter(episode)
            found.append(self.rollout(lambda observation, steps=steps: next(steps)))
        return np.stack(found)

    def canonicalize(self, executed):
        return executed


def learn(name: str, env: Toy, warmup: int, episodes: int, **options: Any):
    kind, options_of = AGENTS[name]
    recorder = Recorder(env)
    agent = kind(recorder, recorder, options_of(**{**SMALL, **options}), warmup, seed=0)
    agent.set_logger(Logger(None, []))
    return agent.learn(episodes * STEPS, log_interval=1)


@EVERY
def test_what_was_executed_is_stored_with_the_reward_of_its_episode(name):
    env = Toy(rewards=[1.0, 0.0, 2.0, 4.0])
    replay = learn(name, env, warmup=1, episodes=4).replay_buffer
    executed = np.array([step["executed"] for steps in env.episodes for step in steps])
    asked = np.array([step["action"] for steps in env.episodes for step in steps])
    np.testing.assert_array_equal(replay.actions[: 4 * STEPS, 0], executed)
    assert np.abs(executed - asked).max() > 0.01
    assert replay.rewards[: 4 * STEPS, 0].tolist() == [1] * 6 + [0] * 6 + [2] * 6 + [4] * 6
    # 1, then with a decay of 0.95 the rewards 0, 2 and 4.
    assert replay.baseline == pytest.approx(0.95**3 + 0.05 * (0.95 * 2 + 4))


@EVERY
def test_learning_rates_updates_and_the_end_of_the_actor(name):
    rates = {"actor_learning_rate": 2e-4, "critic_learning_rate": 3e-3}
    agent = learn(name, Toy(), warmup=2, episodes=5, **rates | {"updates": 2})
    assert agent.actor.optimizer.param_groups[0]["lr"] == 2e-4
    assert agent.critic.optimizer.param_groups[0]["lr"] == 3e-3
    assert agent._n_updates == 2 * STEPS * 3
    inverting = [type(part) for part in agent.actor.modules()].count(InvertingGradients)
    assert inverting == (name in ("ddpg", "td3"))


@pytest.mark.parametrize(("name", "learned"), [("sac", True), ("sac", False), ("tqc", True)])
def test_the_weight_of_the_entropy(name, learned):
    agent = learn(name, Toy(), warmup=1, episodes=4, entropy=0.2, learn_entropy=learned)
    if learned:
        # An actor that has hardly learned draws with a higher entropy than the -1 that is aimed at,
        # so that the weight falls.
        assert 0.9 < agent.log_ent_coef.exp().item() / 0.2 < 0.999
    else:
        assert agent.ent_coef_tensor.item() == pytest.approx(0.2)


@pytest.mark.parametrize("noise", ["own", "truncated", "gaussian"])
def test_an_actor_that_draws_its_actions_can_take_other_noise(noise):
    env = Toy()
    agent = learn("sac", env, warmup=2, episodes=20, noise=noise, sigma_decay=0.5)
    last = env.episodes[19]
    actor = [agent.predict(step["observation"], deterministic=True)[0] for step in last]
    distance = np.abs(np.array(actor) - [step["action"] for step in last]).max()
    # After 18 episodes the other noises have gone, and one update lies between.
    assert (distance > 0.1) == (noise == "own")


@pytest.mark.parametrize(("name", "options"), [
    ("td3", TD3Options(hidden=(64, 64), actor_learning_rate=1e-3, updates=4)),
    pytest.param("sac", SACOptions(hidden=(32, 32), updates=4), marks=pytest.mark.ci),
    pytest.param("tqc", TQCOptions(hidden=(32, 32), updates=4), marks=pytest.mark.slow),
])  # fmt: skip
def test_the_toy_is_solved_better_than_by_random(name, options):
    """In the median search, as shares of the way from random's best to the optimum."""
    best, final, control = [], [], []
    for seed in range(3):
        result = search_environment(name, Toy(), 60, seed, options=options)
        best.append(result.best.reward)
        final.append(result.final.reward)
        control.append(search_environment("random", Toy(), 60, seed).best.reward)
    assert np.median(best) > np.median(control) + 0.15 * (OPTIMUM - np.median(control))
    assert np.median(final) > np.median(control) - 0.2 * (OPTIMUM - np.median(control))


@pytest.mark.parametrize("options", [
    *(kind(hidden=(8,), batch=8, updates=1) for _, kind in AGENTS.values()),
    PPOOptions(hidden=(8,), epochs=1),
], ids=lambda options: type(options).__name__)  # fmt: skip
def test_a_search_starts_at_the_centre(options):
    name = type(options).__name__.removesuffix("Options").lower()
    env = Toy()
    result = search_environment(name, env, 8, 0, options=options)
    played = [np.array([step["action"] for step in steps]) for steps in env.episodes if steps]
    assert len(played) == 8
    assert result.history[0].phase == "warmup"
    np.testing.assert_array_equal(played[0], np.zeros((STEPS, 1)))
    assert all(np.abs(actions).max() > 0 for actions in played[1:])


def test_the_centre_takes_no_draw_from_the_random_warmup():
    env, control = Toy(), Toy()
    search_environment("ddpg", env, 12, 0, options=DDPGOptions(**SMALL))
    search_environment("random", control, 2, 0)
    for ours, theirs in zip(env.episodes[1:3], control.episodes, strict=True):
        assert [step["action"] for step in ours] == [step["action"] for step in theirs]


@EVERY
def test_what_is_screened_is_played_as_in_the_dry_run(name):
    env = Rehearsing()
    options = AGENTS[name][1](screen=5, **SMALL)
    result = search_environment(name, env, 12, 0, options=options)
    played = [np.array([s["executed"] for s in steps]) for steps in env.episodes if steps]
    assert len(played) == len(result.history) == 12
    # Of every episode the actor's own, and five candidates.
    assert len(env.rehearsed) == 6 * 8
    places = []
    for number, episode in enumerate(played[3:11]):
        candidates = env.rehearsed[6 * number + 1 : 6 * number + 6]
        same = [np.array_equal(candidate, episode) for candidate in candidates]
        assert any(same)
        places.append(same.index(True))
    assert len(set(places)) > 1


def test_no_network_is_played_twice_by_a_screened_agent():
    problem = Problem(ToyTask(), budget=Budget("macs", 0.5, True))
    for name in ("ddpg", "sac"):
        options = AGENTS[name][1](hidden=(16, 16), batch=8, warmup=0.0)
        history = search(name, problem, 40, seed=0, options=options).history
        # The last episode is the actor's, whatever was played before.
        policies = [str(episode.policy.to_json()) for episode in history[:-1]]
        assert len(set(policies)) == len(policies)


def test_canonical_actions_are_equal_where_the_policy_is():
    problem = Problem(ToyTask(), ("keep", "weight_bits"), Budget("bytes", 0.4, True))
    env: Any = gymnasium.make("pfrl/Compression-v0", problem=problem).unwrapped
    rng = np.random.default_rng(0)
    shape = env.live.shape
    actions = rng.uniform(-1, 1, (60, *shape)).astype(np.float32)
    actions[30:] = np.clip(actions[:30] + rng.normal(0, 0.02, (30, *shape)), -1, 1)
    canonical = env.canonicalize(env.project(actions))
    np.testing.assert_array_equal(canonical, env.canonicalize(canonical))

    def policy(episode):
        env.reset()
        *_, (*_, info) = (env.step(action) for action in episode)
        return info["policy"]

    policies = [policy(episode) for episode in actions]
    assert [policy(episode) for episode in canonical] == policies
    same = [(a == b, np.array_equal(p, q)) for a, p in zip(policies, canonical, strict=True)
            for b, q in zip(policies, canonical, strict=True)]  # fmt: skip
    assert all(one == other for one, other in same)
    assert sum(one for one, _ in same) > 60


def test_screening_needs_no_warmup_and_is_left_out_where_there_is_no_dry_run():
    options = DDPGOptions(screen=3, **{**SMALL, "warmup": 0})
    env = Rehearsing()
    assert len(search_environment("ddpg", env, 5, 0, options=options).history) == 5
    # The first two episodes are not chosen from several.
    assert len(env.rehearsed) == 1 + 1 + (1 + 3) + (1 + 3)
    blind = search_environment("ddpg", Toy(), 9, 0, options=DDPGOptions(screen=3, **SMALL))
    plain = search_environment("ddpg", Toy(), 9, 0, options=DDPGOptions(screen=1, **SMALL))
    assert [e.reward for e in blind.history] == [e.reward for e in plain.history]


def test_screening_improves_a_search_of_a_smooth_reward():
    def median(screen: int) -> float:
        options = DDPGOptions(hidden=(64, 64), actor_learning_rate=1e-3, screen=screen)
        searches = [
            search_environment("ddpg", Rehearsing(), 40, seed, options=options) for seed in range(3)
        ]
        return float(np.median([result.best.reward for result in searches]))

    without, screened = median(1), median(16)
    assert screened > without + 0.3 * (OPTIMUM - without)


def test_the_reward_model_orders_what_it_has_not_seen():
    rng = np.random.default_rng(0)

    def reward(actions):
        return np.sqrt(actions + 1.2) @ np.linspace(1, 3, 12) + actions[:, 0] * actions[:, 1]

    seen, new = rng.uniform(-1, 1, (40, 12)), rng.uniform(-1, 1, (200, 12))
    began = time.thread_time()  # no matter who else computes
    model = fit(seen, reward(seen))
    mean, deviation = predict(model, new)
    assert time.thread_time() - began < 0.5
    assert np.corrcoef(mean, reward(new))[0, 1] > 0.85
    # It is surer of what it has seen, and its doubt has the size of its errors.
    assert predict(model, seen)[1].max() < deviation.min()
    assert 0.4 < np.std(mean - reward(new)) / deviation.mean() < 2.5


def test_the_reward_model_by_hand():
    # One episode at 0 with reward 1 above the mean: the noise of 0.5 leaves 1 / 1.5 of it there.
    at = np.zeros((1, 1))
    root = np.sqrt([[1.5]])
    model = RewardModel(at, 1.0, root, np.array([1 / 1.5]), 2.0, 10.0, 3.0)
    mean, deviation = predict(model, np.array([[0.0], [1.0], [100.0]]))
    near = float(matern(np.array(1.0), 1.0))
    assert near == pytest.approx((1 + 5**0.5 + 5 / 3) * np.exp(-(5**0.5)))
    np.testing.assert_allclose(mean, [10 + 3 / 1.5, 10 + 3 * near / 1.5, 10], atol=1e-9)
    variances = 2 * np.array([1 - 1 / 1.5, 1 - near**2 / 1.5, 1])
    np.testing.assert_allclose(deviation, 3 * np.sqrt(variances), rtol=1e-6)
    equal = predict(fit(np.arange(6.0).reshape(3, 2), np.full(3, 0.7)), np.zeros((1, 2)))
    assert equal[0] == pytest.approx(0.7)


def test_a_dry_run_tells_what_will_be_executed():
    problem = Problem(ToyTask(), budget=Budget("macs", 0.5, True))
    env: Any = gymnasium.make("pfrl/Compression-v0", problem=problem).unwrapped
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, env.live.shape).astype(np.float32)
    seen, asked = [], iter(actions)
    before = env.reset()[0]
    executed = env.rollout(lambda observation: (seen.append(observation), next(asked))[1])
    np.testing.assert_array_equal(seen[0], before)
    for step, action in enumerate(actions):
        observation, *_, info = env.step(action)
        np.testing.assert_array_equal(info["executed_action"], executed[step])
        if step + 1 < len(actions):
            np.testing.assert_array_equal(observation, seen[step + 1])
            env.rollout(lambda observation: np.zeros(1))
