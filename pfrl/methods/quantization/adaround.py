"""AdaRound: whether a weight is rounded up or down is learned, layer by layer, from its inputs.

Nagel et al. 2020, arXiv 2004.10568. Rounding to the nearest step leaves each weight the least
error, and the layer's output not. Of ``W̃ = s · clip(⌊W/s⌋ + h(V), -q, q)`` with the rectified
sigmoid ``h`` (eq. 23) the output's error is minimised, and a regulariser that drives ``h`` to
0 or 1 (eq. 21, 24)::

    min_V  ‖(W - W̃) x‖² + λ Σ 1 - |2 h(V) - 1|^β

Deviations: the activation behind the layer is left out, so that the second moments of ``x`` say all
and no image is looked at twice; inputs are those of the base network, not of the layers before as
they were rounded; the error is relative to that of rounding to the nearest.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.methods.base import Statistics
from pfrl.methods.quantization.base import Rounder
from pfrl.methods.quantization.uniform import FLOAT_BITS, largest_steps
from pfrl.registry import register

log = logging.getLogger(__name__)

STEPS, RATE = 600, 0.02
"""Of Adam, and how far each goes."""
FREE, FIRST, LAST = 0.2, 20.0, 2.0
"""The share of the steps without the regulariser, and the first and the last ``β``."""
WEIGHT = 4.0
"""Of the regulariser: ``λ``, for errors that are 1 a weight when all are rounded to the nearest. At
3 it outweighs what a single weight's own error resists with; less leaves many undecided."""
LOW, HIGH = -0.1, 1.1
"""Between which the sigmoid is stretched before it is clipped to 0 and 1."""


def _stretched(v: jax.Array) -> jax.Array:
    """``h(V) = clip(σ(V) (ζ - γ) + γ, 0, 1)``."""
    return jnp.clip(jax.nn.sigmoid(v) * (HIGH - LOW) + LOW, 0, 1)


@jax.jit
def learned(weights: jax.Array, steps: jax.Array, levels: Any, moments: jax.Array) -> jax.Array:
    """Weights on the grid of their steps, so that the layer's outputs change least.

    Args:
      weights: ``[G, K, M]``: of ``G`` groups, ``K`` inputs and ``M`` outputs each.
      steps: of every weight, likewise.
      levels: the largest integer ``q`` of the grid.
      moments: ``[G, K, K]``, the sum of ``x xᵀ``.
    """
    scaled = weights / steps
    floor = jnp.floor(scaled)
    rest = scaled - floor

    def rounded(up: jax.Array) -> jax.Array:
        return jnp.clip(floor + up, -levels, levels) * steps

    def error(values: jax.Array) -> jax.Array:
        change = values - weights
        return jnp.sum(change * (moments @ change))

    nearest = rounded(jnp.round(rest))
    unit = weights.size / jnp.maximum(error(nearest), 1e-30)

    def loss(v: jax.Array, beta: jax.Array, weight: jax.Array) -> jax.Array:
        h = _stretched(v)
        undecided = jnp.sum(1 - jnp.abs(2 * h - 1) ** beta)
        return error(rounded(h)) * unit + weight * undecided

    def step(n: jax.Array, state: tuple) -> tuple:
        v, mean, square = state
        done = jnp.clip((n / STEPS - FREE) / (1 - FREE), 0, 1)
        beta = LAST + 0.5 * (FIRST - LAST) * (1 + jnp.cos(done * jnp.pi))
        gradient = jax.grad(loss)(v, beta, jnp.where(done > 0, WEIGHT, 0.0))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        size = RATE * jnp.sqrt(1 - 0.999 ** (n + 1)) / (1 - 0.9 ** (n + 1))
        return v - size * mean / (jnp.sqrt(square) + 1e-8), mean, square

    start = jnp.clip((rest - LOW) / (HIGH - LOW), 1e-3, 1 - 1e-3)
    v, zero = jnp.log(start / (1 - start)), jnp.zeros_like(weights)
    v, *_ = jax.lax.fori_loop(0, STEPS, step, (v, zero, zero))
    found = rounded((_stretched(v) >= 0.5).astype(weights.dtype))
    return jnp.where(error(found) < error(nearest), found, nearest)


def _prepare(statistics: Statistics) -> Callable[..., dict[str, Any]]:
    compiled: set[str] = set()

    def rounded(
        variables: Mapping[str, Any], bits: Mapping[str, int], alive: Mapping[str, np.ndarray]
    ) -> dict[str, Any]:
        found = dict(variables)
        for count, (kernel, matrix, rows) in enumerate(statistics.moments):
            log.info("learning how to round: kernel %d of %d", count + 1, len(statistics.moments))
            width = max(bits[name] for name in kernel.layers)
            # The first time of all, so that no later policy compiles for a shape of its own.
            if width >= FLOAT_BITS and kernel.variable in compiled:
                continue
            compiled.add(kernel.variable)
            there = np.asarray(alive[kernel.variable])
            array = np.asarray(variables[kernel.variable], np.float32) * there
            steps = np.broadcast_to(largest_steps(array, min(width, 8)), array.shape)
            places = kernel.places
            new = learned(
                array.reshape(-1)[places],
                steps.reshape(-1)[places],
                np.float32(2 ** (min(width, 8) - 1) - 1),
                (matrix / rows).astype(np.float32),
            )
            if width >= FLOAT_BITS:
                continue
            flat = array.reshape(-1).copy()
            flat[places] = np.asarray(new)
            kept = np.where(there, flat.reshape(array.shape), variables[kernel.variable])
            found[kernel.variable] = kept.astype(np.asarray(variables[kernel.variable]).dtype)
        return found

    return rounded


register(
    "rounding", "adaround", Rounder(_prepare, frozenset({"moments"}), frozenset({"minmax", "lsq"}))
)
