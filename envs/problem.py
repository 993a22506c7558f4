"""What is to be compressed, with which knobs, under which budget, for which reward: plain data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, Self

from envs.knobs import KNOBS, KnobName
from envs.rewards import REWARDS
from pfrl.cost import Budget, CostModel
from pfrl.evaluation.recorded import Recorded
from pfrl.graph import Graph
from pfrl.methods.quantization.uniform import FLOAT_BITS


class ProblemError(ValueError):
    """A problem that makes no sense; the message says what to change."""


class OpenedTask(NamedTuple):
    """What a task describes: a network's graph, its costs, and the one door to a reward."""

    graph: Graph
    costs: CostModel
    evaluator: Recorded
    base_accuracy: float


class Task(ABC):
    """A hashable description of a network and its data; ``open`` does the heavy work."""

    quantized: bool = True
    """Whether evaluations take notice of bit widths."""
    sparse: bool = True
    """Whether evaluations take notice of shares of zeros."""

    @abstractmethod
    def open(self) -> OpenedTask:
        """Load the network and its data."""

    def judged_by(self, runtime: str) -> Self:
        """The same task, whose evaluations are judged by a runtime, if it can choose."""
        return self

    def counting(self, *budgets: Budget | None) -> Self:
        """The same task, whose costs have what budgets limit, where they have it not anyway."""
        return self


@dataclass(frozen=True)
class Problem:
    """A compression problem. Plain, hashable and picklable; networks and data load on first use."""

    task: Task
    """The network and the data."""
    knobs: tuple[KnobName, ...] = ("keep",)
    """What is decided at every layer: names of ``envs.knobs.KNOBS``, in the action's order."""
    budget: Budget | None = None
    """A limit that every policy meets exactly, or None."""
    limits: tuple[float, float] | None = None
    """Between which shares of the base every episode draws a limit of its own, for one agent that
    serves them all; of the budget its metric counts alone then."""
    reward: str = "accuracy"
    """One of ``envs.rewards.REWARDS``."""
    keep_min: float = 0.2
    """Smallest keep share of a channel group (AMC's lower bound)."""
    round_to: int = 1
    """Kept channels, and ranks, are multiples of this."""
    bits: tuple[int, int] = (2, 8)
    """Lowest and highest bit width."""
    edge_bits: int = 8
    """Bit width of the first and the last layer, which are not decided (HAQ's rule)."""
    fixed_bits: tuple[int, int] = (FLOAT_BITS, FLOAT_BITS)
    """Bit widths of weights and of inputs that no knob decides; 32 is float."""
    latency_share: float = 0.5
    """Target of the reward 'latency' as a share of the base's latency, if the budget names none."""
    latency_exponent: float = -0.07
    """Exponent w of the reward 'latency' (MnasNet's)."""
    sparsity: tuple[float, float] = (0.0, 0.9)
    """Smallest and largest share of zeros among a layer's weights; the first and the last layer
    are dense."""
    sparsity_step: float = 0.1
    """From one share of zeros to the next; those of a pattern n:m are 1 - n/m and 0."""

    kept_by: Literal["projection", "lowering", "penalty"] = "projection"
    """How the budget is kept: at every step, by the largest choice that fits (AMC); when all is
    decided, by lowering what is over it (HAQ); or not at all, where the reward is lowered by what
    the cost is above the limit, as a share of it."""
    hidden: tuple[str, ...] = ()
    """Observations that are always 0, names of ``envs.observation.HIDEABLE``."""

    def __post_init__(self) -> None:
        strange = [knob for knob in self.knobs if knob not in KNOBS]
        if strange or not self.knobs or len(set(self.knobs)) != len(self.knobs):
            raise ProblemError(
                f"unknown or repeated knobs {list(self.knobs)}; expected some of {', '.join(KNOBS)}"
            )
        _ = REWARDS[self.reward]
        low, high = self.bits
        if not 2 <= low <= high <= 8 or not 2 <= self.edge_bits <= 8:
            raise ProblemError(f"bit widths lie in 2 to 8; got {self.bits} and {self.edge_bits}")
        if any(not 2 <= bits <= 8 and bits != FLOAT_BITS for bits in self.fixed_bits):
            raise ProblemError(f"fixed_bits are 2 to 8, or 32 for float; got {self.fixed_bits}")
        if not 0 < self.keep_min <= 1:
            raise ProblemError(f"keep_min lies in (0, 1]; got {self.keep_min}")
        if self.limits is not None and not 0 < self.limits[0] <= self.limits[1] <= 1:
            raise ProblemError(f"limits are shares in (0, 1], ascending; got {self.limits}")
        if self.limits is not None and self.budget is None:
            raise ProblemError("limits need a budget that says of which metric they are")
        if self.limits is not None and self.kept_by != "projection":
            raise ProblemError("limits of episodes are kept by projection; leave out kept_by")
        if self.round_to < 1:
            raise ProblemError(f"round_to is a whole number from 1; got {self.round_to}")
        self._check_sparsity()

    def _check_sparsity(self) -> None:
        low, high = self.sparsity
        if not 0 <= low <= high < 1:
            raise ProblemError(f"shares of zeros lie in [0, 1), ascending; got {self.sparsity}")
        steps = (high - low) / self.sparsity_step if self.sparsity_step > 0 else 0.5
        if abs(steps - round(steps)) > 1e-6:
            raise ProblemError(
                f"sparsity_step divides the way from {low} to {high} into equal steps; got"
                f" {self.sparsity_step}"
            )

    def open(self) -> OpenedTask:
        """The opened task, made once a process and task."""
        return _open(self.task.counting(self.budget))

    def latency_target(self, base: Mapping[str, float]) -> float:
        """Milliseconds that the reward 'latency' aims at: the budget's, if it is one of latency."""
        if self.budget is not None and self.budget.metric == "latency":
            return self.budget.limit(base)
        return self.latency_share * base.get("latency", 0.0)


@lru_cache(maxsize=4)
def _open(task: Task) -> OpenedTask:
    return task.open()
