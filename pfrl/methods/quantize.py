"""Uniform fake quantization with straight-through gradients; bit widths are traced values.

Rounding to the grid of an integer of ``bits`` bits and back (Jacob et al. 2018,
arXiv 1712.05877). At 32 bits a value passes unchanged.
"""

import jax
import jax.numpy as jnp

from pfrl.policy import FLOAT_BITS


def _straight_through(x: jax.Array, quantized: jax.Array) -> jax.Array:
    """The value of ``quantized`` with the gradient of ``x`` (Bengio et al. 2013)."""
    return x + jax.lax.stop_gradient(quantized - x)


def fake_quantize_weights(kernel: jax.Array, bits: jax.Array, axis: int = -1) -> jax.Array:
    """Symmetric grid per output channel: ``s · clip(round(w / s), -q, q)``, ``q = 2^(bits-1) - 1``.

    ``s`` is the largest magnitude of the channel over ``q``; a channel of zeros stays zero.
    Masked input channels are zeros and leave the scale alone.

    Args:
      kernel: any shape with output channels on ``axis``.
      bits: scalar, 2 to 8 or 32, may be traced.
    """
    levels = 2.0 ** (jnp.minimum(bits, 16) - 1) - 1
    others = tuple(a for a in range(kernel.ndim) if a != axis % kernel.ndim)
    largest = jnp.max(jnp.abs(kernel), axis=others, keepdims=True)
    scale = jnp.where(largest > 0, largest, 1.0) / levels
    quantized = jnp.clip(jnp.round(kernel / scale), -levels, levels) * scale
    return jnp.where(bits >= FLOAT_BITS, kernel, _straight_through(kernel, quantized))


def fake_quantize_activations(
    x: jax.Array, bits: jax.Array, low: jax.Array, high: jax.Array
) -> jax.Array:
    """Affine grid per tensor over ``[low, high]``, which holds 0 on a grid point.

    ``s = (high - low) / (2^bits - 1)``, zero point ``round(-low / s)``. Outside of
    the range values are clipped and have no gradient.

    Args:
      x: any shape.
      bits: scalar, 2 to 8 or 32, may be traced.
      low, high: scalars, the calibrated range; widened to hold 0.
    """
    levels = 2.0 ** jnp.minimum(bits, 16) - 1
    low, high = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
    scale = jnp.where(high > low, high - low, 1.0) / levels
    zero_point = jnp.round(-low / scale)
    bottom, top = -zero_point * scale, (levels - zero_point) * scale
    clipped = jnp.clip(x, bottom, top)
    quantized = jnp.round(clipped / scale) * scale
    return jnp.where(bits >= FLOAT_BITS, x, _straight_through(clipped, quantized))
