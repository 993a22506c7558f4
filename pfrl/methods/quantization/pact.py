"""Learned clips of activations: PACT (Choi et al. 2018, arXiv 1805.06085)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.methods.quantization.base import ActivationGrid, ActivationQuantizer
from pfrl.methods.quantization.uniform import (
    activation_grid,
    fake_quantize_activations,
    straight_through,
)
from pfrl.registry import register

SMALLEST_CLIP = 1e-3
"""Below it a clip is taken for as large as this, so that the range stays one."""


def pact(
    x: jax.Array,
    clip: jax.Array,
    bits: jax.Array,
    low: jax.Array | float = 0.0,
    high: jax.Array | float = 1.0,
) -> jax.Array:
    """Activations clipped to ``clip · [low, high]`` and rounded to ``2^bits`` values.

    With the default range it is the paper's: ``y = 0.5 · (|x| - |x - a| + a)``, which is
    ``x`` clipped to ``[0, a]``, on the grid of step ``a / (2^bits - 1)``; the gradient for
    ``a`` is 1 where ``x >= a``, else 0, and that for ``x`` is 1 in ``[0, a)``, else 0.

    The generalisation to inputs that can be negative (images, GELU) is ours: a calibrated
    range, widened to hold 0 and moved so that 0 is a point of the grid, is scaled by one
    learned factor, which starts at 1. Its gradient is the end of the range that a value is
    clipped to: ``high`` above, ``low`` below, 0 between. So ``a = clip · high``.

    At 32 bits ``x`` passes unchanged. A clip below ``SMALLEST_CLIP`` is used as that, while
    its gradient goes on as if it were not.

    Args:
      x: any shape.
      clip: scalar, learned.
      bits: scalar, 2 to 8 or 32, may be traced.
      low, high: scalars, the range at a clip of 1.
    """
    clip = straight_through(clip, jnp.maximum(clip, SMALLEST_CLIP))
    return fake_quantize_activations(x, bits, clip * low, clip * high)


def _grid(clip: Any, bits: Any, low: Any, high: Any) -> ActivationGrid:
    clip = jnp.maximum(clip, SMALLEST_CLIP)
    return activation_grid(bits, clip * low, clip * high)


register(
    "activation_quantizer",
    "pact",
    ActivationQuantizer(
        lambda x, clip, bits, low, high, elements: pact(x, clip, bits, low, high),
        _grid,
        lambda bits, low, high: np.float32(1.0),
    ),
)
