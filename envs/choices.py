"""What can be chosen at a layer for every knob, and which actions stand for the choices."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from envs.knobs import KNOBS, KnobName
from envs.problem import Problem
from pfrl.compression.policy import round_count, step_of
from pfrl.cost.model import Assignment
from pfrl.graph import Graph, Layer


@dataclass(frozen=True)
class Decision:
    """A knob at a layer: ``values`` in ascending order of quality (and mostly of cost)."""

    knob: KnobName
    names: tuple[str, ...]
    """The groups, or the layer, that it is for."""
    values: tuple[tuple[float, ...], ...]
    """For every choice the channel count of every group, the bit width or the share of zeros."""

    def set(self, at: Assignment, choice: int) -> None:
        """Write a choice into an assignment."""
        target = getattr(at, KNOBS[self.knob].decides)
        target.update(zip(self.names, self.values[choice], strict=True))

    def chosen(self, at: Assignment) -> int:
        """The choice that an assignment holds."""
        source = getattr(at, KNOBS[self.knob].decides)
        return self.values.index(tuple(source[name] for name in self.names))

    def choice(self, action: float) -> int:
        """The choice for an action in [-1, 1]: equal parts of the interval, in order.

        As HAQ rounds its bit widths: ``round(lo - 1/2 + a · (hi - lo + 1))``.
        """
        parts = len(self.values)
        return min(int((float(action) + 1) / 2 * parts), parts - 1)

    def action(self, choice: int) -> float:
        """The middle of the choice's part of [-1, 1]."""
        return 2 * (choice + 0.5) / len(self.values) - 1

    def level(self, choice: int) -> float:
        """The choice as a share of the largest: channels (of all its groups together), bits or
        weights that are not zero."""
        taken, most = (
            sum(1 - v if self.knob == "sparsity" else v for v in self.values[which])
            for which in (choice, -1)
        )
        return taken / most


def decision_of(
    knob: KnobName,
    problem: Problem,
    graph: Graph,
    number: int,
    ranks: Collection[str],
    pattern: str,
) -> Decision | None:
    """The decision of a knob at a layer, or None if nothing of that kind is decided there.

    The first and the last layer keep their bits and are dense (HAQ's rule): what they
    read and make decides about everything else.

    Args:
      knob: what is decided.
      problem: whose bounds hold.
      graph: of the network.
      number: of the layer.
      ranks: the groups of the graph that the knob rank decides, and not the knob keep.
      pattern: by which weights become zero; see ``pfrl.Recipe``.
    """
    layer = graph.layers[number]
    if KNOBS[knob].decides == "counts":
        groups = [name for name in layer.decides if (name in ranks) == (knob == "rank")]
        return _counts(knob, problem, graph, tuple(groups))
    if number in (0, len(graph.layers) - 1):
        return None
    if knob == "sparsity":
        if not _first_of_kernel(graph, layer, number):
            return None
        return Decision(knob, (layer.name,), tuple((s,) for s in _shares(problem, pattern)))
    low, high = problem.bits
    return Decision(knob, (layer.name,), tuple((bits,) for bits in range(low, high + 1)))


def _counts(
    knob: KnobName, problem: Problem, graph: Graph, names: tuple[str, ...]
) -> Decision | None:
    """Every channel count, or rank, that the problem leaves."""
    if not names:
        return None
    groups = [graph.groups[name] for name in names]
    largest = max(group.size for group in groups)
    shares = [count / largest for count in range(1, largest + 1)]
    least = problem.keep_min if knob == "keep" else 0
    values = [
        tuple(round_count(share * g.size, g.size, step_of(g, problem.round_to)) for g in groups)
        for share in shares
        if share >= least - 1e-9
    ]
    return Decision(knob, names, tuple(dict.fromkeys(values)))


def _shares(problem: Problem, pattern: str) -> list[float]:
    """Shares of zeros, the largest first; of a pattern n:m there are only its own and none."""
    if pattern != "magnitude":
        n, m = map(int, pattern.split(":"))
        return [1 - n / m, 0.0]
    low, high = problem.sparsity
    count = round((high - low) / problem.sparsity_step)
    return [round(float(share), 10) for share in np.linspace(high, low, count + 1)]


def _first_of_kernel(graph: Graph, layer: Layer, number: int) -> bool:
    """Whether no layer before this one, and not the last one either, has its kernel.

    Zeros are in a kernel, for all layers that share it.
    """
    return all(other.kernel != layer.kernel for other in (*graph.layers[:number], graph.layers[-1]))


def rank_groups(graph: Graph) -> frozenset[str]:
    """The groups that are ranks, of layers that ``pfrl.methods.low_rank.decompose`` made two of.

    Those of which nothing goes with a channel but a slice of each of the two kernels.
    """
    found = set()
    for name, group in graph.groups.items():
        parameters = {member.parameter for member in group.members}
        if any(len(parameters) == 2 and parameters == {p, _second(p)} for p in parameters):
            found.add(name)
    return frozenset(found)


def _second(kernel: str) -> str:
    """The second kernel of a pair by the name of the first; itself if it is none."""
    path, _, last = kernel.rpartition(".")
    return f"{path.removesuffix('.first')}.second.{last}" if path.endswith(".first") else kernel
