"""Learned step sizes: LSQ (Esser et al. 2020, arXiv 1902.08153).

Kernels have a symmetric grid and a step per output channel; activations an affine grid, as
in LSQ+ (Bhalgat et al. 2020, arXiv 2004.09576), whose zero point is calibrated and fixed
and whose one step is learned. Where this differs from the papers: kernels leave the lowest
integer, ``-2^(bits-1)``, unused, as the exporters do; a learned offset (LSQ+) there is not.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.methods.quantization.base import ActivationQuantizer, WeightQuantizer
from pfrl.methods.quantization.ranges import best_steps
from pfrl.methods.quantization.uniform import (
    FLOAT_BITS,
    activation_grid,
    straight_through,
    weight_levels,
    widened,
)
from pfrl.registry import register

SMALLEST_STEP = 1e-6
"""Below it a step is taken for as large as this, so that it stays positive."""


def lsq(
    x: jax.Array,
    step: jax.Array,
    bits: jax.Array,
    low_level: jax.Array,
    high_level: jax.Array,
    elements: jax.Array,
) -> jax.Array:
    """``round(clip(x / step, low, high)) · step``, with the gradients of equations 3 and 5.

    With ``v = x / step``, the gradient for the step is ``round(v) - v`` where
    ``low < v < high``, ``low`` below and ``high`` above, times ``g = 1 / sqrt(N · Q)``, where
    ``Q`` is the largest integer of the grid; for ``x`` it is 1 between and 0 outside.
    At 32 bits ``x`` passes unchanged, and the step has no gradient.

    A step below ``SMALLEST_STEP`` is used as that, while its gradient goes on as if it were
    not: an optimizer that went too far can come back.

    Args:
      x: any shape.
      step: one that ``x`` is divided by: a scalar, or ``[O]`` of a kernel ``[..., O]``.
      bits: scalar, may be traced; only whether it is 32 matters here.
      low_level, high_level: integers at the ends of the grid, at most and at least 0.
      elements: ``N``, how many elements of ``x`` share a step: weights of the output
        channel, inputs of one example; removed ones do not count.
    """
    largest = jnp.maximum(-low_level, high_level)
    share = 1 / jnp.sqrt(jnp.maximum(elements, 1) * largest)
    positive = straight_through(step, jnp.maximum(step, SMALLEST_STEP))
    step = straight_through(positive * share, positive)
    v = widened(x) / step
    v = jnp.where(v <= low_level, low_level, jnp.where(v >= high_level, high_level, v))
    quantized = straight_through(v, jnp.round(v)) * step
    return jnp.where(bits >= FLOAT_BITS, x, quantized.astype(x.dtype))


def lsq_weights(
    kernel: jax.Array, step: jax.Array, bits: jax.Array, alive: jax.Array | None = None
) -> jax.Array:
    """``lsq`` of a kernel ``[..., O]`` with a step for every output channel ``[O]``.

    Args:
      kernel, step, bits: see ``lsq``.
      alive: 0 and 1, broadcastable to the kernel: the weights that are there.
    """
    top = weight_levels(bits)
    elements = kept_elements(kernel.shape, range(kernel.ndim - 1), alive)
    return lsq(kernel, step, bits, -top, top, elements)


def kept_elements(
    shape: Sequence[int], axes: Sequence[int], alive: jax.Array | None = None
) -> jax.Array:
    """How many elements of an array are there, counted over ``axes``: ``N`` of ``lsq``."""
    if alive is None:
        return jnp.asarray(math.prod(shape[a] for a in axes), jnp.float32)
    return jnp.broadcast_to(alive, tuple(shape)).astype(jnp.float32).sum(tuple(axes))


def _round_input(x: Any, step: Any, bits: Any, low: Any, high: Any, elements: Any) -> jax.Array:
    grid = activation_grid(bits, low, high)
    return lsq(x, step, bits, -grid.zero_point, grid.levels - grid.zero_point, elements)


# Jitted, as an eager power would compile for every width that it meets.
_first_step = jax.jit(lambda bits, low, high: activation_grid(bits, low, high).scale)


register(
    "weight_quantizer",
    "lsq",
    WeightQuantizer(
        lambda kernel, own, bits, alive: lsq_weights(kernel, own["step"], bits, alive),
        start=lambda kernel, bits, alive: {"step": best_steps(kernel, bits, alive)},
        trained=frozenset({"step"}),
        cut={"step": "outputs"},
        steps=lambda kernel, own, bits: np.maximum(own["step"], np.float32(SMALLEST_STEP)),
        restored=lambda kernel, steps, bits: {"step": steps},
    ),
)
register(
    "activation_quantizer",
    "lsq",
    ActivationQuantizer(
        _round_input,
        lambda step, bits, low, high: activation_grid(bits, low, high)._replace(
            scale=jnp.maximum(step, SMALLEST_STEP)
        ),
        lambda bits, low, high: np.asarray(_first_step(bits, low, high), np.float32),
    ),
)
