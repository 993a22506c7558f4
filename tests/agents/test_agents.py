"""The agents on a toy compression problem whose best policy is known in closed form."""

import random
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

import agents.rl.ddpg
import agents.rl.ppo
import agents.rl.sac
import agents.rl.td3
import agents.rl.tqc
from agents import (
    DDPGOptions,
    Episode,
    PPOOptions,
    SACOptions,
    TD3Options,
    TQCOptions,
    search,
    search_environment,
)
from agents.base import Recorder, best_of
from agents.rl.ddpg import AMCAgent
from agents.rl.offpolicy import truncated_normal
from agents.rl.ppo import minibatch_size, rollout_episodes
from agents.rl.replay import BaselineReplay
from pfrl.compression.policy import Policy
from pfrl.evaluation.config import Evaluation
from tests.support.share_toy import BEST_KEEP, BUDGET, COSTS, LOWEST, OPTIMUM, STEPS, WEIGHTS, Toy

QUICK = {
    "ddpg": DDPGOptions(start="random", hidden=(16, 16), batch=8, warmup=0.25),
    "td3": TD3Options(hidden=(16, 16), batch=8, warmup=0.25, updates=2),
    "sac": SACOptions(hidden=(16, 16), batch=8, warmup=0.25, updates=2),
    "tqc": TQCOptions(hidden=(16, 16), batch=8, warmup=0.25, updates=2),
    "ppo": PPOOptions(start="random", hidden=(8,), epochs=2),
    "uniform": None,
    "random": None,
}
ALL = pytest.mark.parametrize("name", list(QUICK))
LEARNING = pytest.mark.parametrize("name", ["ddpg", "td3", "sac", "tqc", "ppo"])


def quick(name: str, episodes: int, seed: int = 0, **kwargs: Any):
    return search_environment(name, Toy(), episodes, seed, options=QUICK[name], **kwargs)


def learn(options: DDPGOptions, env: Toy, warmup: int, episodes: int, on_episode=None) -> AMCAgent:
    """The agent itself, for a look at what it holds."""
    recorder = Recorder(env, on_episode)
    agent = AMCAgent(recorder, recorder, options, warmup, seed=0)
    agent.set_logger(Logger(None, []))
    return agent.learn(episodes * STEPS, log_interval=1)


def play_keep(keep: np.ndarray) -> float:
    """The reward of the toy for kept shares that fit the budget."""
    env = Toy()
    env.reset()
    reward = 0.0
    for share in keep:
        _, reward, _, _, info = env.step([2 * (share - LOWEST) / (1 - LOWEST) - 1])
        assert info["executed_action"][0] == pytest.approx(2 * (share - LOWEST) / 0.8 - 1, abs=1e-6)
    return reward


def test_the_optimum_of_the_toy_is_what_it_is_said_to_be():
    assert play_keep(BEST_KEEP) == pytest.approx(OPTIMUM)
    assert float(COSTS @ BEST_KEEP) == pytest.approx(BUDGET)
    for i in range(STEPS):
        for j in range(STEPS):
            moved = BEST_KEEP.copy()
            moved[i] += 0.01 / COSTS[i]
            moved[j] -= 0.01 / COSTS[j]
            if i != j and moved.max() <= 1 and moved.min() >= LOWEST:
                assert WEIGHTS @ np.sqrt(moved) < OPTIMUM


@pytest.mark.parametrize(("name", "episodes", "options", "share"), [
    ("ddpg", 60, DDPGOptions(updates=4), 0.6),
    pytest.param("ppo", 60, None, 0.75, marks=pytest.mark.ci),
])  # fmt: skip
def test_the_toy_is_solved_better_than_by_random(name, episodes, options, share):
    """``share`` is of the way from random's mean to the optimum; best and final both count.

    The last digits of an update differ between processors, and so does what a seed ends with: the
    mean over seeds is what must be good.
    """
    random_best, best, way = [], [], []
    for seed in range(3):
        control = search_environment("random", Toy(), episodes, seed)
        result = search_environment(name, Toy(), episodes, seed, options=options)
        mean = float(np.mean([episode.reward for episode in control.history]))
        way.append((result.final.reward - mean) / (OPTIMUM - mean))
        assert result.best.reward >= result.final.reward
        assert result.best.reward < OPTIMUM + 1e-9
        random_best.append(control.best.reward)
        best.append(result.best.reward)
    assert np.mean(way) > share and min(way) > 0.5
    assert np.mean(best) > np.mean(random_best) + 0.25 * (OPTIMUM - np.mean(random_best))


@ALL
@pytest.mark.parametrize("episodes", [1, 2, 5, 14])
def test_a_search_evaluates_exactly_as_many_episodes_as_it_is_given(name, episodes):
    env, told = Toy(), []
    result = search_environment(name, env, episodes, 0, told.append, options=QUICK[name])
    assert sum(len(steps) == STEPS for steps in env.episodes) == episodes
    assert [episode.index for episode in result.history] == list(range(episodes))
    assert told == result.history


def test_the_phases_tell_who_chose():
    phases = {name: [e.phase for e in quick(name, 13).history] for name in QUICK}
    off_policy = ["warmup"] * 3 + ["explore"] * 9 + ["final"]
    assert phases == {
        **dict.fromkeys(("ddpg", "td3", "sac", "tqc"), off_policy),
        "ppo": ["explore"] * 12 + ["final"],
        "uniform": ["uniform"] * 13,
        "random": ["random"] * 13,
    }


@ALL
def test_best_and_final(name):
    result = quick(name, 14)
    assert result.best.reward == max(episode.reward for episode in result.history)
    expected = result.best if name in ("uniform", "random") else result.history[-1]
    assert result.final is expected


def test_the_best_is_the_earliest_of_equals_and_never_a_diverged_one():
    def episode(index, reward, diverged=False):
        return Episode(index, "random", Policy(), reward, Evaluation(0, {}, 0, diverged))

    assert best_of([episode(0, 0.1), episode(1, 0.5), episode(2, 0.5)]).index == 1
    assert best_of([episode(0, -0.7), episode(1, 0.0, True), episode(2, -0.2)]).index == 2
    assert best_of([episode(0, -1.0, True), episode(1, 0.0, True)]).index == 1
    some = Episode(1, "random", Policy(), 0.9, Evaluation(0, {}, 0, False, exact=False))
    assert best_of([episode(0, 0.1), some]).index == 0
    assert best_of([episode(0, 0.1, True), some]).index == 1


def test_an_episode_is_a_line_of_json():
    policy = Policy({"conv": 0.5}, {"conv": 8}, {"conv": 8})
    evaluation = Evaluation(0.75, {"macs": 120.0}, 1.5, False, images=300)
    assert Episode(3, "explore", policy, -0.25, evaluation).to_json() == {
        "episode": 3,
        "phase": "explore",
        "reward": -0.25,
        "accuracy": 0.75,
        "costs": {"macs": 120.0},
        "seconds": 1.5,
        "images": 300,
        "diverged": False,
        "policy": policy.to_json(),
    }


@ALL
def test_same_seed_same_search(name):
    def noisy(episode):
        """Somebody else who seeds and draws from the process-wide generators."""
        random.seed(episode.index)
        np.random.seed(episode.index)
        torch.manual_seed(episode.index)

    first = [episode.to_json() for episode in quick(name, 14, seed=3).history]
    again = [episode.to_json() for episode in quick(name, 14, seed=3, on_episode=noisy).history]
    other = [episode.to_json() for episode in quick(name, 14, seed=4).history]
    assert first == again
    assert (first == other) == (name == "uniform")


@LEARNING
def test_a_search_leaves_the_generators_and_the_threads_of_the_process_alone(name):
    def seed_and_draw(between):
        random.seed(7)
        np.random.seed(7)
        torch.manual_seed(7)
        between()
        return random.random(), np.random.random(), torch.rand(()).item()

    def whole_and_interrupted_search():
        quick(name, 6)
        with pytest.raises(KeyboardInterrupt):
            quick(name, 6, on_episode=stop)

    def stop(episode):
        told.append(episode.index)
        if episode.index == 4:
            raise KeyboardInterrupt

    told = []
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert seed_and_draw(whole_and_interrupted_search) == seed_and_draw(lambda: None)
        assert told == [0, 1, 2, 3, 4]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("name", "kind"), [
    ("ddpg", agents.rl.ddpg.AMCAgent),
    ("td3", agents.rl.td3.TD3Agent),
    ("sac", agents.rl.sac.SACAgent),
    ("tqc", agents.rl.tqc.TQCAgent),
    ("ppo", agents.rl.ppo.PPO),
])  # fmt: skip
def test_the_final_episode_is_the_deterministic_actors(name, kind, monkeypatch):
    made, begin = [], kind.__init__

    def remembered(agent, *arguments, **options):
        made.append(agent)
        begin(agent, *arguments, **options)

    monkeypatch.setattr(kind, "__init__", remembered)
    search_environment(name, env := Toy(), 14, 0, options=QUICK[name])
    *explored, final = [steps for steps in env.episodes if len(steps) == STEPS]

    def distance(steps):
        actor = [made[0].predict(step["observation"], deterministic=True)[0] for step in steps]
        return np.abs(np.array(actor) - [step["action"] for step in steps]).max()

    assert distance(final) == 0
    assert distance(explored[-1]) > 0.01


def test_the_replay_holds_what_was_executed():
    env = Toy()
    replay = learn(QUICK["ddpg"], env, warmup=3, episodes=8).replay_buffer
    steps = [step for episode in env.episodes for step in episode]
    executed = np.array([step["executed"] for step in steps])
    assert replay.size() == len(steps) == 8 * STEPS
    np.testing.assert_array_equal(replay.actions[: 8 * STEPS, 0], executed)
    np.testing.assert_array_equal(
        replay.observations[: 8 * STEPS, 0], [step["observation"] for step in steps]
    )
    assert np.abs(executed - [step["action"] for step in steps]).max() > 0.1
    np.testing.assert_array_equal(replay.dones[: 8 * STEPS, 0], [0, 0, 0, 0, 0, 1] * 8)


@pytest.mark.parametrize("share", [True, False])
def test_the_reward_of_an_episode_is_shared_or_given_at_its_end(share):
    options = DDPGOptions(warmup=0.25, share_reward=share, hidden=(8,), batch=8)
    replay = learn(options, Toy(rewards=[1.0, 0.0, 2.0]), warmup=0, episodes=3).replay_buffer
    shared, at_the_end = [1] * 6 + [0] * 6 + [2] * 6, [0] * 5 + [1] + [0] * 6 + [0] * 5 + [2]
    assert replay.rewards[: 3 * STEPS, 0].tolist() == (shared if share else at_the_end)


@pytest.mark.parametrize(
    ("baseline", "averages"), [(True, [1.0, 0.95, 0.95 * 0.95 + 0.05 * 2]), (False, [0, 0, 0])]
)
def test_the_baseline_is_the_moving_average_of_the_episodes(baseline, averages):
    for episodes, average in enumerate(averages, start=1):
        options = DDPGOptions(warmup=0.25, baseline=baseline, hidden=(8,), batch=8)
        agent = learn(options, Toy(rewards=[1.0, 0.0, 2.0]), warmup=0, episodes=episodes)
        assert agent.replay_buffer.baseline == pytest.approx(average, abs=1e-12)


@pytest.mark.parametrize(
    ("share", "drawn"), [(True, {1.5, 4.5, 2.5}), (False, {0.0, 1.5, 4.5, 2.5})]
)
def test_the_baseline_is_subtracted_when_a_batch_is_drawn(share, drawn):
    space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    replay = BaselineReplay(6, space, space, device="cpu", steps=2, share_reward=share)
    zero = np.zeros((1, 1), np.float32)
    # The fourth episode takes the place of the first.
    for reward in (9.0, 2.0, 5.0, 3.0):
        replay.add(zero, zero, zero, np.array([0.0]), np.array([False]), [{}])
        replay.add(zero, zero, zero, np.array([reward]), np.array([True]), [{}])
        replay.finish_episode(reward)
    replay.baseline = 0.5
    rewards = replay.sample(200).rewards
    assert rewards.shape == (200, 1)
    assert set(rewards[:, 0].tolist()) == drawn


def test_truncated_normal_stays_inside_and_has_the_right_spread():
    rng = np.random.default_rng(0)
    means = np.repeat([-1.0, -0.4, 0.0, 1.0], 20_000).reshape(4, -1)
    samples = truncated_normal(means, 1.0, rng)
    assert samples.min() >= -1
    assert samples.max() <= 1
    # Of the standard normal between a and b: mean (f(a) - f(b)) / Z, with f the density and
    # Z = F(b) - F(a); around 0 the variance is 1 - 2·f(1) / (F(1) - F(-1)).
    assert samples[2].mean() == pytest.approx(0, abs=0.01)
    assert samples[2].var() == pytest.approx(1 - 2 * 0.24197 / 0.68269, abs=0.01)
    assert samples[0].mean() == pytest.approx(-1 + (0.39894 - 0.05399) / 0.47725, abs=0.01)
    assert samples[3].mean() == pytest.approx(1 - (0.39894 - 0.05399) / 0.47725, abs=0.01)
    np.testing.assert_allclose(truncated_normal(means, 1e-12, rng), means, atol=1e-10)
    np.testing.assert_array_equal(truncated_normal(means, 0.0, rng), means)


@pytest.mark.parametrize("noise", ["truncated", "gaussian"])
def test_the_noise_decays_from_the_end_of_the_warmup_on(noise):
    options = DDPGOptions(
        warmup=0.25,
        noise=noise,
        sigma=0.25,
        sigma_decay=0.5,
        actor_learning_rate=1e-4,
        hidden=(8,),
        batch=8,
    )
    env, sigmas, made = Toy(), [], []
    recorder = Recorder(env, lambda episode: sigmas.append(made[0].sigma))
    made.append(AMCAgent(recorder, recorder, options, 2, seed=0))
    made[0].set_logger(Logger(None, []))
    made[0].learn(20 * STEPS)
    # Twice the 0.25 of AMC's actions, which lie in [0, 1].
    assert sigmas[2:6] == [0.5, 0.25, 0.125, 0.0625]
    actions = np.array([[step["action"] for step in steps] for steps in env.episodes[:20]])
    assert np.abs(actions).max() <= 1
    assert actions[:2].std() > 0.3
    last = [made[0].predict(step["observation"])[0] for step in env.episodes[19]]
    # One update lies between the last episode and the actor that is asked here.
    np.testing.assert_allclose(actions[19], last, atol=0.02)


def test_learning_rates_and_number_of_updates():
    options = DDPGOptions(warmup=0.25, updates=3, actor_learning_rate=1e-4, hidden=(8,), batch=8)
    agent = learn(options, Toy(), warmup=2, episodes=6)
    assert agent.actor.optimizer.param_groups[0]["lr"] == 1e-4
    assert agent.critic.optimizer.param_groups[0]["lr"] == 1e-3
    # None in the warm-up, three a transition of the four episodes behind it.
    assert agent._n_updates == 3 * STEPS * 4


def test_ppo_makes_as_many_updates_as_there_are_episodes_for():
    assert [rollout_episodes(n, 6, 12) for n in (1, 5, 13, 24, 25, 100)] == [1, 1, 1, 1, 2, 8]
    assert rollout_episodes(5, 1, 12) == 2
    for episodes in range(13, 400):
        assert (episodes - 1) // rollout_episodes(episodes, 6, 12) >= 12
    assert [minibatch_size(n, 4) for n in (48, 6, 7, 2, 3)] == [12, 2, 7, 2, 3]


@pytest.mark.parametrize(("name", "tags"), [
    ("ddpg", {"train/actor_loss", "train/critic_loss"}),
    ("td3", {"train/actor_loss", "train/critic_loss"}),
    ("sac", {"train/actor_loss", "train/critic_loss", "train/ent_coef"}),
    ("tqc", {"train/actor_loss", "train/critic_loss", "train/ent_coef"}),
    ("ppo", {"train/policy_gradient_loss", "train/value_loss", "train/approx_kl"}),
])  # fmt: skip
def test_tensorboard_has_the_tags_of_stable_baselines3(name, tags, tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        played = quick(name, 13, tensorboard=writer).history[:-1]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    shared = {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "train/learning_rate"}
    assert set(events.Tags()["scalars"]) >= shared | tags
    rewards = events.Scalars("rollout/ep_rew_mean")
    assert [event.step for event in rewards] == [*range(12)]  # episodes
    assert rewards[-1].value == pytest.approx(np.mean([e.reward for e in played]), abs=1e-5)
    assert max(event.step for event in events.Scalars(min(tags))) == 12  # the last update's


def test_uniform_does_the_same_in_all_steps_from_high_to_low():
    """Where nothing tells what the budget allows it begins in the middle."""
    env = Toy()
    search_environment("uniform", env, 6, 0)
    actions = [[step["action"].tolist() for step in steps] for steps in env.episodes]
    assert actions == [[[level]] * STEPS for level in (0.0, 1.0, 0.5, 0.0, -0.5, -1.0)]


def test_random_draws_from_the_whole_range():
    env = Toy()
    search_environment("random", env, 40, 0)
    actions = np.array([step["action"] for steps in env.episodes for step in steps])
    assert actions.min() < -0.95
    assert actions.max() > 0.95
    assert abs(actions.mean()) < 0.1
    warm = Toy()
    search_environment("ddpg", warm, 12, 0, options=QUICK["ddpg"])
    for ours, theirs in zip(warm.episodes[:3], env.episodes[:3], strict=True):
        assert [step["action"] for step in ours] == [step["action"] for step in theirs]


def test_the_door_makes_the_registered_environment(monkeypatch):
    asked = []
    monkeypatch.setattr(gymnasium, "make", lambda *args, **kw: asked.append((args, kw)) or Toy())
    result = search("random", "a problem", 3, 0)
    assert asked == [(("pfrl/Compression-v0",), {"problem": "a problem"})]
    assert len(result.history) == 3


def test_torch_is_imported_only_for_agents_that_learn():
    code = "import sys, agents; sys.exit('torch' in sys.modules or 'jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
