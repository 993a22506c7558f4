"""``pfrl/Compression-v0``: one episode compresses a network, one step decides a layer."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.choices import Decision
from envs.knobs import KNOBS
from envs.problem import Problem, ProblemError
from envs.process import DecisionProcess
from envs.projection import canonicalize, project
from pfrl.compression.policy import Policy
from pfrl.evaluation.config import Evaluation


class CompressionEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Compress a network layer by layer under a budget.

    Shapes: ``L`` layers, ``K`` knobs of the problem. ``docs/environment.md`` explains the parts.

    ## Action space
    ``Box(-1, 1, (K,))``, one number for every knob of the problem, in their order.

    | knob | choices | from -1 | to 1 |
    | --- | --- | --- | --- |
    | keep | channels of the groups that the layer produces first | ``keep_min`` of them | all |
    | weight_bits | bits of the layer's kernel | ``bits[0]`` (2) | ``bits[1]`` (8) |
    | act_bits | bits of the layer's input | ``bits[0]`` (2) | ``bits[1]`` (8) |
    | sparsity | zeros among the layer's weights, in steps of ``sparsity_step``; of a recipe's pattern n:m, its share and 0 | ``sparsity[1]`` (0.9) | ``sparsity[0]`` (0) |
    | rank | channels between the two layers that a decomposed one is | 1, or ``round_to`` | full rank |

    The first and the last layer have ``edge_bits`` (8) and are dense; of layers that share a
    kernel the first one decides its zeros; of the two layers of a decomposed one the first decides
    the rank. Under a budget 0 is the action of the largest uniform policy that meets it (see
    ``envs.decisions.Decisions``). A choice over the budget becomes the largest that fits it;
    ``info["executed_action"]`` is the action that stands for it, and 0 for a knob about which
    nothing is decided at the layer.

    ## Observation space
    ``Box(-1, 1, (17 + K + L·K,))``; see ``envs.observation.Observer``.

    | number | observation |
    | --- | --- |
    | 0-10 | AMC's features: index, c_out, c_in, height, width, stride, kernel, macs, reduced, rest, last_action |
    | 11-13 | kind of layer: conv, depthwise, dense |
    | 14-16 | budget: limit, spent, left, as shares of the base |
    | 17 to 16 + K | 1 if the layer decides about the knob, else 0 |
    | 17 + K to 16 + K + L·K | the choice over the largest one (of zeros: weights left), layer by layer; -1 if not decided (yet) |

    ## Reward
    0 on every step but the last, where the policy is evaluated: the problem's reward (see
    ``envs.rewards``), by default the accuracy on the search split, in [0, 1]. A diverged
    evaluation gets the reward of accuracy 0 at the base's costs.

    ## Starting state
    Always the same: nothing decided, everything undecided counted at its lowest.
    ``reset(seed=...)`` changes nothing, for the process is deterministic.

    ## Episode end
    ``terminated`` after ``L`` steps, one a layer; never ``truncated``. The last ``info`` holds
    ``evaluation`` and ``policy`` (its ``keep`` has the ranks too, as shares of full rank).

    ## Arguments
    ``problem``: an ``envs.Problem``; ``knobs``: those that it may have, which the registered
    names narrow. ``BudgetError`` or ``ProblemError`` if its budget cannot be met, or its budget,
    reward or knobs need what its task does not have.

    ## Version history
    * v0: first version.
    """  # noqa: E501

    metadata = {"render_modes": [], "autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, problem: Problem, knobs: Sequence[str] = tuple(KNOBS)):
        check_knobs(problem, knobs)
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

    def evaluate(self, chosen: Sequence[tuple[Decision, int]]) -> tuple[Policy, Evaluation, float]:
        """A policy outside of an episode, whatever its cost: what solvers measure decisions by.

        It is an evaluation like any other.

        Args:
          chosen: decisions, of ``decisions.all()``, and the choice of each; the others are at
            their lowest.

        Returns:
          the policy, its evaluation and the reward.
        """
        at = self.decisions.start.copy()
        for decision, choice in chosen:
            decision.set(at, choice)
        policy = at.policy(self.decisions.graph)
        evaluation = self._process.evaluate(policy)
        return policy, evaluation, float(self._process.reward(evaluation))

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

    def canonicalize(self, executed: np.ndarray) -> np.ndarray:
        """Executed actions ``[B, L, K]``, equal where the policy is: the middles of the choices."""
        return canonicalize(self.decisions, executed)


def check_knobs(problem: Problem, knobs: Sequence[str]) -> None:
    """Raises ProblemError if a problem has other knobs than those of an environment."""
    others = [knob for knob in problem.knobs if knob not in knobs]
    if others:
        raise ProblemError(
            f"this environment decides {' and '.join(knobs)}, not {' or '.join(others)}; use"
            " pfrl/Compression-v0 for other knobs"
        )
