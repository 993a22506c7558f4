"""Normalisation statistics of a changed network, re-estimated without a gradient step."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.cpu.backend import each
from pfrl.graph import Variables

Updated = Callable[..., Variables]
"""``updated(variables, x, *extras) -> statistics`` after one batch in training mode, or more."""


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
) -> Variables:
    """The running statistics as the mean over batches of the network's own.

    Args:
      updated: see ``Updated``; best jitted.
      variables: of the changed network, with any statistics.
      momentum: of every statistic, from ``find_momentum``; what a step leaves as
        it is (momentum 1) stays.
      batches: inputs of one shape, at least one.
      extras: handed to ``updated``.

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
    # All at once: one by one each array would take as long as they all do.
    return jax.device_put(_means(sums, len(found), variables, momentum))


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
