"""What AMC (arXiv 1802.03494) changed of DDPG, for every off-policy agent of stable-baselines3.

``OffPolicyAgent`` goes before an algorithm in the bases of a class; the
algorithm's own update is left as it is. AMC and what is different here:

- AMC's actions lie in [0, 1]; here in [-1, 1], so ``a = 2·a_AMC - 1``, and a
  standard deviation is twice AMC's.
- AMC's discount is 1 with the episode's reward at every transition, so that
  the value of an action counts it once for every layer still to come; a lower
  one (0.9) trusts less in values that a short search has hardly learned.
- The replay memory holds the action that the budget let happen, as the paper
  says; AMC's code stores the action that was asked for.
- The baseline is the moving average of the episodes' rewards, as the paper
  says; AMC's code averages the rewards of the sampled batches, with a weight
  of 0.5. As there, it is subtracted when a batch is drawn: rewards that stay
  in the memory are all measured from the baseline of the moment.
- The warm-up is a share of the episodes; AMC's is 100 of 800. Its first
  episode plays action 0 at every step, the centre, which AMC has not.
- A model of the reward may choose which of several candidates is explored
  (``screen``), which AMC has not.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import update_learning_rate
from torch.optim import Optimizer

from agents.base import Recorder, Scalars
from agents.rl.options import OffPolicyOptions
from agents.rl.replay import BaselineReplay
from agents.rl.sb3 import learn_and_play
from agents.rl.screening.candidates import Screen, truncated_normal
from agents.rl.screening.limits import EveryLimit, screen_of
from agents.rl.trained import Trained
from envs.compression import CompressionEnv
from pfrl.compression.policy import Policy


class OffPolicyAgent(OffPolicyAlgorithm):
    """See the head of this file.

    Args:
      env: what the algorithm plays in, around ``recorder``.
      recorder: tells the size of an episode and is told its phase.
      options: of the algorithm.
      warmup: number of episodes that are played before anything is learned.
      seed: of all draws.
      policy_kwargs: what the networks have besides ``options.hidden``.
      particular: arguments of this algorithm alone.
    """

    actor: Any  # BasePolicy, of a kind that the algorithm tells
    replay_buffer: BaselineReplay

    def __init__(
        self,
        env: gymnasium.Env,
        recorder: Recorder,
        options: OffPolicyOptions,
        warmup: int,
        seed: int,
        policy_kwargs: dict[str, Any] | None = None,
        **particular: Any,
    ):
        self._options = options
        self._recorder = recorder
        self._warmup = warmup
        self._rng = np.random.default_rng(seed)
        self._average: float | None = None
        self._executed: list[np.ndarray] = []
        self._candidate = np.zeros((recorder.steps, recorder.knobs), np.float32)
        self.screen = screen_of(recorder, options, self._rng) if options.screen > 1 else None
        steps = recorder.steps
        super().__init__(
            "MlpPolicy",
            env,
            learning_rate=options.critic_learning_rate,
            buffer_size=options.replay * steps,
            learning_starts=warmup * steps,
            batch_size=options.batch,
            tau=options.tau,
            gamma=options.gamma,
            train_freq=(1, "episode"),
            gradient_steps=options.updates * steps,
            replay_buffer_class=BaselineReplay,
            replay_buffer_kwargs={"steps": steps, "share_reward": options.share_reward},
            policy_kwargs={
                "net_arch": list(options.hidden),
                # One operation for all arrays: they are so small that calls take the time.
                "optimizer_kwargs": {"fused": True},
                **(policy_kwargs or {}),
            },
            seed=seed,
            device="cpu",
            **particular,
        )

    @property
    def sigma(self) -> float:
        """Standard deviation of this episode's exploration, actions in [-1, 1]."""
        explored = self._episode_num - self._warmup
        return 2 * self._options.sigma * self._options.sigma_decay**explored

    def explore(self, observation: np.ndarray) -> np.ndarray:
        """Actions in [-1, 1] ``[..., K]`` to try for observations ``[..., D]``."""
        if self._options.noise == "own":
            return self.predict(observation)[0]
        action = self.predict(observation, deterministic=True)[0]
        if self._options.noise == "truncated":
            return truncated_normal(action, self.sigma, self._rng)
        return np.clip(self._rng.normal(action, self.sigma), -1, 1)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        episode, step = divmod(self.num_timesteps, self._recorder.steps)
        assert self._last_obs is not None
        if step == 0 and self.screen is not None:
            self.screen.begin()
        if episode < self._warmup:
            self._recorder.phase = "warmup"
            action = self._warm_up(episode, n_envs)
        else:
            self._recorder.phase = "explore"
            if self.screen is None:
                action = self.explore(np.asarray(self._last_obs))
            else:
                if step == 0:
                    self._candidate = self._choose_candidate(self.screen)
                action = self._candidate[None, step]
        action = action.astype(np.float32)
        return action, action

    def _warm_up(self, episode: int, n_envs: int) -> np.ndarray:
        if self._options.carried is not None:
            return self.predict(np.asarray(self._last_obs), deterministic=True)[0]
        if episode == 0 and self._options.start == "centre":
            return np.zeros((n_envs, self._recorder.knobs))
        return self._rng.uniform(-1, 1, (n_envs, self._recorder.knobs))

    def _choose_candidate(self, screen: Screen) -> np.ndarray:
        """Of explored episodes ``[L, K]`` the one that promises most.

        All are drawn around what the actor would do, on the observations of the episode that
        it would play: in one batch, which takes some milliseconds.
        """
        seen: list[np.ndarray] = []
        assert self.observation_space.shape is not None
        (size,) = self.observation_space.shape

        def act(observation: np.ndarray) -> np.ndarray:
            seen.append(observation[:size])
            return self.predict(observation[:size], deterministic=True)[0]

        screen.dry_run.rollout(act)
        asked = self.explore(np.tile(np.stack(seen), (screen.count, 1))).astype(np.float32)
        return screen.choose(asked.reshape(screen.count, *self._candidate.shape))

    def plan(self, env: CompressionEnv, limit: float) -> Policy:
        """See ``agents.rl.screening.limits.EveryLimit.plan``."""
        assert isinstance(self.screen, EveryLimit)
        assert self.observation_space.shape is not None
        (size,), asked = self.observation_space.shape, []

        def act(observation: np.ndarray) -> np.ndarray:
            asked.append(self.predict(observation[:size], deterministic=True)[0])
            return asked[-1]

        env.decide(act, limit)
        planned = iter(self.screen.plan(env.under(limit), np.stack(asked)))
        return env.decide(lambda observation: next(planned), limit)

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        executed = np.stack([info["executed_action"] for info in infos])
        self._executed.append(executed[0])
        super()._store_transition(replay_buffer, executed, new_obs, reward, dones, infos)
        if dones[0]:
            self._finish_episode(float(reward[0]))

    def _finish_episode(self, reward: float) -> None:
        if self.screen is not None:
            self.screen.add(np.stack(self._executed), reward)
        self._executed.clear()
        self.replay_buffer.finish_episode(reward)
        if self._options.baseline:
            decay = 0.0 if self._average is None else self._options.baseline_decay
            self._average = decay * (self._average or 0.0) + (1 - decay) * reward
            self.replay_buffer.baseline = self._average

    def _update_learning_rate(self, optimizers: list[Optimizer] | Optimizer) -> None:
        super()._update_learning_rate(optimizers)
        update_learning_rate(self.actor.optimizer, self._options.actor_learning_rate)


def search_off_policy(
    kind: Callable[[gymnasium.Env, Recorder, Any, int, int], OffPolicyAgent],
    env: Recorder,
    episodes: int,
    seed: int,
    options: OffPolicyOptions,
    tensorboard: Scalars | None,
) -> None:
    """Warm-up, exploration, and the deterministic actor's episode; for every ``kind`` of agent."""
    warmup, portable = int(options.warmup * episodes), options.portable
    carried = None if options.carried is None else Trained.load(Path(options.carried))
    if carried is not None:
        warmup, portable = min(1, episodes - 1), carried.portable

    def make(outside: gymnasium.Env) -> OffPolicyAgent:
        agent = kind(outside, env, options, warmup, seed)
        env.plan = agent.plan if isinstance(agent.screen, EveryLimit) else None
        if carried is not None:
            carried.put_into(agent)
        return agent

    learn_and_play(
        make,
        env,
        episodes,
        learn_from=episodes - 1,
        tensorboard=tensorboard,
        portable=portable,
    )
