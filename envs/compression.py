"""``pfrl/Compression-v0``: one episode compresses a network, one step decides a layer."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.choices import Decision
from envs.decisions import Decisions
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
    Nothing decided, everything undecided counted at its lowest. ``reset(options={"limit": 0.37})``
    plays the episode under another limit, of the budget's metric: up to 1 a share of the base. Of
    a problem with ``limits``, and in ``pfrl/AnyBudget-v0``, every other episode draws its own
    between them, uniformly, by the generator that ``reset(seed=...)`` seeds; nothing else is drawn.
    Of such episodes the ``info`` of ``reset`` and of the last step has ``limit``, a share of the
    base.

    ## Episode end
    ``terminated`` after ``L`` steps, one a layer; never ``truncated``. The last ``info`` holds
    ``evaluation`` and ``policy`` (its ``keep`` has the ranks too, as shares of full rank).

    ## Arguments
    ``problem``: an ``envs.Problem``; ``knobs``: those that it may have, which the registered
    names narrow; ``any_budget``: whether a problem without ``limits`` draws them between the
    lowest that can be met and 1. ``BudgetError`` or ``ProblemError`` if its budget cannot be met, or its budget,
    reward or knobs need what its task does not have.

    ## Version history
    * v0: first version.
    """  # noqa: E501

    metadata = {"render_modes": [], "autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self, problem: Problem, knobs: Sequence[str] = tuple(KNOBS), any_budget: bool = False
    ):
        check_knobs(problem, knobs)
        self.problem = problem
        self._process = DecisionProcess(problem)
        self.decisions = self._process.decisions
        """Under the limit of this episode."""
        if any_budget and problem.budget is None:
            raise ProblemError("pfrl/AnyBudget-v0 needs a budget that says which metric is limited")
        if any_budget and problem.limits is None:
            self._process.draw_from((self.decisions.floor / self.decisions.base, 1.0))
        self.limits = self._process.limits
        """Between which episodes draw their limits, in the metric's unit; or None."""
        self.fixed = self._process.fixed
        """Numbers at the beginning of an observation that are as many for every network."""
        self._own_limit = False
        self.steps = self._process.steps
        self.live = self._process.live
        self.action_space = self._process.action_space
        self.observation_space = self._process.observation_space
        self._draft = self._process.begin()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        limit = (options or {}).get("limit")
        if limit is not None:
            self.decisions = self._process.under(limit)
        elif self.limits is not None:
            drawn = self.np_random.uniform(*self.limits)
            self.decisions = self._process.decisions.under(drawn)
        else:
            self.decisions = self._process.decisions
        self._own_limit = limit is not None or self.limits is not None
        self._draft = self._process.begin(self.decisions)
        return self._draft.observation(), self._limit_info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        info: dict[str, Any] = {"executed_action": self._draft.decide(action)}
        reward = 0.0
        if self._draft.complete:
            policy = self._draft.policy()
            evaluation = self._process.evaluate(policy)
            reward = float(self._process.reward(evaluation))
            info |= {"evaluation": evaluation, "policy": policy, **self._limit_info()}
        return self._draft.observation(), reward, self._draft.complete, False, info

    def _limit_info(self) -> dict[str, Any]:
        limit = self.decisions.limit
        return {"limit": limit / self.decisions.base} if self._own_limit and limit else {}

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
        draft = self._process.begin(self.decisions)
        return np.stack([draft.decide(act(draft.observation())) for _ in range(self.steps)])

    def under(self, limit: float) -> Decisions:
        """The decisions under a limit, as of ``reset``."""
        return self._process.under(limit)

    def decide(self, act: Callable[[np.ndarray], np.ndarray], limit: float) -> Policy:
        """The policy of an episode under a limit, as of ``reset``, without its evaluation."""
        draft = self._process.begin(self._process.under(limit))
        while not draft.complete:
            draft.decide(act(draft.observation()))
        return draft.policy()

    def project(self, actions: np.ndarray) -> np.ndarray:
        """The actions ``[B, L, K]`` that whole episodes of the actions ``[B, L, K]`` execute."""
        return project(self.decisions, actions)

    def canonicalize(self, executed: np.ndarray) -> np.ndarray:
        """Executed actions ``[B, L, K]``, equal where the policy is: the middles of the choices."""
        return canonicalize(self.decisions, executed)

    def raw(self, actions: np.ndarray) -> np.ndarray:
        """Canonical actions ``[B, L, K]`` as raw ones, equal where policies of any limits are."""
        return np.where(self.live, self.decisions.raw(actions), 0).astype(np.float32)


def check_knobs(problem: Problem, knobs: Sequence[str]) -> None:
    """Raises ProblemError if a problem has other knobs than those of an environment."""
    others = [knob for knob in problem.knobs if knob not in knobs]
    if others:
        raise ProblemError(
            f"this environment decides {' and '.join(knobs)}, not {' or '.join(others)}; use"
            " pfrl/Compression-v0 for other knobs"
        )
