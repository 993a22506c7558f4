"""Normalisation statistics of a changed network, re-estimated without a gradient step."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.cpu.backend import at_hand, each
from pfrl.graph import Variables

Updated = Callable[..., Variables]
"""``updated(variables, x, *extras) -> statistics`` after one batch in training mode, or more."""
DAMPING = 1e-3
"""Of a factor between two variances, as a share of the one that it multiplies."""
FAMILIAR = 0.1
"""How far the outputs of a base network may be off with statistics of the images at hand, as mean
squared error over their variance, for them to count as images like those that it was trained on."""


class BaseStatistics(NamedTuple):
    """Statistics of the base network, from which those of a changed one are told.

    Attributes:
      own: as it has them, of all images that it was trained on.
      seen: what ``reestimate`` gives of it for the images at hand.
      ratios: names of those that are never negative, as variances are.
      familiar: whether with either it answers these images alike, as it does if they are like those
        that it was trained on. Of others, nothing can be told about statistics: an ImageNet network
        (EfficientNet-lite0) keeps a third of its answers with those of 256 pictures of things on
        white ground, though nothing else of it has changed.
    """

    own: Variables
    seen: Variables
    ratios: frozenset[str]
    familiar: bool

    @classmethod
    def of(
        cls, own: Variables, seen: Variables, answer: Callable[[Variables], Any]
    ) -> "BaseStatistics":
        """Those of a network.

        Args:
          own, seen: see the attributes.
          answer: from statistics to its outputs for some of the images.
        """
        own = {name: np.asarray(own[name]) for name in seen}
        seen = {name: np.asarray(value) for name, value in seen.items()}
        ratios = frozenset(n for n in seen if own[n].min() >= 0 and seen[n].min() >= 0)
        usual, other = np.asarray(answer(own)), np.asarray(answer(seen))
        familiar = np.square(other - usual).mean() <= FAMILIAR * usual.var()
        return cls(own, seen, ratios, bool(familiar))

    def changed(self, found: Variables) -> Variables:
        """The base network's own statistics, changed as much as those of the images at hand have.

        Means are shifted by what they differ on these images, and variances multiplied by their
        ratio: what the images have of their own, being few or others than those that the network
        was trained on, cancels out, and the base network itself stays as it is.

        Args:
          found: what ``reestimate`` gives of the changed network for the same images.
        """
        return {name: self._changed(name, value) for name, value in found.items()}

    def _changed(self, name: str, found: Any) -> Any:
        own, seen = self.own[name], self.seen[name]
        if not np.issubdtype(found.dtype, np.floating):
            return found
        if name not in self.ratios:
            return (own + (found - seen)).astype(found.dtype)
        known, damping = own > 0, DAMPING * own
        ratio = own / np.where(known, seen + damping, 1)
        return (found * ~known + (found + damping) * ratio).astype(found.dtype)


def find_momentum(
    updated: Updated, variables: Variables, statistics: Iterable[str], x: Any, *extras: Any
) -> dict[str, float]:
    """How much of its old value each statistic keeps in a training step.

    Running statistics are ``m · old + (1 - m) · batch``; two steps from 0 and from 1
    tell ``m`` for any network, without knowing its layers.
    """
    statistics, found = list(statistics), []
    for value in (0.0, 1.0):
        start = {name: jnp.full_like(variables[name], value) for name in statistics}
        found.append(jax.tree.map(np.asarray, updated({**variables, **start}, x, *extras)))
    return {name: float((found[1][name] - found[0][name]).mean()) for name in statistics}


def reestimate(
    updated: Updated,
    variables: Variables,
    momentum: Mapping[str, float],
    batches: Iterable[Any],
    *extras: Any,
    base: BaseStatistics | None = None,
) -> Variables:
    """The running statistics as the mean over batches of the network's own.

    Args:
      updated: see ``Updated``; best jitted.
      variables: of the changed network, with any statistics.
      momentum: of every statistic, from ``find_momentum``; what a step leaves as
        it is (momentum 1) stays.
      batches: inputs of one shape, at least one.
      extras: handed to ``updated``.
      base: where the network comes from; see ``BaseStatistics.changed``.

    Returns:
      the statistics alone, in their types.
    """
    zeros = {name: np.zeros_like(variables[name]) for name in momentum}
    sums = {name: np.zeros_like(variables[name]) for name in momentum}
    start = {**variables, **zeros}
    found = list(each(lambda x: updated(start, x, *extras), batches))
    for batch in found:
        for name in momentum:
            sums[name] += np.asarray(batch[name])
    means = _means(sums, len(found), variables, momentum)
    # All at once: one by one each array would take as long as they all do.
    return jax.device_put(means if base is None else base.changed(at_hand(means)))


def reestimated(
    updated: Updated,
    variables: Variables,
    momentum: Mapping[str, float],
    batches: Any,
    *extras: Any,
) -> Variables:
    """The same as ``reestimate`` within a program.

    Args:
      batches: inputs ``[B, N, ...]`` of B batches, one or more.
      updated, variables, momentum, extras: as of ``reestimate``.
    """
    zeros = {name: jnp.zeros_like(variables[name]) for name in momentum}
    start = {**variables, **zeros}

    def add(sums: Variables, x: Any) -> tuple[Variables, None]:
        batch = updated(start, x, *extras)
        return {name: sums[name] + batch[name] for name in momentum}, None

    sums, _ = jax.lax.scan(add, zeros, batches)
    return _means(sums, len(batches), variables, momentum)


def _means(
    sums: Variables, count: int, variables: Variables, momentum: Mapping[str, float]
) -> Variables:
    """The statistics of a network from what so many batches gave, each from statistics of zero."""
    result = {}
    for name, kept in momentum.items():
        follows, result[name] = 1 - kept, variables[name]
        if follows > 1e-6:
            mean = sums[name] / (max(count, 1) * follows)
            result[name] = mean.astype(result[name].dtype)
    return result
