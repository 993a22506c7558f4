"""The decision process of a problem: what its single and its batched environment share."""

from functools import partial

import numpy as np
from gymnasium import spaces

from envs.decisions import Decisions
from envs.knobs import KNOBS
from envs.observation import Observer
from envs.problem import Problem, ProblemError
from envs.rewards import REWARDS, Reference, reward_of
from pfrl.compression.policy import Policy


class DecisionProcess:
    """A problem opened.

    Args:
      problem: whose decisions, observations and rewards these are.

    Raises:
      BudgetError, ProblemError: if the budget cannot be met, or the budget, the reward or a
        knob needs what the task does not have.

    Attributes:
      decisions: steps, knobs, budget.
      evaluate: evaluates a policy in this process.
      steps: L, of an episode.
      limits: lowest and highest limit that an episode draws, in the metric's unit; or None.
      fixed: numbers at the beginning of an observation that are as many for every network.
      live: bool ``[L, K]``: which actions decide something; the others are 0 when executed.
      action_space, observation_space: of one policy.
    """

    def __init__(self, problem: Problem):
        _check_honoured(problem)
        graph, costs, evaluator, base_accuracy = problem.open()
        self.evaluate = evaluator.evaluate
        missing = [name for name in REWARDS[problem.reward].needs if name not in costs.metrics]
        if missing:
            raise ProblemError(
                f"the reward '{problem.reward}' needs a {missing[0]} model and the task has none;"
                f" give it a {missing[0]}_table or choose another reward"
            )
        self.decisions = Decisions(problem, graph, costs)
        self._kept_by = problem.kept_by
        self._observe = Observer(self.decisions, problem.hidden)
        self.fixed = self._observe.fixed
        self.limits: tuple[float, float] | None = None
        if problem.limits is not None:
            self.draw_from(problem.limits)
        reference = Reference(
            base_accuracy,
            costs.base,
            problem.latency_target(costs.base),
            problem.latency_exponent,
        )
        limit, above = self.decisions.limit, None
        if problem.kept_by == "penalty" and limit is not None:
            above = (self.decisions.metric, limit)
        self.reward = partial(reward_of, problem.reward, base=reference, above=above)
        self.steps = len(self.decisions.steps)
        self.live = np.array([[d is not None for d in row] for _, row in self.decisions.steps])
        self.action_space = spaces.Box(-1, 1, (len(problem.knobs),), np.float32)
        self.observation_space = spaces.Box(-1, 1, (self._observe.size,), np.float32)

    def draw_from(self, shares: tuple[float, float]) -> None:
        """Let episodes draw their limits between two shares of the base.

        Raises:
          BudgetError: if the lower one cannot be met.
        """
        low, high = (share * self.decisions.base for share in shares)
        self.decisions.under(low)
        self.limits = low, high

    def under(self, limit: float) -> Decisions:
        """The decisions under a limit: up to 1 it is a share of the base, else absolute.

        Raises:
          ProblemError: if the problem has no budget, and so no metric that is limited.
          BudgetError: if the limit cannot be met.
        """
        if self.decisions.limit is None:
            raise ProblemError("only a problem with a budget takes a limit; give it a budget")
        return self.decisions.under(limit * self.decisions.base if limit <= 1 else limit)

    def begin(self, decisions: Decisions | None = None) -> "Draft":
        """A policy of which nothing is decided, under the problem's limit or another one."""
        return Draft(decisions or self.decisions, self._observe, self._kept_by == "lowering")


class Draft:
    """A policy on its way through the layers; if it ``lowers``, within the limit at its end."""

    def __init__(self, decisions: Decisions, observe: Observer, lowers: bool = False):
        self._decisions, self._observe, self._lowers = decisions, observe, lowers
        self._at = decisions.start
        self._levels = np.full((len(decisions.steps), len(decisions.knobs)), -1.0)
        self._last_action = 0.0
        self.step = 0
        """Layers that are decided."""

    @property
    def complete(self) -> bool:
        return self.step == len(self._levels)

    def decide(self, action: np.ndarray) -> np.ndarray:
        """Decide the next layer by an action ``[K]``; returns the executed one, float32.

        Raises:
          RuntimeError: if all layers are decided.
        """
        if self.complete:
            raise RuntimeError("the episode has ended; call reset() first")
        self._at, executed, levels = self._decisions.execute(self.step, action, self._at)
        self._levels[self.step] = levels
        self._last_action = float(executed[0])
        self.step += 1
        return executed

    def observation(self) -> np.ndarray:
        """What the agent sees now, ``[D]`` float32."""
        return self._observe(
            self.step, self._at, self._levels, self._last_action, self._decisions.limit
        )

    def policy(self) -> Policy:
        """With what is not decided at its lowest."""
        at = self._decisions.lowered(self._at) if self._lowers else self._at
        return at.policy(self._decisions.graph)


def _check_honoured(problem: Problem) -> None:
    task = problem.task
    honoured = {"quantized": task.quantized, "sparse": task.sparse}
    for knob in problem.knobs:
        if not honoured.get(field := KNOBS[knob].needs, True):
            raise ProblemError(
                f"the task's evaluations take no notice of the knob {knob}; give it {field}=True"
            )
