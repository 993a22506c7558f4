"""An array as bytes: whole numbers of few bits, their scales or codebook, a bitmap of the zeros.

How many bytes it takes follows from its shape, its bits and the number of elements that stay,
so that a cost model knows it before there is an array.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from pfrl.files import FileError

_NAMES = "bfloat16 float16 float32 float64 bool int8 int16 int32 int64 uint8 uint16 uint32 uint64"
TYPES = {name: jnp.dtype(name) for name in _NAMES.split()}
"""The types of arrays that are stored as they are, by name."""
CODED_BITS = {"uniform": range(2, 9), "codebook": range(1, 9)}
"""The other formats, and the bits that their codes may have; decoded, they are float32."""


class PackedError(FileError):
    """No packed file, a damaged one, or an array that fits no format; the message says which."""


class Stored(NamedTuple):
    """How an array lies in the file, from which follow the bytes that it takes.

    Attributes:
      format: the name of a type for elements as they are; 'uniform' for integers ``q``
        (stored as ``q + 2^(bits-1)``) times a table of scales, one an index of the last
        axis; 'codebook' for indices into a table of values.
      shape: of the array.
      bits: of one element.
      table: shape of the scales or values, float32 before the elements; else ``(0,)``.
      bitmap: whether one bit an element says which stay; the others are left out, being zero.
      nonzeros: how many elements stay.
    """

    format: str
    shape: tuple[int, ...]
    bits: int
    table: tuple[int, ...]
    bitmap: bool
    nonzeros: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def parts(self) -> tuple[int, int, int]:
        """Bytes of the table, the bitmap and the elements, which follow one another."""
        count = self.nonzeros if self.bitmap else self.elements
        bitmap = self.elements if self.bitmap else 0
        return 4 * math.prod(self.table), -(-bitmap // 8), -(-count * self.bits // 8)

    @property
    def payload(self) -> int:
        """Bytes of the array in the file."""
        return sum(self.parts)


@lru_cache(maxsize=1 << 16)
def smallest(
    format: str,
    shape: tuple[int, ...],
    bits: int,
    table: tuple[int, ...],
    nonzeros: int,
    zeros_coded: bool = True,
) -> Stored:
    """The smallest way to store an array of which no more is known; of equal ones the simplest.

    Coded arrays that are smaller as float32, having hardly more elements than scales or
    values in their table, are stored so.

    Args:
      format, shape, bits, table, nonzeros: as of ``Stored``.
      zeros_coded: whether a code stands for zero; else zeros need the bitmap.
    """
    found = [
        Stored(format, shape, bits, table, bitmap, nonzeros)
        for bitmap in ((False, True) if zeros_coded else (True,))
    ]
    if format in CODED_BITS:
        floats = Stored("float32", shape, 32, (0,), False, nonzeros)
        found = [floats, floats._replace(bitmap=True), *found]
    return min(found, key=lambda stored: stored.payload)


def encode(stored: Stored, codes: np.ndarray, table: np.ndarray, stays: np.ndarray) -> bytes:
    """The ``payload`` bytes of an array.

    Args:
      stored: how it is to lie in the file.
      codes: of its shape; elements as they are, or the unsigned codes of a format.
      table: float32, the scales or values.
      stays: bool of its shape; the codes of all else are of zero, or left out by the bitmap.
    """
    codes, bitmap = np.ravel(codes), b""
    if stored.bitmap:
        bitmap, codes = to_bits(np.ravel(stays), 1), codes[np.ravel(stays)]
    elements = codes.tobytes() if stored.format in TYPES else to_bits(codes, stored.bits)
    return np.asarray(table, "<f4").tobytes() + bitmap + elements


def decode(stored: Stored, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """``(array, table)`` of what ``encode`` wrote; the array is float32 if it was coded.

    Raises:
      PackedError: if the bytes are no such array.
    """
    first, second, _ = stored.parts
    table = np.frombuffer(data[:first], "<f4").reshape(stored.table)
    stays = np.ones(stored.elements, bool)
    if stored.bitmap:
        stays = from_bits(data[first : first + second], 1, stored.elements).astype(bool)
        if stays.sum() != stored.nonzeros:
            raise PackedError("the bitmap of the zeros is damaged; fetch or make the file again")
    data, plain = data[first + second :], TYPES.get(stored.format)
    found = (
        from_bits(data, stored.bits, stays.sum()) if plain is None else np.frombuffer(data, plain)
    )
    if stored.format == "codebook" and (found >= len(table)).any():
        raise PackedError(f"an index is beyond the {len(table)} values of the codebook")
    whole = np.zeros(stored.elements, found.dtype)
    whole[stays] = found
    whole = whole.reshape(stored.shape)
    if plain is not None:
        return whole, table
    values = values_of(stored.format, whole, table, stored.bits)
    return np.where(stays.reshape(stored.shape), values, np.float32(0)), table


def values_of(format: str, codes: np.ndarray, table: np.ndarray, bits: int) -> np.ndarray:
    """The float32 values of codes with a table, of the formats 'uniform' and 'codebook'."""
    if format == "codebook":
        return table[codes]
    return (codes.astype(np.float32) - 2 ** (bits - 1)) * table


def to_bits(numbers: np.ndarray, bits: int) -> bytes:
    """Numbers below ``2^bits``, 8 bits at most, lowest bit first; padded with zeros."""
    octets = numbers.astype(np.uint8)[:, None]
    ones = np.unpackbits(octets, axis=1, count=bits, bitorder="little")
    return np.packbits(ones, bitorder="little").tobytes()


def from_bits(data: bytes, bits: int, count: int) -> np.ndarray:
    """The ``count`` numbers that ``to_bits`` wrote, uint8."""
    ones = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits, bitorder="little")
    return np.packbits(ones.reshape(count, bits), axis=1, bitorder="little").ravel()
