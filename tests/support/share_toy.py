"""A compression problem of kept shares alone, without a network, solved in closed form."""

import math
from typing import Any

import gymnasium
import numpy as np

from pfrl.compression.policy import Policy
from pfrl.evaluation.config import Evaluation

LOWEST = 0.2
WEIGHTS = np.array([1, 6, 1, 6, 2, 1]) / 17
COSTS = np.array([2, 1, 1, 1, 2, 1]) / 8
BUDGET = 0.5
STEPS = 6
# Maximize sum w·sqrt(k) under sum c·k = 1/2 and 0.2 <= k <= 1: k = m·(w/c)², clipped. In units of
# 1/8 the budget is 4; the heavy second and fourth layer are at 1, the first (w/c = 1/2) is at
# 0.2, the others have w/c = 1: 2·0.2 + 1 + m + 1 + 2m + m = 4, so m = 0.4.
BEST_KEEP = np.array([0.2, 1, 0.4, 1, 0.4, 0.4])
OPTIMUM = (math.sqrt(0.2) + 12 + 4 * math.sqrt(0.4)) / 17


class Toy(gymnasium.Env):
    """Accuracy ``sum w·sqrt(keep)``, ``keep`` from 0.2 to 1, budget ``sum c·keep <= 0.5``.

    ``rewards``, if given, are those of the episodes, in turn, whatever was done.
    """

    def __init__(self, rewards: list[float] | None = None):
        self.steps = STEPS
        self.observation_space = gymnasium.spaces.Box(0, 1, (5 + STEPS,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.rewards = rewards
        self.keep: list[float] = []
        self.episodes: list[list[dict[str, Any]]] = []
        """Of every step of every episode: observation, action, executed action."""

    def observe(self) -> np.ndarray:
        done = len(self.keep)
        now = [
            done / STEPS,
            COSTS[min(done, STEPS - 1)] * 4,
            COSTS[:done] @ self.keep,
            COSTS[done:].sum(),
            self.keep[-1] if done else 0,
        ]
        return np.array([*now, *self.keep, *[0] * (STEPS - done)], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.keep = []
        self.episodes.append([])
        return self.observe(), {}

    def step(self, action):
        done = len(self.keep)
        left = BUDGET - COSTS[:done] @ self.keep - LOWEST * COSTS[done + 1 :].sum()
        asked = LOWEST + (1 - LOWEST) * (float(action[0]) + 1) / 2
        keep = float(min(asked, left / COSTS[done]))
        executed = np.array([2 * (keep - LOWEST) / (1 - LOWEST) - 1], np.float32)
        self.episodes[-1].append(
            {"observation": self.observe(), "action": np.array(action), "executed": executed}
        )
        self.keep.append(keep)
        info: dict[str, Any] = {"executed_action": executed}
        terminated = len(self.keep) == STEPS
        reward = 0.0
        if terminated:
            accuracy = float(WEIGHTS @ np.sqrt(self.keep))
            reward = self.rewards.pop(0) if self.rewards else accuracy
            costs = {"macs": float(COSTS @ self.keep)}
            info["evaluation"] = Evaluation(accuracy, costs, 0.0, False)
            info["policy"] = Policy({f"group{i}": keep for i, keep in enumerate(self.keep)})
        return self.observe(), reward, terminated, False, info
