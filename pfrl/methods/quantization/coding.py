"""Quantized kernels as whole numbers: what a weight quantizer's kernels take in a file."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np

from pfrl.methods.quantization.base import WeightQuantizer
from pfrl.methods.quantization.uniform import FLOAT_BITS


class Layout(NamedTuple):
    """How a quantized kernel is stored.

    Attributes:
      format: 'uniform' for integers times a table of steps, 'codebook' for indices into a
        table of values.
      table: shape of the float32 table.
      zeros_coded: whether a code stands for zero.
    """

    format: str
    table: tuple[int, ...]
    zeros_coded: bool


def layout(quantizer: WeightQuantizer, shape: tuple[int, ...], bits: int, kept: int) -> Layout:
    """How a kernel of this shape is stored at ``bits`` bits with ``kept`` non-zeros."""
    if quantizer.steps is not None:
        return Layout("uniform", shape[-1:], True)
    whole = kept == int(np.prod(shape, dtype=int))
    return Layout("codebook", (max(min(2**bits, kept), 1),), whole)


def codes(
    quantizer: WeightQuantizer,
    kernel: np.ndarray,
    own: Mapping[str, Any],
    bits: int,
    stays: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """``(codes, table)`` of a kernel: uint8 of its shape, float32.

    Args:
      quantizer: by which it is rounded.
      kernel: finite float32, zero where it does not stay.
      own: the quantizer's arrays.
      bits: at most 8.
      stays: bool of the kernel's shape.
    """
    if quantizer.steps is not None:
        steps = np.asarray(quantizer.steps(kernel, own, bits), np.float32)
        levels = np.float32(2 ** (bits - 1) - 1)
        ints = np.clip(np.round(kernel / steps), -levels, levels)
        return (ints + 2 ** (bits - 1)).astype(np.uint8), steps
    rounded = np.asarray(_jitted(quantizer.round)(kernel, own, np.int32(bits), None))
    (entries,) = layout(quantizer, kernel.shape, bits, int(stays.sum())).table
    used = np.unique(rounded[stays]) if stays.any() else np.zeros(1, np.float32)
    found = np.minimum(np.searchsorted(used, rounded), len(used) - 1)
    return found.astype(np.uint8), np.pad(used, (0, entries - len(used)), mode="edge")


_jitted = cache(jax.jit)
"""One program for a kernel of every shape, where each operation would be one."""


def own_of(
    quantizer: WeightQuantizer, kernel: np.ndarray, table: np.ndarray, bits: int
) -> dict[str, Any]:
    """What of the quantizer's arrays follows from a kernel that was read.

    Args:
      quantizer: by which it is rounded again.
      kernel: float32, rounded unless ``bits`` is 32.
      table: its float32 table; ``[0]`` if it was stored in float.
      bits: at most 8, or 32.
    """
    if quantizer.steps is not None and bits >= FLOAT_BITS:
        table = np.ones(kernel.shape[-1:], np.float32)  # nobody reads them
    elif quantizer.steps is not None and not table.size:
        return {}
    return quantizer.restored(kernel, table, bits)
