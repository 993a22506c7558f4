"""One convolution in the form that XLA's CPU backend is fast at: the same sums, other operations.

XLA calls YNNPACK's convolutions, which come near the processor's peak, under
conditions: more than 16 channels in or out, no dilated image, channels last.
What does not meet them runs 2 to 30 times slower, and so does the gradient of a
kernel for the transposes around it. The rewritings here meet the conditions, or
use products and sums where those are faster. They concern two-dimensional
float32 convolutions with channels last, as Flax makes them.

Shapes: images ``[N, H, W, C]``, kernels ``[h, w, C / groups, O]``.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pair = tuple[int, int]
Padding = Sequence[Pair]

IMAGE = (0, 3, 1, 2)
"""Batch, channels, height and width of an image with channels last."""
GRADIENT = ((3, 0, 1, 2), (3, 0, 1, 2), (2, 3, 0, 1))
"""Dimension numbers of the convolution of an image with a gradient that yields a kernel's."""
ONES = (1, 1)

FEW_CHANNELS = 16
"""Up to so many channels in and out, YNNPACK is not asked."""
ENOUGH_OUTPUTS = 24
"""Channels out that a widened kernel is to have, and ..."""
ENOUGH_OUTPUTS_OF_FEW = 48
"""... where there are at most ``VERY_FEW`` channels in, for whose short sums width counts more."""
VERY_FEW = 4
MOST_PIXELS = 8
"""Pixels that a widened kernel makes at most: its width, and so its zeros, grow with them."""
MOST_TURNED = 64
"""Up to so many channels a product with the identity is a cheap transpose."""


def convolve(x: jax.Array, kernel: jax.Array, params: Mapping[str, Any]) -> jax.Array:
    """What an equation ``conv_general_dilated`` with these parameters yields."""
    numbers = params["dimension_numbers"]
    result = None
    same_type = params["preferred_element_type"] in (None, jnp.float32)
    if x.ndim == 4 and x.dtype == kernel.dtype == jnp.float32 and same_type:
        if numbers.lhs_spec == numbers.out_spec == IMAGE:
            out, into, *sides = numbers.rhs_spec
            result = _image(x, kernel.transpose(*sides, into, out), params)
        elif tuple(numbers) == GRADIENT:
            result = _kernel_gradient(x, kernel, params)
    return lax.conv_general_dilated_p.bind(x, kernel, **params) if result is None else result


def _image(x: jax.Array, kernel: jax.Array, params: Mapping[str, Any]) -> jax.Array | None:
    """The convolution of an image; None where it is to run as it is."""
    if params["batch_group_count"] != 1 or params["rhs_dilation"] != ONES:
        return None
    strides, padding = params["window_strides"], params["padding"]
    dilation, groups = params["lhs_dilation"], params["feature_group_count"]
    if dilation == ONES:
        return _better(x, kernel, strides, padding, groups)
    sides = [
        (size - 1) * step + 1 + low + high - taps + 1
        for size, step, (low, high), taps in zip(
            x.shape[1:3], dilation, padding, kernel.shape, strict=False
        )
    ]
    if strides != ONES or any(side % step for side, step in zip(sides, dilation, strict=True)):
        return None
    return _interleave(x, kernel, padding, dilation, groups, sides)


def _correlate(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, groups: int
) -> jax.Array:
    """A convolution without dilations, in its best form."""
    y = _better(x, kernel, strides, padding, groups)
    return _plain(x, kernel, strides, padding, groups) if y is None else y


def _better(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, groups: int
) -> jax.Array | None:
    """A convolution without dilations in a better form than the plain one, if there is any."""
    height, width, _, features = kernel.shape
    if groups == x.shape[-1] == features:
        return _depthwise(x, kernel, strides, padding)
    if groups != 1:
        return None
    if height == width == 1 and not np.any(padding):
        return x[:, :: strides[0], :: strides[1]] @ kernel[0, 0]
    pixels = _pixels_at_once(x, kernel, strides[1], padding[1])
    return _widened(x, kernel, strides, padding, pixels) if pixels > 1 else None


def _plain(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, groups: int = 1
) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _pixels_at_once(x: jax.Array, kernel: jax.Array, stride: int, padding: Pair) -> int:
    """How many neighbouring pixels of a row a widened kernel should make; 1 to leave it."""
    _, taps, channels, features = kernel.shape
    very_few = channels <= VERY_FEW
    enough = ENOUGH_OUTPUTS_OF_FEW if very_few else ENOUGH_OUTPUTS
    if taps == 1 or 2 * taps > x.shape[2] or features >= enough:
        return 1
    if not very_few and max(channels, features) > FEW_CHANNELS:
        return 1
    width = (x.shape[2] + sum(padding) - taps) // stride + 1
    fitting = [pixels for pixels in (2, 4, MOST_PIXELS) if width % pixels == 0]
    wide = [pixels for pixels in fitting if pixels * features >= enough]
    return min(wide, default=max(fitting, default=1))


def _widened(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, pixels: int
) -> jax.Array:
    """Neighbouring pixels of the result as channels of one.

    The kernel of ``pixels`` results is the kernel ``pixels`` times, each
    shifted by a stride: ``[h, w + stride · (pixels - 1), C, pixels · O]``. Its
    zeros cost less than a convolution with few channels would lose.
    """
    stride = strides[1]
    shifted = [
        jnp.pad(kernel, ((0, 0), (stride * i, stride * (pixels - 1 - i)), (0, 0), (0, 0)))
        for i in range(pixels)
    ]
    y = _plain(x, jnp.concatenate(shifted, -1), (strides[0], stride * pixels), padding)
    return y.reshape(*y.shape[:2], y.shape[2] * pixels, kernel.shape[-1])


def _interleave(
    x: jax.Array,
    kernel: jax.Array,
    padding: Padding,
    dilation: Sequence[int],
    groups: int,
    sides: Sequence[int],
) -> jax.Array:
    """A convolution of a dilated image (the gradient of a strided one), without the zeros.

    Results whose places leave the same remainders on division by the dilation
    see the same taps: for each pair of remainders a convolution of the image
    itself with every so many-th tap.

    Args:
      sides: height and width of the result, multiples of ``dilation``.
    """
    n, features = x.shape[0], kernel.shape[-1]
    (rows, columns), (high, wide) = dilation, (s // d for s, d in zip(sides, dilation, strict=True))

    def part(row: int, column: int) -> jax.Array:
        taps, pads = [], []
        for axis, place in enumerate((row, column)):
            step, low = dilation[axis], padding[axis][0]
            first = (low - place) % step
            count = len(range(first, kernel.shape[axis], step))
            before = (low - place - first) // step
            taps.append(slice(first, None, step))
            pads.append((before, sides[axis] // step - x.shape[1 + axis] - before + count - 1))
            if not count:
                return jnp.zeros((n, high, wide, features), x.dtype)
        return _correlate(x, kernel[taps[0], taps[1]], ONES, pads, groups)

    parts = [jnp.stack([part(r, c) for c in range(columns)], 3) for r in range(rows)]
    return jnp.stack(parts, 2).reshape(n, sides[0], sides[1], features)


def _depthwise(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding
) -> jax.Array:
    """Every channel with its own kernel ``[h, w, 1, C]``: a sum of shifted images."""
    taps = kernel.shape[:2]
    x = _padded(x, padding)
    sides = [
        (size - count) // step + 1
        for size, count, step in zip(x.shape[1:3], taps, strides, strict=True)
    ]
    shifted = (_shifted(x, place, sides, strides) for place in np.ndindex(*taps))
    return sum(
        (image * kernel[place][0] for image, place in zip(shifted, np.ndindex(*taps), strict=True)),
        start=jnp.zeros((), x.dtype),
    )


def _padded(x: jax.Array, padding: Padding) -> jax.Array:
    pads = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), pads)


def _shifted(
    x: jax.Array, place: Sequence[int], sides: Sequence[int], strides: Sequence[int]
) -> jax.Array:
    """What one tap of a kernel sees of an image."""
    ends = [p + (side - 1) * s + 1 for p, side, s in zip(place, sides, strides, strict=True)]
    return x[:, place[0] : ends[0] : strides[0], place[1] : ends[1] : strides[1]]


def _kernel_gradient(
    x: jax.Array, gradient: jax.Array, params: Mapping[str, Any]
) -> jax.Array | None:
    """The gradient ``[h, w, C / groups, O]`` of a kernel; None where it is to run as it is.

    Its equation has the convolution's strides as the dilation of the kernel,
    whose part the gradient ``[N, H', W', O]`` of the result plays.
    """
    if params["window_strides"] != ONES or params["lhs_dilation"] != ONES:
        return None
    strides, padding = params["rhs_dilation"], params["padding"]
    groups, sides = params["batch_group_count"], gradient.shape[1:3]
    channels, features = x.shape[-1], gradient.shape[-1]
    taps = [
        size + low + high - (side - 1) * step
        for size, (low, high), side, step in zip(x.shape[1:3], padding, sides, strides, strict=True)
    ]
    if groups == channels == features:
        padded = _padded(x, padding)
        sums = [
            _sum_of_rows(_shifted(padded, place, sides, strides) * gradient)
            for place in product(*map(range, taps))
        ]
        return jnp.stack(sums).reshape(*taps, 1, channels)
    if groups != 1 or params["feature_group_count"] != 1:
        return None
    if taps == [1, 1]:
        seen = _shifted(_padded(x, padding), (0, 0), sides, strides)
        return lax.dot_general(seen, gradient, (((0, 1, 2), (0, 1, 2)), ((), ())))[None, None]
    if not 8 <= channels <= MOST_TURNED:
        return None
    y = lax.conv_general_dilated(
        _channels_first(x),
        gradient.transpose(1, 2, 0, 3),
        ONES,
        padding,
        rhs_dilation=strides,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.transpose(1, 2, 0, 3)


def _sum_of_rows(x: jax.Array) -> jax.Array:
    """Sum over all axes but the last ``[C]``, as a product with a row of ones."""
    rows = x.reshape(-1, x.shape[-1])
    return (jnp.ones((1, len(rows)), x.dtype) @ rows)[0]


def _channels_first(x: jax.Array) -> jax.Array:
    """``[N, H, W, C]`` to ``[C, H, W, N]`` as a product with the identity.

    A transpose XLA fuses with the normalisation and activation that ``x`` comes
    from, and computes them again in the order of the result, a cache line for
    every number. A product it does not fuse.
    """
    n, height, width, channels = x.shape
    rows = x.transpose(1, 2, 0, 3).reshape(-1, channels)
    turned = lax.dot_general(jnp.eye(channels, dtype=x.dtype), rows, (((1,), (1,)), ((), ())))
    return turned.reshape(channels, height, width, n)
