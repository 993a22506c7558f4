"""``pfrl/Compression-v0``: one episode compresses a network, one step decides a layer."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from envs.problem import KNOBS, Problem, ProblemError
from envs.process import DecisionProcess
from envs.projection import project, settle


class CompressionEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Compress a network layer by layer under a budget.

    ## Action space
    ``Box(-1, 1, (K,))``, one number for every knob of the problem.

    | knob | choices, from -1 to 1 |
    | --- | --- |
    | keep | channels of the groups that the layer produces first, from ``keep_min`` to all |
    | weight_bits | bits of the layer's kernel, 2 to 8 |
    | act_bits | bits of the layer's input, 2 to 8 |
    | sparsity | zeros among the layer's remaining weights, from 90 % to none |
    | rank | channels between the two layers that a decomposed one is, from 1 to all |

    Under a budget 0 is the action of the largest uniform policy that meets it, unless
    the problem's ``centre`` is 'middle'; see ``envs.decisions.Decisions``. Where the
    budget does not allow a choice, the largest one that it allows is taken;
    ``info["executed_action"]`` is the action that stands for it, and 0 for a knob that
    the layer does not have (its groups are decided already, or it is the first or last
    layer, whose bits are fixed and whose weights are dense).

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
    met, or its budget, reward or knobs need what its task does not have.

    ## Version history
    * v0: first version. With ``centre="middle"`` actions are what they were before there
      was a centre.
    """

    metadata = {"render_modes": [], "autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012
    knobs: tuple[str, ...] = KNOBS
    """Those that a problem may have."""

    def __init__(self, problem: Problem):
        check_knobs(problem, self.knobs, type(self).__name__)
        self.problem = problem
        self._process = DecisionProcess(problem)
        self.decisions = self._process.decisions
        self.steps = self._process.steps
        self.live = self._process.live
        self.action_space = self._process.action_space
        self.observation_space = self._process.observation_space
        self._draft = self._process.begin()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._draft = self._process.begin()
        return self._draft.observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        info: dict[str, Any] = {"executed_action": self._draft.decide(action)}
        reward = 0.0
        if self._draft.complete:
            policy = self._draft.policy()
            evaluation = self._process.evaluate(policy)
            reward = float(self._process.reward(evaluation))
            info |= {"evaluation": evaluation, "policy": policy}
        return self._draft.observation(), reward, self._draft.complete, False, info

    def rollout(self, act: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """What a whole episode would execute, without its evaluation.

        The episode that is being played stays where it is.

        Args:
          act: maps an observation to an action ``[K]`` in [-1, 1].

        Returns:
          the executed actions ``[L, K]`` float32.
        """
        draft = self._process.begin()
        return np.stack([draft.decide(act(draft.observation())) for _ in range(self.steps)])

    def project(self, actions: np.ndarray) -> np.ndarray:
        """The actions ``[B, L, K]`` that whole episodes of the actions ``[B, L, K]`` execute."""
        return project(self.decisions, actions)

    def settle(self, executed: np.ndarray) -> np.ndarray:
        """Executed actions ``[B, L, K]``, equal where the policy is: the middles of the choices."""
        return settle(self.decisions, executed)


def check_knobs(problem: Problem, knobs: tuple[str, ...], name: str) -> None:
    """Raises ProblemError if a problem has other knobs than those of an environment."""
    others = [knob for knob in problem.knobs if knob not in knobs]
    if others:
        raise ProblemError(
            f"{name} decides {' and '.join(knobs)}, not {' or '.join(others)}; use"
            " pfrl/Compression-v0 for other knobs"
        )
