"""The decision process of a problem: what its single and its batched environment share."""

import numpy as np
from gymnasium import spaces

from envs.decisions import Decisions
from envs.observation import Observer
from envs.problem import Problem, ProblemError
from envs.rewards import Reference, reward_of
from pfrl.compression.policy import Policy
from pfrl.evaluation.config import Evaluation


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
      live: bool ``[L, K]``: which actions decide something; the others are 0 when executed.
      action_space, observation_space: of one policy.
    """

    def __init__(self, problem: Problem):
        _check_honoured(problem)
        graph, costs, evaluator, base_accuracy = problem.open()
        self.evaluate = evaluator.evaluate
        if problem.reward == "latency" and "latency" not in costs.metrics:
            raise ProblemError(
                "the reward 'latency' needs a latency model and the task has none; give it a"
                " latency_table or choose another reward"
            )
        self.decisions = Decisions(problem, graph, costs)
        self._observe = Observer(self.decisions)
        self._reward = problem.reward
        self._reference = Reference(
            base_accuracy,
            costs.base,
            problem.latency_target(costs.base),
            problem.latency_exponent,
        )
        self.steps = len(self.decisions.steps)
        self.live = np.array([[k is not None for k in row] for _, row in self.decisions.steps])
        self.action_space = spaces.Box(-1, 1, (len(problem.knobs),), np.float32)
        self.observation_space = spaces.Box(-1, 1, (self._observe.size,), np.float32)

    def begin(self) -> "Draft":
        """A policy of which nothing is decided."""
        return Draft(self.decisions, self._observe)

    def reward(self, evaluation: Evaluation) -> float:
        """The reward of a whole policy."""
        return float(reward_of(self._reward, evaluation, self._reference))


class Draft:
    """A policy on its way through the layers."""

    def __init__(self, decisions: Decisions, observe: Observer):
        self._decisions, self._observe = decisions, observe
        self._at = decisions.start
        self._levels = np.full((len(decisions.steps), len(decisions.knob_kinds)), -1.0)
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
        return self._observe(self.step, self._at, self._levels, self._last_action)

    def policy(self) -> Policy:
        """With what is not decided at its lowest."""
        return self._at.policy(self._decisions.graph)


def _check_honoured(problem: Problem) -> None:
    for knob, (field, honoured) in {
        "weight_bits": ("quantized", problem.task.quantized),
        "act_bits": ("quantized", problem.task.quantized),
        "sparsity": ("sparse", problem.task.sparse),
    }.items():
        if knob in problem.knobs and not honoured:
            raise ProblemError(
                f"the task's evaluations take no notice of the knob {knob}; give it {field}=True"
            )
