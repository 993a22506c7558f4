"""Quantized kernels as whole numbers: what a weight quantizer's kernels take in a file."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from pfrl.methods.quantization.codebook import ENTRIES, MOST_BITS
from pfrl.methods.quantization.lsq import SMALLEST_STEP
from pfrl.methods.quantization.uniform import FLOAT_BITS, SHORTEST


class Layout(NamedTuple):
    """How a quantized kernel is stored.

    Attributes:
      format: 'uniform' for integers times a table of scales, 'codebook' for indices into a
        table of values.
      table: shape of the float32 table.
      zeros_coded: whether a code stands for zero.
    """

    format: str
    table: tuple[int, ...]
    zeros_coded: bool


class Coding(Protocol):
    """The stored form of the kernels of one weight quantizer.

    ``state`` holds the arrays that the quantizer keeps beside a kernel, by the last part of
    their names (``step``, ``centers``).
    """

    def layout(self, shape: tuple[int, ...], bits: int, kept: int) -> Layout:
        """How a kernel of this shape is stored at ``bits`` bits with ``kept`` non-zeros."""
        ...

    def codes(
        self, kernel: np.ndarray, state: Mapping[str, Any], bits: int, stays: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """``(codes, table)`` of a kernel: uint8 of its shape, float32.

        Args:
          kernel: finite float32, zero where it does not stay.
          state: see above.
          bits: at most 8.
          stays: bool of the kernel's shape.
        """
        ...

    def state(self, kernel: np.ndarray, table: np.ndarray, bits: int) -> dict[str, np.ndarray]:
        """What of the state follows from a kernel that was read, so that it is rounded as before.

        Args:
          kernel: float32, rounded unless ``bits`` is 32.
          table: its float32 table; ``[0]`` if it was stored in float.
          bits: at most 8, or 32.
        """
        ...


class Uniform(NamedTuple):
    """Integers from ``-L`` to ``L = 2^(bits-1) - 1`` times a scale for every output channel.

    Attributes:
      stepped: whether the scale is the state ``step``; else the largest magnitude over ``L``,
        which a rounded kernel keeps: ``(q / L) · L / L`` is ``q / L`` for every float.
      smallest: the least step.
    """

    stepped: bool = False
    smallest: float = 0.0

    def layout(self, shape: tuple[int, ...], bits: int, kept: int) -> Layout:
        return Layout("uniform", shape[-1:], True)

    def codes(
        self, kernel: np.ndarray, state: Mapping[str, Any], bits: int, stays: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        levels = np.float32(2 ** (bits - 1) - 1)
        if self.stepped:
            scale = np.maximum(np.asarray(state["step"], np.float32), np.float32(self.smallest))
        else:
            largest = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0)
            scale = np.where(largest > SHORTEST, largest, np.float32(1)) / levels
        ints = np.clip(np.round(kernel / scale), -levels, levels)
        return (ints + 2 ** (bits - 1)).astype(np.uint8), scale

    def state(self, kernel: np.ndarray, table: np.ndarray, bits: int) -> dict[str, np.ndarray]:
        if not self.stepped:
            return {}
        if bits >= FLOAT_BITS:  # nobody reads it
            return {"step": np.ones(kernel.shape[-1:], np.float32)}
        return {"step": table} if table.size else {}


class Codebook:
    """Indices of the values in use, of which there are at most ``2^bits``."""

    def layout(self, shape: tuple[int, ...], bits: int, kept: int) -> Layout:
        whole = kept == int(np.prod(shape, dtype=int))
        return Layout("codebook", (max(min(2**bits, kept), 1),), whole)

    def codes(
        self, kernel: np.ndarray, state: Mapping[str, Any], bits: int, stays: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        centers = np.asarray(state["centers"], np.float32)[: 2**bits]
        indices = state["indices"] if "indices" in state else nearest(centers, kernel)
        rounded = centers[np.asarray(indices)]
        (entries,) = self.layout(kernel.shape, bits, int(stays.sum())).table
        used = np.unique(rounded[stays]) if stays.any() else np.zeros(1, np.float32)
        codes = np.minimum(np.searchsorted(used, rounded), len(used) - 1)
        return codes.astype(np.uint8), np.pad(used, (0, entries - len(used)), mode="edge")

    def state(self, kernel: np.ndarray, table: np.ndarray, bits: int) -> dict[str, np.ndarray]:
        values = kernel if bits < FLOAT_BITS else np.zeros_like(kernel)
        centers = np.unique(values)
        if len(centers) > 2 ** min(bits, MOST_BITS):
            centers = centers[centers != 0]  # what is zero does not stay
        indices = nearest(centers, values).astype(np.uint8)
        return {
            "centers": np.pad(centers, (0, ENTRIES - len(centers)), mode="edge"),
            "indices": indices,
        }


def nearest(centers: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices of the centers that ``codebook.assign`` takes."""
    order = np.argsort(centers, kind="stable")
    ascending = centers[order]
    return order[np.searchsorted((ascending[1:] + ascending[:-1]) / 2, values)]


CODINGS: dict[str, Coding] = {
    "minmax": Uniform(),
    "mse": Uniform(stepped=True),
    "lsq": Uniform(stepped=True, smallest=SMALLEST_STEP),
    "codebook": Codebook(),
}
"""By weight quantizer."""
