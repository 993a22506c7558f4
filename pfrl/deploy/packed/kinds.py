"""What a packed file can hold: arrays as they are, quantized integers, indices of a codebook.

All may say which elements stay; the others are zero and are left out where that is smaller.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pfrl.deploy.packed.bits import PackedError
from pfrl.deploy.packed.size import TYPES, WIDTHS


@dataclass(frozen=True, eq=False)
class Dense:
    """An array of a type in ``TYPES``; -0 becomes 0.

    Attributes:
      array: of any shape.
      stays: bool of its shape, the elements that have a value, or None for those that are
        not zero. With ``stays`` the size in the file follows from what was decided, not
        from which values happen to be zero.
    """

    array: Any
    stays: Any = None

    def __post_init__(self) -> None:
        name = np.asarray(self.array).dtype.name
        if name not in TYPES:
            raise PackedError(f"expected an array of {', '.join(TYPES)}; got one of {name}")
        _check_stays(self.stays, self.array)


@dataclass(frozen=True, eq=False)
class Uniform:
    """``ints · scale``.

    Attributes:
      ints: whole numbers from ``-2^(bits-1)`` to ``2^(bits-1) - 1``, of any shape.
      scale: float32 of a shape that fits the last axes of ``ints``: ``[O]`` for one an
        output channel.
      bits: 2 to 8.
      stays: as of ``Dense``.
    """

    ints: Any
    scale: Any
    bits: int
    stays: Any = None

    def __post_init__(self) -> None:
        _check_bits("uniform", self.bits)
        _check_whole(self.ints, -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1)
        if not fits(np.shape(self.scale), np.shape(self.ints)):
            raise PackedError(
                f"a scale of shape {np.shape(self.scale)} does not fit integers of shape"
                f" {np.shape(self.ints)}; expected one scale, or one an output channel"
            )
        _check_stays(self.stays, self.ints)


@dataclass(frozen=True, eq=False)
class Codebook:
    """``centers[indices]``.

    Attributes:
      indices: whole numbers, of any shape.
      centers: float32 ``[entries]``, at most ``2^bits``.
      bits: of an index, 1 to 8.
      stays: as of ``Dense``. What does not stay is zero and needs no center that is: all
        of them are left for the other elements.
    """

    indices: Any
    centers: Any
    bits: int
    stays: Any = None

    def __post_init__(self) -> None:
        _check_bits("codebook", self.bits)
        entries = np.shape(self.centers)
        if len(entries) != 1 or not 1 <= entries[0] <= 2**self.bits:
            raise PackedError(
                f"expected 1 to {2**self.bits} centers on one axis, as their indices have"
                f" {self.bits} bits; got the shape {entries}"
            )
        _check_whole(self.indices, 0, entries[0] - 1)
        _check_stays(self.stays, self.indices)


Array = Dense | Uniform | Codebook


def fits(table: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a table of scales broadcasts to a shape."""
    ends = zip(reversed(table), reversed(shape), strict=False)
    return len(table) <= len(shape) and all(mine in (1, size) for mine, size in ends)


class Coded(NamedTuple):
    """An array as whole numbers.

    Attributes:
      kind: the name of a type, 'uniform' or 'codebook'.
      shape: of the array.
      bits: of a code.
      table: the scales or centers, float32; ``[0]`` for others.
      codes: unsigned ``[elements]``.
      present: bool ``[elements]``, what has a value; all else is zero.
      zeros_coded: whether the codes of all else stand for zero.
    """

    kind: str
    shape: tuple[int, ...]
    bits: int
    table: np.ndarray
    codes: np.ndarray
    present: np.ndarray
    zeros_coded: bool


def coded(array: Array) -> Coded:
    """An array's codes, by its kind."""
    match array:
        case Dense():
            return _coded_floats(floats_of(array), present_in(array))
        case Uniform(ints, scale, bits):
            present = present_in(array)
            kept = np.where(present, np.ravel(ints), 0)
            codes = (kept.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
            table = np.asarray(scale, "<f4")
            return Coded("uniform", np.shape(ints), bits, table, codes, present, True)
        case Codebook(indices, centers, bits):
            table, present = np.asarray(centers, "<f4"), present_in(array)
            codes = np.ravel(indices).astype(np.uint8)
            zeros_coded = array.stays is None or bool(present.all())
            return Coded("codebook", np.shape(indices), bits, table, codes, present, zeros_coded)


def coded_as_floats(array: Array) -> Coded:
    """The codes of the float32 values of an array, with the same elements present."""
    return _coded_floats(floats_of(array), present_in(array))


def _coded_floats(values: np.ndarray, present: np.ndarray) -> Coded:
    """Of an array as it is, the bits of its elements."""
    codes = np.ascontiguousarray(values).reshape(-1).view(f"u{values.itemsize}")
    bits, none = 8 * values.itemsize, np.zeros(0, "<f4")
    return Coded(values.dtype.name, values.shape, bits, none, codes, present, True)


def present_in(array: Array) -> np.ndarray:
    """bool ``[elements]``: what stays, or is not zero."""
    if array.stays is not None:
        return np.ravel(array.stays).astype(bool)
    match array:
        case Dense(values) | Uniform(values):
            return np.ravel(np.asarray(values)) != 0
        case Codebook(indices, centers):
            return np.ravel(np.asarray(centers, np.float32)[np.asarray(indices)]) != 0


def floats_of(array: Array) -> np.ndarray:
    """The array's values, as they are read again: of its own type, or float32 if quantized."""
    match array:
        case Dense(values):
            values = np.asarray(values)
        case Uniform(ints, scale):
            values = np.asarray(ints, np.float32) * np.asarray(scale, np.float32)
        case Codebook(indices, centers):
            values = np.asarray(centers, np.float32)[np.asarray(indices)]
    present = present_in(array).reshape(values.shape)
    return np.where(present & (values != 0), values, np.zeros((), values.dtype))


def decoded(
    kind: str,
    shape: tuple[int, ...],
    bits: int,
    table: np.ndarray,
    codes: np.ndarray,
    present: np.ndarray,
) -> np.ndarray:
    """The values ``[...]`` of the codes of what is present.

    Raises:
      PackedError: if a code is of no center.
    """
    if kind == "codebook" and (codes >= len(table)).any():
        raise PackedError(f"an index is beyond the {len(table)} centers; make the file again")
    values = np.zeros(math.prod(shape), TYPES.get(kind, TYPES["float32"]))
    match kind:
        case "uniform":
            values[present] = codes.astype(np.float32) - 2 ** (bits - 1)
            return values.reshape(shape) * table
        case "codebook":
            values[present] = table[codes]
        case _:
            values[present] = codes.view(values.dtype)
    return values.reshape(shape)


def _check_bits(kind: str, bits: int) -> None:
    if bits not in WIDTHS[kind]:
        widths = WIDTHS[kind]
        raise PackedError(f"expected {widths[0]} to {widths[-1]} bits of a {kind}, got {bits}")


def _check_whole(numbers: Any, least: int, most: int) -> None:
    numbers = np.asarray(numbers)
    if numbers.dtype.kind not in "iu":
        raise PackedError(f"expected whole numbers, got an array of {numbers.dtype.name}")
    if numbers.size and not (least <= numbers.min() and numbers.max() <= most):
        got = f"{numbers.min()} to {numbers.max()}"
        raise PackedError(f"expected whole numbers from {least} to {most}, got {got}")


def _check_stays(stays: Any, values: Any) -> None:
    if stays is not None and np.shape(stays) != np.shape(values):
        raise PackedError(
            f"what stays has shape {np.shape(stays)}; expected the array's, {np.shape(values)}"
        )
