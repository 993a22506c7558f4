"""``pfrl/Compression-v0``: one episode compresses a network, one step decides a layer."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.decisions import Decisions
from envs.observation import Observer
from envs.problem import Problem, ProblemError
from envs.rewards import Reference, reward_of


class CompressionEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Compress a network layer by layer under a budget.

    ## Action space
    ``Box(-1, 1, (K,))``, one number for every knob of the problem. The interval is
    cut into as many equal parts as the knob has choices.

    | knob | choices, from -1 to 1 |
    | --- | --- |
    | keep | channels of the groups that the layer produces first, from ``keep_min`` to all |
    | weight_bits | bits of the layer's kernel, 2 to 8 |
    | act_bits | bits of the layer's input, 2 to 8 |

    Where the budget does not allow a choice, the largest one that it allows is
    taken; ``info["executed_action"]`` is the action that stands for it, and 0
    for a knob that the layer does not have (its groups are decided already,
    or it is the first or last layer, whose bits are fixed).

    ## Observation space
    ``Box(-1, 1, (17 + K + L·K,))``: see ``envs.observation.Observer``.

    ## Reward
    0 on every step but the last, where the policy is evaluated:

    | name | formula |
    | --- | --- |
    | accuracy | accuracy on the search split |
    | -error | accuracy - 1 |
    | -error*log(macs) | (accuracy - 1) · ln(MACs) |
    | haq | 0.1 · (accuracy - base accuracy), in percent |
    | latency | accuracy · (latency / target)^w |

    A diverged evaluation gets the reward of accuracy 0 at the base's costs.

    ## Starting state
    Always the same: nothing decided. ``reset(seed=...)`` changes nothing, for
    the process is deterministic.

    ## Episode end
    ``terminated`` after the last layer; never ``truncated``. The last ``info``
    holds ``evaluation`` and ``policy``.

    ## Arguments
    ``problem``: an ``envs.Problem``. ``BudgetError`` or ``ProblemError`` if its budget cannot be
    met, or its budget or reward needs a latency model that its task does not have.

    ## Version history
    * v0: first version.
    """

    metadata = {"render_modes": [], "autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, problem: Problem):
        self.problem = problem
        graph, costs, self._evaluate, base_accuracy = problem.open()
        if problem.reward == "latency" and "latency" not in costs.metrics:
            raise ProblemError(
                "the reward 'latency' needs a latency model and the task has none; give it a"
                " latency_table or choose another reward"
            )
        self.decisions = Decisions(problem, graph, costs)
        self._observe = Observer(self.decisions)
        self._reference = Reference(
            base_accuracy,
            costs.base,
            problem.latency_target(costs.base),
            problem.latency_exponent,
        )
        self.steps = len(self.decisions.steps)
        self.live = np.array([[k is not None for k in row] for _, row in self.decisions.steps])
        """bool ``[L, K]``: which actions decide something; the others are 0 when executed."""
        knobs = len(problem.knobs)
        self.action_space = spaces.Box(-1, 1, (knobs,), np.float32)
        self.observation_space = spaces.Box(-1, 1, (self._observe.size,), np.float32)
        self._begin()

    def _begin(self) -> None:
        self._step = 0
        self._at = self.decisions.start.copy()
        self._levels = np.full((self.steps, len(self.problem.knobs)), -1.0)
        self._last_action = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._begin()
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._step >= self.steps:
            raise RuntimeError("the episode has ended; call reset() first")
        self._at, executed, levels = self.decisions.execute(self._step, action, self._at)
        self._levels[self._step] = levels
        self._last_action = float(executed[0])
        self._step += 1
        info: dict[str, Any] = {"executed_action": executed}
        terminated = self._step == self.steps
        reward = 0.0
        if terminated:
            policy = self._at.policy(self.decisions.graph)
            evaluation = self._evaluate(policy)
            reward = float(reward_of(self.problem.reward, evaluation, self._reference))
            info |= {"evaluation": evaluation, "policy": policy}
        return self._observation(), reward, terminated, False, info

    def _observation(self) -> np.ndarray:
        return self._observe(self._step, self._at, self._levels, self._last_action)
