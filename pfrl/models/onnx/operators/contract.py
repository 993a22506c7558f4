"""Operators that sum products: convolutions and matrix products."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.models.onnx.laid import Laid, laid, plain, pointwise, relaid, renamed
from pfrl.models.onnx.operators.base import operator, unsupported
from pfrl.models.onnx.operators.pointwise import scaled
from pfrl.models.onnx.reader import Node

SPACE = "HWD"


def last(rank: int) -> tuple[int, ...]:
    """``[N, C, ...]`` of a file with its channels last."""
    return (0, *range(2, rank), 1)


def padding(
    node: Node, sizes: Sequence[int], windows: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Zeros before and behind every axis of space.

    Args:
      node: its ``auto_pad`` or ``pads``.
      sizes: of space.
      windows: with their dilation.
      strides: of the windows.
    """
    how = node.attributes.get("auto_pad", "NOTSET")
    if how.startswith("SAME"):
        pads = []
        for size, window, stride in zip(sizes, windows, strides, strict=True):
            both = max((-(-size // stride) - 1) * stride + window - size, 0)
            few, many = both // 2, both - both // 2
            pads.append((few, many) if how == "SAME_UPPER" else (many, few))
        return pads
    given = list(node.attributes.get("pads", [])) if how == "NOTSET" else []
    given = given or [0] * (2 * len(sizes))
    return list(zip(given[: len(sizes)], given[len(sizes) :], strict=True))


def _numbers(rank: int, kernel: str) -> tuple[str, str, str]:
    space = SPACE[: rank - 2]
    return f"N{space}C", f"{space}{kernel}", f"N{space}C"


@operator("Conv")
def _conv(run, node, x, kernel, bias=None):
    rank, attributes = len(x.shape), node.attributes
    if rank not in (3, 4, 5):
        raise unsupported(node, f"slides over {rank - 2} axes")
    want = (*range(2, rank), 1, 0)
    run.claim(node, kernel, "kernel", want)
    run.claim(node, bias, "bias")
    ones = [1] * (rank - 2)
    strides, dilations = attributes.get("strides", ones), attributes.get("dilations", ones)
    taps = kernel.shape[2:]
    windows = [(size - 1) * step + 1 for size, step in zip(taps, dilations, strict=True)]
    y = jax.lax.conv_general_dilated(
        jnp.asarray(relaid(x, last(rank))),
        jnp.asarray(relaid(kernel, want)),
        window_strides=strides,
        padding=padding(node, x.shape[2:], windows, strides),
        rhs_dilation=dilations,
        dimension_numbers=_numbers(rank, "IO"),
        feature_group_count=attributes.get("group", 1),
    )
    return Laid(y if bias is None else y + plain(bias), last(rank))


@operator("ConvTranspose")
def _conv_transpose(run, node, x, kernel, bias=None):
    """The gradient of a convolution: zeros between the inputs, the kernel turned around."""
    rank, attributes = len(x.shape), node.attributes
    groups, ones = attributes.get("group", 1), [1] * (rank - 2)
    if groups != 1:
        raise unsupported(node, "is transposed and has groups")
    want = (*range(2, rank), 0, 1)
    run.claim(node, kernel, "kernel", want)
    run.claim(node, bias, "bias")
    strides, dilations = attributes.get("strides", ones), attributes.get("dilations", ones)
    more = attributes.get("output_padding", [0] * (rank - 2))
    windows = [(k - 1) * d + 1 for k, d in zip(kernel.shape[2:], dilations, strict=True)]
    pads = _transposed_padding(node, x.shape[2:], windows, strides, more)
    y = jax.lax.conv_general_dilated(
        jnp.asarray(relaid(x, last(rank))),
        jnp.flip(jnp.asarray(relaid(kernel, want)), range(rank - 2)),
        window_strides=ones,
        padding=pads,
        lhs_dilation=strides,
        rhs_dilation=dilations,
        dimension_numbers=_numbers(rank, "IO"),
    )
    return Laid(y if bias is None else y + plain(bias), last(rank))


def _transposed_padding(
    node: Node,
    sizes: Sequence[int],
    windows: Sequence[int],
    strides: Sequence[int],
    more: Sequence[int],
) -> list[tuple[int, int]]:
    cuts = padding(node, sizes, windows, strides)
    how = node.attributes.get("auto_pad", "NOTSET")
    wanted = node.attributes.get("output_shape")
    if how.startswith("SAME") and wanted is None:
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    pads = []
    for axis, (low, high) in enumerate(cuts):
        whole = (sizes[axis] - 1) * strides[axis] + windows[axis]
        if wanted is not None:
            both = whole + more[axis] - wanted[-len(sizes) + axis]
            low, high = both // 2, both - both // 2
            if how != "SAME_UPPER":
                low, high = high, low
        pads.append((windows[axis] - 1 - low, windows[axis] - 1 - high + more[axis]))
    return pads


@operator("Gemm")
def _gemm(run, node, a, b, bias=None):
    attributes = node.attributes
    if attributes.get("transA", 0):
        a = renamed(a, (1, 0))
    if attributes.get("transB", 0):
        b = renamed(b, (1, 0))
    run.claim(node, b, "kernel", (0, 1))
    run.claim(node, bias, "bias")
    y = scaled(laid(jnp.asarray(plain(a)) @ plain(b)), attributes.get("alpha", 1.0))
    if bias is None:
        return y
    return pointwise(jnp.add, y, scaled(bias, attributes.get("beta", 1.0)))


@operator("MatMul")
def _matmul(run, node, a, b):
    rank = len(b.shape)
    run.claim(node, b, "kernel", range(rank))
    run.claim(node, a, "kernel", range(len(a.shape)))
    return laid(jnp.matmul(plain(a), plain(b)))


@operator("Einsum")
def _einsum(run, node, *values):
    equation = node.attributes["equation"].replace(" ", "")
    for value in values:
        run.claim(node, value, "kernel")
    return laid(jnp.einsum(equation, *map(plain, values)))


def spatial_axes(x: Laid) -> list[int]:
    """Axes of space of ``[N, C, ...]`` in the order in which they are stored."""
    return [place for place, axis in enumerate(x.layout) if axis > 1]


def window_counts(
    sizes: Sequence[int], windows: Sequence[int], strides: Sequence[int], pads: Sequence
) -> np.ndarray:
    """How many places of every pooling window lie within the image, one axis a factor."""
    counts = np.ones([])
    for size, window, stride, (low, high) in zip(sizes, windows, strides, pads, strict=True):
        starts = np.arange(0, size + low + high - window + 1, stride) - low
        line = np.minimum(starts + window, size) - np.maximum(starts, 0)
        counts = counts[..., None] * line
    return counts
