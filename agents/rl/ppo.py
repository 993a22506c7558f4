"""PPO of stable-baselines3, with rollouts short enough for searches of some hundred episodes.

The budget's projection is part of the environment that PPO learns in: its
likelihood ratios need the actions that it drew, not those that were executed.
So it does not learn from an episode of the centre of all actions either; its
first Gaussian is around there anyway (to some hundredths: the weights of its
last layer start small), with a standard deviation of 1.

The episodes of a rollout are drawn from one policy, so they may as well be
played side by side (``parallel``), which takes less time where there are
many cores or episodes are long: the workers have to start first.
"""

from functools import partial

import numpy as np
from stable_baselines3 import PPO

from agents.base import Recorder, Scalars, play
from agents.rl.batch import side_by_side
from agents.rl.options import PPOOptions
from agents.rl.sb3 import learn_and_play


def rollout_episodes(episodes: int, steps: int, updates: int) -> int:
    """Episodes (of ``steps`` steps) a rollout: ``episodes - 1`` make ``updates`` rollouts or more.

    With fewer episodes than updates it is one episode, and there are as many
    updates as episodes. It is never a single transition: advantages of one
    transition cannot be normalized.
    """
    return max((episodes - 1) // updates, 2 if steps == 1 else 1)


def minibatch_size(rollout: int, minibatches: int) -> int:
    """Transitions a gradient step: the rollout in at most ``minibatches`` equal parts above 1."""
    parts = [n for n in range(1, minibatches + 1) if rollout % n == 0 and rollout // n > 1]
    return rollout // max(parts)


def search_ppo(
    env: Recorder, episodes: int, seed: int, options: PPOOptions, tensorboard: Scalars | None
) -> None:
    """A ``Search``: the centre, whole rollouts, what is left over, the deterministic actor's."""
    steps = env.steps
    if options.start == "centre" and episodes > 1:
        env.phase = "warmup"
        play(env, lambda observation: np.zeros(env.knobs, np.float32))
    explored = episodes - len(env.history)
    rollout = rollout_episodes(explored, steps, options.updates)
    count, batch = options.parallel, None
    if count > 1:
        rollout = max(rollout // count, 1) * count
        batch = partial(side_by_side, count=count)
    env.phase = "explore"
    learn_and_play(
        lambda place: PPO(
            "MlpPolicy",
            place,
            learning_rate=options.learning_rate,
            n_steps=rollout // count * steps,
            batch_size=minibatch_size(rollout * steps, options.minibatches),
            n_epochs=options.epochs,
            gamma=options.gamma,
            gae_lambda=options.gae_lambda,
            ent_coef=options.entropy,
            policy_kwargs={"net_arch": list(options.hidden), "log_std_init": options.log_std},
            seed=seed,
            device="cpu",
        ),
        env,
        episodes,
        learn_from=(explored - 1) // rollout * rollout,
        tensorboard=tensorboard,
        batch=batch,
    )
