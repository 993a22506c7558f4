"""What the agent sees: AMC's eleven features, the state of the budget, and all decisions so far."""

from collections.abc import Collection

import numpy as np

from envs.decisions import Decisions
from envs.problem import ProblemError
from pfrl.cost.model import Assignment
from pfrl.graph import total

AMC_FEATURES = (
    "index", "c_out", "c_in", "height", "width", "stride", "kernel", "macs", "reduced", "rest",
    "last_action",
)  # fmt: skip
BUDGET_FEATURES = ("limit", "spent", "left")
KINDS = ("conv", "depthwise", "dense")
DECIDED = "decided"
"""The levels of all decisions so far, together."""
HIDEABLE = (*AMC_FEATURES, *KINDS, *BUDGET_FEATURES, DECIDED)
"""Observations that a problem may hide."""


class Observer:
    """Observations ``[D]`` float32 in [-1, 1] of a decision process.

    ``D = 11 + 3 + 3 + K + L·K``: AMC's features (arXiv 1802.03494, table 1, each
    divided by its largest value over the layers), the kind of layer, the
    budget's limit, what the decisions so far cost with everything else at its
    lowest, and what is left, as shares of the base; a flag for every knob that
    is decided at this layer; and the level of every decision so far, -1 for
    those not taken yet or not there. The first ``fixed`` numbers, all but these levels, are as
    many and mean the same for every network.

    Args:
      decisions: of the process.
      hidden: names of ``HIDEABLE`` that are always 0, to find out what they are good for.

    Raises:
      ProblemError: if there is no observation of such a name.
    """

    def __init__(self, decisions: Decisions, hidden: Collection[str] = ()):
        self._decisions = decisions
        layers = [layer for layer, _ in decisions.steps]
        full = decisions.graph.full_counts()
        static = np.zeros((len(layers), 7), np.float64)
        for number, layer in enumerate(layers):
            spatial = layer.input_shape[:2] if len(layer.input_shape) == 3 else (1, 1)
            static[number] = (
                layer.c_out.at(full),
                layer.c_in.at(full),
                *spatial,
                max(layer.strides, default=1),
                max(layer.taps, default=1),
                layer.macs,
            )
        self._static = static / static.max(axis=0)
        self._full = np.concatenate([[0.0], np.cumsum([layer.macs for layer in layers])])
        costs = [layer.macs_count for layer in layers]
        self._before = [total(costs[:step]) for step in range(len(layers) + 1)]
        self.fixed = len(AMC_FEATURES) + len(KINDS) + len(BUDGET_FEATURES) + len(decisions.knobs)
        self.size = self.fixed + len(layers) * len(decisions.knobs)
        strange = [name for name in hidden if name not in HIDEABLE]
        if strange:
            raise ProblemError(
                f"there is no observation '{strange[0]}' to hide; expected some of"
                f" {', '.join(HIDEABLE)}"
            )
        self._seen = np.ones(self.size, bool)
        for name in hidden:
            first = HIDEABLE.index(name)
            part = slice(self.fixed, None) if name == DECIDED else slice(first, first + 1)
            self._seen[part] = False

    def __call__(
        self,
        step: int,
        at: Assignment,
        levels: np.ndarray,
        last_action: float,
        limit: float | None,
    ) -> np.ndarray:
        """The observation before a step, or after the last one.

        Args:
          step: number of the layer.
          at: the decisions so far, everything else at its lowest.
          levels: ``[L, K]``, of the decisions so far.
          last_action: the first knob's, executed at the layer before.
          limit: of the episode, in the metric's unit.
        """
        decisions = self._decisions
        count = len(decisions.steps)
        here = min(step, count - 1)
        layer, row = decisions.steps[here]
        full = self._full[-1]
        reduced = (self._full[step] - self._before[step].at(at.counts)) / full
        rest = (full - self._full[min(step + 1, count)]) / full
        amc = (step / count, *self._static[here], reduced, rest, last_action)
        kind = [float(layer.kind == name) for name in KINDS]
        spent = decisions.cost(at) / decisions.base
        share = 1.0 if limit is None else limit / decisions.base
        flags = [float(decision is not None and step < count) for decision in row]
        observation = np.concatenate(
            [amc, kind, (share, spent, share - spent), flags, levels.ravel()]
        )
        return np.where(self._seen, np.clip(observation, -1, 1), 0).astype(np.float32)
