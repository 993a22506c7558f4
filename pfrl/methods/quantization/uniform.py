"""Uniform fake quantization with straight-through gradients; bit widths are traced values.

Rounding to the grid of an integer of ``bits`` bits and back (Jacob et al. 2018,
arXiv 1712.05877). At 32 bits a value passes unchanged. Computed in float32 at least;
results have the type of what came in.

The weight grid is symmetric and has a scale per output channel, so it commutes with
factors per output channel, of either sign: ``Q(w · c) = c · Q(w)``. A kernel that is
rounded as it is has the integers of the same kernel with a normalisation folded into it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.methods.quantization.base import ActivationGrid, ActivationQuantizer, WeightQuantizer
from pfrl.registry import register

FLOAT_BITS = 32
"""Not quantized."""
SHORTEST = 1e-30
"""A range or a largest magnitude below it is taken for zero: steps of it would be none."""


def weight_levels(bits: jax.Array) -> jax.Array:
    """The largest integer of the symmetric grid: ``2^(bits-1) - 1``; 1 at 2 bits."""
    return 2.0 ** (jnp.minimum(bits, 16) - 1) - 1


def activation_grid(bits: jax.Array, low: jax.Array, high: jax.Array) -> ActivationGrid:
    """The affine grid over ``[low, high]``, widened to hold 0, which is a point of it.

    ``scale = (high - low) / (2^bits - 1)``, zero point ``round(-low / scale)``; an empty
    range is taken as of length 1.
    """
    levels = 2.0 ** jnp.minimum(bits, 16) - 1
    low, high = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
    scale = jnp.where(high - low > SHORTEST, high - low, 1.0) / levels
    return ActivationGrid(scale, jnp.round(-low / scale), levels)


def fake_quantize_weights(
    kernel: jax.Array, bits: jax.Array, scale: jax.Array | None = None
) -> jax.Array:
    """Symmetric grid per output channel: ``s · clip(round(w / s), -q, q)``, ``q = 2^(bits-1) - 1``.

    A weight that is clipped has no gradient. Masked input channels are zeros, and
    leave the scale alone; a channel of zeros stays zero.

    Args:
      kernel: ``[..., O]``.
      bits: scalar, 2 to 8 or 32, may be traced.
      scale: ``s`` of every output channel ``[O]``, above zero; by default its largest
        magnitude over ``q``, so that nothing is clipped.
    """
    wide, levels = widened(kernel), weight_levels(bits)
    others = tuple(range(kernel.ndim - 1))
    if scale is None:
        largest = jnp.max(jnp.abs(wide), axis=others, keepdims=True)
        scale, clipped = jnp.where(largest > SHORTEST, largest, 1.0) / levels, wide
    else:
        scale = jax.lax.stop_gradient(jnp.expand_dims(scale, others))
        clipped = clip(wide, -levels * scale, levels * scale)
    quantized = jnp.clip(jnp.round(wide / scale), -levels, levels) * scale
    result = straight_through(clipped, quantized).astype(kernel.dtype)
    return jnp.where(bits >= FLOAT_BITS, kernel, result)


def fake_quantize_activations(
    x: jax.Array, bits: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    """Affine grid per tensor over ``[low, high]``; see ``activation_grid``.

    Outside of the range values are clipped; their gradient goes to the end of the
    range that they were clipped to.

    Args:
      x: any shape.
      bits: scalar, 2 to 8 or 32, may be traced.
      low, high: scalars, the calibrated range.
    """
    grid = activation_grid(bits, low, high)
    bottom, top = -grid.zero_point * grid.scale, (grid.levels - grid.zero_point) * grid.scale
    clipped = clip(widened(x), bottom, top)
    quantized = jnp.round(clipped / grid.scale) * grid.scale
    return jnp.where(bits >= FLOAT_BITS, x, straight_through(clipped, quantized).astype(x.dtype))


def straight_through(x: jax.Array, quantized: jax.Array) -> jax.Array:
    """Exactly the value of ``quantized`` with the gradient of ``x`` (Bengio et al. 2013)."""
    return jax.lax.stop_gradient(quantized) + (x - jax.lax.stop_gradient(x))


def clip(x: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """``x`` within ``[low, high)``, else the end, which then has the whole gradient."""
    return jnp.where(x >= high, high, jnp.where(x < low, low, x))


def widened(x: jax.Array) -> jax.Array:
    """In float32, if it is of a shorter type: bfloat16 has no more digits than 8 bits."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def largest_steps(kernel: np.ndarray, bits: int) -> np.ndarray:
    """float32 ``[O]``: the step that ``fake_quantize_weights`` takes by default."""
    largest = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0)
    return np.where(largest > SHORTEST, largest, np.float32(1)) / np.float32(2 ** (bits - 1) - 1)


# The grid follows from the rounded kernel too: (q / L) * L / L is q / L for every float.
register(
    "weight_quantizer",
    "minmax",
    WeightQuantizer(
        lambda kernel, own, bits, alive: fake_quantize_weights(kernel, bits),
        steps=lambda kernel, own, bits: largest_steps(kernel, bits),
    ),
)
register(
    "activation_quantizer",
    "fixed",
    ActivationQuantizer(
        lambda x, own, bits, low, high, elements: fake_quantize_activations(x, bits, low, high),
        lambda own, bits, low, high: activation_grid(bits, low, high),
    ),
)
