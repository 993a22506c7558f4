"""What any assignment of the knobs costs, in every metric."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from pfrl.compression.policy import Policy
from pfrl.compression.recipe import PLAIN, Recipe
from pfrl.cost.metrics import METRICS
from pfrl.deploy.packed.storage import Storage
from pfrl.deploy.size import FileSize
from pfrl.graph import Graph
from pfrl.methods.quantization.uniform import FLOAT_BITS

Latency = Callable[[Mapping[str, int]], float]
"""Predicted milliseconds (batch 1, one thread) for channel counts by group."""


@dataclass
class Assignment:
    """A policy in the making: channels by group, bits and shares of zeros by layer."""

    counts: dict[str, int]
    weight_bits: dict[str, int]
    act_bits: dict[str, int]
    round_to: int = 1
    sparsity: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: Policy, graph: Graph) -> "Assignment":
        return cls(policy.counts(graph), *_knobs(policy))

    def copy(self) -> "Assignment":
        return Assignment(dict(self.counts), *_knobs(self))

    @property
    def rounded(self) -> bool:
        """Whether weights and inputs of all layers are, so that all compute with integers."""
        return all(
            bits < FLOAT_BITS for bits in (*self.weight_bits.values(), *self.act_bits.values())
        )

    def policy(self, graph: Graph) -> Policy:
        keep = {name: self.counts[name] / group.size for name, group in graph.groups.items()}
        return Policy(keep, *_knobs(self))


def _knobs(
    of: "Assignment | Policy",
) -> tuple[dict[str, int], dict[str, int], int, dict[str, float]]:
    """What an assignment and a policy have in common, as copies."""
    return dict(of.weight_bits), dict(of.act_bits), of.round_to, dict(of.sparsity)


@dataclass
class CostModel:
    """Costs of assignments on one graph.

    Args:
      graph: of the base network.
      latency: a model of it; without one there are no metrics that need it.
      integer_latency: a model of files of integers, for policies that round all layers; by
        default their latency is that of the same network in float.
      recipe: how kernels are made sparse, and rounded.
      file: the size of the ONNX file that is handed over, which ``bytes`` is then; without,
        ``bytes`` are those of the packed arrays, as ``packed`` always are.
      litert: the size of the LiteRT file; without one it is no metric.

    Attributes:
      metrics: names in ``METRICS``.
      base: what the base network costs, by metric.
      storage: how its arrays are stored.
    """

    graph: Graph
    latency: Latency | None = None
    recipe: Recipe = PLAIN
    file: FileSize | None = None
    integer_latency: Latency | None = None
    litert: FileSize | None = None
    metrics: tuple[str, ...] = field(init=False)
    base: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.storage = Storage(self.graph, self.recipe)
        self.metrics = tuple(
            name
            for name, metric in METRICS.items()
            if not metric.needs or getattr(self, metric.needs) is not None
        )
        self.base = self.of(Policy.uniform(self.graph))

    def of(self, policy: Policy) -> dict[str, float]:
        """All costs of a policy, by metric."""
        assignment = Assignment.of(policy, self.graph)
        return {metric: self.cost(metric, assignment) for metric in self.metrics}

    def cost(self, metric: str, at: Assignment) -> float:
        """One cost of an assignment, in the metric's unit (elements, bytes, milliseconds).

        Raises:
          RegistryError: if there is no such metric.
        """
        return METRICS[metric].cost(self, at)

    def monotone(self, metric: str, knobs: Collection[str]) -> bool:
        """Whether raising any of these knobs never lowers a cost."""
        found = METRICS[metric].monotone
        return found(self, knobs) if callable(found) else found
