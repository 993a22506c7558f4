"""How many bytes an array takes in a packed file: of the smallest of the encodings that hold it.

What an array takes follows from its shape, its bits and the number of elements that have a
value, so that a cost model knows it before there is an array. ``pfrl.deploy.packed.file`` writes
the files.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

TYPES = {
    np.dtype(each).name: np.dtype(each)
    for each in (
        *(jnp.bfloat16, np.float16, np.float32, np.float64, np.bool_),
        *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    )
}
"""The types of arrays that are stored as they are, by name."""
WIDTHS = {"uniform": range(2, 9), "codebook": range(1, 9)}
"""The other kinds, and the bits that their values may have; read, they are float32."""


def packed_bytes(count: int, bits: int) -> int:
    """Size of so many numbers of so many bits, padded to whole bytes."""
    return -(-count * bits // 8)


def gap_width(elements: int, count: int) -> int:
    """Bits of the low parts of ``count`` places among ``elements``; see ``PLACE_BYTES``.

    One more costs ``count`` bits and halves the steps of the unary part, rounding down: worth
    it as long as there are more than ``2 · count`` of them.
    """
    return (max(elements - 1, 0) // (2 * count + 1)).bit_length() if count else 0


def unary_bits(elements: int, count: int) -> int:
    """Bits of the gaps between the high parts of places."""
    return count + (max(elements - 1, 0) >> gap_width(elements, count)) if count else 0


PLACE_BYTES: dict[str, Callable[[int, int], int]] = {
    "all": lambda elements, count: 0,
    "bitmap": lambda elements, count: packed_bytes(elements, 1),
    "gaps": lambda elements, count: packed_bytes(
        count * gap_width(elements, count) + unary_bits(elements, count), 1
    ),
}
"""What it takes to say which elements have a value, ``(elements, how many) -> bytes``, by way.

- 'all': every element has a value, and nothing is stored.
- 'bitmap': one bit an element.
- 'gaps': ascending places in two parts, the lowest ``gap_width`` bits of each as they are
  and the gaps between the rest in unary, ``1`` for a place and ``0`` for a step (Elias
  1974, Fano 1971; Vigna 2013, arXiv 1206.4300). About ``2 + log₂(elements / places)`` bits
  a place: less than a bitmap if fewer than a quarter of the elements have a value. Unlike
  with plain gaps of a fixed width, the size depends on the number of places alone.
"""


class Stored(NamedTuple):
    """How an array lies in the file, from which follow the bytes that it takes.

    Attributes:
      kind: the name of a type, 'uniform' or 'codebook'.
      shape: of the array.
      bits: of one value.
      table: shape of the scales or centers, float32 before the values; else ``(0,)``.
      places: a name in ``PLACE_BYTES``; all but 'all' leave the zeros out.
      nonzeros: how many elements are not zero, or were said to stay.
      huffman: bytes of the values if they are Huffman-coded, else 0.
    """

    kind: str
    shape: tuple[int, ...]
    bits: int
    table: tuple[int, ...]
    places: str
    nonzeros: int
    huffman: int = 0

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def values(self) -> int:
        """How many values are stored."""
        return self.elements if self.places == "all" else self.nonzeros

    @property
    def dense(self) -> int:
        """Bytes of the array when it is read."""
        return self.elements * TYPES.get(self.kind, TYPES["float32"]).itemsize

    @property
    def parts(self) -> tuple[int, int, int]:
        """Bytes of the table, the places and the values, which follow one another."""
        places = PLACE_BYTES[self.places](self.elements, self.values)
        values = self.huffman or packed_bytes(self.values, self.bits)
        return 4 * math.prod(self.table), places, values

    @property
    def payload(self) -> int:
        """Bytes of the array in the file."""
        return sum(self.parts)

    @property
    def encoding(self) -> str:
        """In words, for reports."""
        kind = self.kind if self.kind in TYPES else f"{self.kind}, {self.bits} bits"
        places = "" if self.places == "all" else f", {self.places}"
        return kind + places + (", Huffman" if self.huffman else "")


@lru_cache(maxsize=1 << 16)
def predict(
    kind: str,
    shape: tuple[int, ...],
    bits: int,
    table: tuple[int, ...],
    nonzeros: int,
    zeros_coded: bool = True,
) -> Stored:
    """The smallest way to store an array of which no more is known; of equal ones the simplest.

    Quantized arrays that are smaller as float32, having hardly more values than scales or
    centers, are stored so. So fewer bits, elements or non-zeros never take more bytes.

    Args:
      kind, shape, bits, table, nonzeros: as of ``Stored``.
      zeros_coded: whether zero has a code: not in a codebook of other values alone.
    """
    whole = Stored(kind, shape, bits, table, "all", nonzeros)
    ways = [way for way in PLACE_BYTES if zeros_coded or way != "all"]
    found = [whole._replace(places=way) for way in ways]
    if kind in WIDTHS:
        floats = whole._replace(kind="float32", bits=32, table=(0,))
        found = [floats._replace(places=way) for way in PLACE_BYTES] + found
    return min(found, key=lambda stored: stored.payload)
