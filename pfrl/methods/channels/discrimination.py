"""Discrimination-aware channel pruning: channels that the labels cannot be told without stay."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from pfrl.graph import Graph, Variables
from pfrl.methods.base import Statistics
from pfrl.methods.channels.base import Criterion, choose
from pfrl.methods.channels.criteria import l1_scores
from pfrl.methods.channels.readers import Reader, SelectionError, check_counts, find_readers
from pfrl.methods.channels.stages import Batches, Head, fit_heads, stage_ends, watch
from pfrl.methods.repair.reconstruct import Grams, repair
from pfrl.registry import register
from pfrl.tasks.losses import Loss, cross_entropy

Kept = Mapping[str, np.ndarray]
"""Indices of the channels that stay, by group."""


class Part(NamedTuple):
    """A group whose channels are read, and the loss that its readers are judged by.

    Attributes:
      size: channels that it has.
      readers: of the group, at least one.
      kernels: variables by which the gradient is taken, the readers' among them.
      gradient: ``(kernels, other variables, inputs, labels) -> gradients by kernel`` of
        the loss at the end of the stage.
    """

    size: int
    readers: list[Reader]
    kernels: frozenset[str]
    gradient: Callable[[Variables, Variables, Any, Any], dict[str, Any]]


class Discrimination:
    """DCP's channel selection (Zhuang et al. 2018, arXiv 1810.11809).

    The network is cut into stages, with an auxiliary head at the end of each but the last
    (see ``pfrl.methods.channels.stages``). Then, group by group in the order of execution, channels
    are added to none by the norm of the gradient, with respect to all that the
    readers would do with the channel, of::

        Σ_readers ‖X W − X W'‖² / ‖Y‖²   and   the loss at the end of the readers' stage

    where ``W'`` are the readers' kernels fitted to the channels that were chosen so far.
    The groups before are as chosen, those after whole; a group whose readers are in
    several stages has the loss of the last of them.

    Other than published: channels are added in ``rounds`` of several; the kernels are
    fitted by least squares (``repair``) instead of gradient steps, on the inputs of the
    base network; the two gradients are each taken over their own length before they are
    added, as the losses have no common scale and either would drown the other; every
    round of a group looks at its own share of the batches; and the network is not
    fine-tuned on the stages' losses in between, which is left to the training that follows.

    Args:
      graph: of the network.
      variables: its arrays, of full size, which are not changed.
      batches: ``(inputs [N, ...], labels)``; best all of one shape. Every group that loses
        channels takes one gradient of each batch.
      grams: from ``gather``, of the same arrays.
      stages: with the last; heads are put where they share the MACs evenly.
      loss: ``(outputs, labels) -> scalar``; by default the mean cross-entropy of logits
        ``[N, K]`` against whole numbers ``[N]``.
      weight: of the gradient of the stage's loss; that of the reconstruction has 1.
      rounds: for one group; as many as channels that stay is one by one.

    Raises:
      SelectionError: if there is no batch or no round.
      StageError: see ``stage_ends`` and ``fit_heads``.
    """

    def __init__(
        self,
        graph: Graph,
        variables: Variables,
        batches: Iterable[tuple[Any, Any]],
        grams: Grams,
        stages: int = 3,
        *,
        loss: Loss = cross_entropy,
        weight: float = 1.0,
        rounds: int = 4,
    ):
        self._graph, self._variables, self._batches = graph, variables, tuple(batches)
        self._weight, self._rounds = weight, rounds
        if not self._batches or rounds < 1:
            raise SelectionError(
                f"expected batches=[(inputs, labels), ...] and at least one round,"
                f" got {len(self._batches)} and {rounds}"
            )
        found = {n: find_readers(group, variables, grams) for n, group in graph.groups.items()}
        readers = {name: each for name, each in found.items() if each}
        # Of all groups, whether they lose channels or not: a gradient by other kernels for
        # every policy would be compiled for every policy.
        self._parts = _parts(graph, variables, self._batches, readers, stages, loss)

    def __call__(self, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Ascending indices of the channels that stay, ``counts[group]`` of every group.

        Groups that no kernel sums over keep the channels with the highest L1 scores.

        Raises:
          SelectionError: if a count is missing or out of range.
        """
        graph, variables, batches = self._graph, self._variables, self._batches
        check_counts(graph, counts)
        parts = {name: part for name, part in self._parts.items() if counts[name] < part.size}
        whole = {name: np.arange(part.size) for name, part in parts.items()}
        kept = choose(l1_scores(graph, variables), counts) | whole
        current = dict(variables)
        for name, part in parts.items():
            kept[name] = np.arange(0)
            turns = shares(counts[name], self._rounds)
            for turn, more in enumerate(turns):
                now = current | _fitted(graph, variables, current, part, kept, name)
                slopes = _slopes(part, now, batches[turn :: len(turns)] or batches)
                gains = gradient_norms(part, _matrices(part, now), slopes, self._weight)
                gains[kept[name]] = -1
                best = np.argsort(-gains, kind="stable")[:more]
                kept[name] = np.sort(np.append(kept[name], best))
            current |= _fitted(graph, variables, current, part, kept, name)
        return kept


def shares(count: int, rounds: int) -> list[int]:
    """How many channels each round adds: ``count`` in all, none adds nothing."""
    ends = np.linspace(0, count, min(rounds, count) + 1).round().astype(int)
    return np.diff(ends).tolist()


def gradient_norms(
    part: Part, kernels: Sequence[np.ndarray], slopes: Sequence[np.ndarray], weight: float
) -> np.ndarray:
    """Norm of the gradient of both losses by each channel's slice of all readers, ``[size]``.

    Args:
      part: the group.
      kernels: ``W'`` of every reader, ``[G, R, M]``.
      slopes: the gradient of the stage's loss by each of them.
      weight: of the stage's loss, both gradients over their own lengths.
    """
    # By kernels over their own lengths: a gradient is as large as its kernel is short.
    sizes = [np.linalg.norm(reader.weights) for reader in part.readers]
    errors = [
        size * reader.moments @ (kernel - reader.weights)
        for reader, kernel, size in zip(part.readers, kernels, sizes, strict=True)
    ]
    labels = [size * slope for slope, size in zip(slopes, sizes, strict=True)]
    squares = np.zeros(part.size)
    for reader, error, label in zip(part.readers, _unit(errors), _unit(labels), strict=True):
        gradient = error + weight * label
        squares += np.bincount(reader.channels, np.square(gradient).sum(axis=(0, 2)), part.size)
    return np.sqrt(squares)


def _unit(gradient: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A gradient by several kernels over its length; one of zeros as it is."""
    length = np.sqrt(sum(np.square(each).sum() for each in gradient))
    return [each / length if length > 0 else each for each in gradient]


def _parts(
    graph: Graph,
    variables: Variables,
    batches: Batches,
    readers: Mapping[str, list[Reader]],
    stages: int,
    loss: Loss,
) -> dict[str, Part]:
    """By group, in order; groups of one stage share one compiled gradient."""
    ends = stage_ends(graph, batches[0][0], stages)
    heads = [*fit_heads(graph, variables, batches, ends, loss), None]
    stage = {name: _stage(graph, found, ends) for name, found in readers.items()}
    kernels = {
        s: frozenset(r.gram.kernel.variable for n in readers if stage[n] == s for r in readers[n])
        for s in stage.values()
    }
    gradients = {s: _gradient(graph, heads[s], loss) for s in kernels}
    return {
        name: Part(graph.groups[name].size, found, kernels[stage[name]], gradients[stage[name]])
        for name, found in readers.items()
    }


def _stage(graph: Graph, readers: Sequence[Reader], ends: Sequence[str]) -> int:
    """The stage of the last layer of the readers; the layer at an end is behind it."""
    order = {layer.name: place for place, layer in enumerate(graph.layers)}
    last = max(order[name] for reader in readers for name in reader.gram.kernel.layers)
    return sum(order[end] <= last for end in ends)


def _gradient(graph: Graph, head: Head | None, loss: Loss) -> Callable[..., dict[str, Any]]:
    """``Part.gradient`` of a stage with this head; of the last stage, which has none."""

    def objective(kernels: Variables, others: Variables, x: Any, labels: Any) -> jax.Array:
        layers = () if head is None else (head.layer,)
        outputs, seen = watch(graph, {**others, **kernels}, x, layers)
        return loss(outputs if head is None else head(seen[head.layer]), labels)

    return jax.jit(jax.grad(objective))


def _slopes(part: Part, variables: Variables, batches: Batches) -> list[np.ndarray]:
    """Mean gradient of the stage's loss by what every reader does, ``[G, R, M]`` each."""
    kernels = {name: variables[name] for name in part.kernels}
    others = {name: value for name, value in variables.items() if name not in kernels}
    found = [jax.device_get(part.gradient(kernels, others, *batch)) for batch in batches]
    own = {reader.gram.kernel.variable for reader in part.readers}
    return _matrices(part, {name: np.mean([f[name] for f in found], axis=0) for name in own})


def _matrices(part: Part, variables: Variables) -> list[np.ndarray]:
    """The group's rows of every reader's kernel, float64 ``[G, R, M]``."""
    return [
        np.asarray(variables[r.gram.kernel.variable], np.float64).reshape(-1)[r.places]
        for r in part.readers
    ]


def _fitted(
    graph: Graph, variables: Variables, current: Variables, part: Part, kept: Kept, name: str
) -> Variables:
    """The readers' kernels with the kept channels alone, fitted to what they made of all."""
    own = {reader.gram.kernel.variable for reader in part.readers}
    if len(kept[name]):
        repaired = repair(graph, tuple(r.gram for r in part.readers), variables, kept)
        return {kernel: repaired[kernel] for kernel in own}
    empty = {kernel: np.array(current[kernel], order="C") for kernel in own}
    for reader in part.readers:
        empty[reader.gram.kernel.variable].reshape(-1)[reader.places] = 0
    return empty


def _prepare(statistics: Statistics) -> Discrimination:
    return Discrimination(
        statistics.graph,
        statistics.variables,
        statistics.batches,
        statistics.moments,
        loss=statistics.loss,
    )


register("criterion", "discrimination", Criterion(_prepare, frozenset({"batches", "moments"})))
