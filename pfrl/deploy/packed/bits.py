"""Whole numbers in as few bits as they need, and the places of the non-zeros among the zeros."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pfrl.deploy.packed.size import gap_width, unary_bits
from pfrl.files import FileError


class PackedError(FileError):
    """No packed file, a damaged one, or arrays that fit no encoding; the message says which."""


def pack(numbers: np.ndarray, bits: int) -> bytes:
    """Numbers below ``2^bits`` one after the other, lowest bit first, padded with zeros."""
    octets = numbers.astype(_container(bits)).reshape(-1, 1).view(np.uint8)
    if bits % 8 == 0:
        return octets[:, : bits // 8].tobytes()
    ones = np.unpackbits(octets, axis=1, count=bits, bitorder="little")
    return np.packbits(ones, bitorder="little").tobytes()


def unpack(data: bytes, bits: int, count: int) -> np.ndarray:
    """The ``count`` numbers that ``pack`` wrote, unsigned."""
    octets = np.frombuffer(data, np.uint8)
    if bits % 8 == 0:
        octets = octets.reshape(count, bits // 8)
    else:
        ones = np.unpackbits(octets, count=count * bits, bitorder="little")
        octets = np.packbits(ones.reshape(count, bits), axis=1, bitorder="little")
    whole = np.zeros((count, _container(bits).itemsize), np.uint8)
    whole[:, : octets.shape[1]] = octets
    return whole.view(_container(bits)).ravel()


def _container(bits: int) -> np.dtype:
    """The smallest unsigned type that has so many bits."""
    return np.dtype(f"<u{next(size for size in (1, 2, 4, 8) if bits <= 8 * size)}")


class Places(NamedTuple):
    """How it is stored which elements have a value.

    Attributes:
      write: ``(bool [elements]) -> bytes``.
      read: ``(bytes, elements, how many have a value) -> bool [elements]``.
    """

    write: Callable[[np.ndarray], bytes]
    read: Callable[[bytes, int, int], np.ndarray]


def _read_bitmap(data: bytes, elements: int, count: int) -> np.ndarray:
    present = unpack(data, 1, elements).astype(bool)
    _expect(int(present.sum()) == count)
    return present


def _write_gaps(present: np.ndarray) -> bytes:
    places = np.flatnonzero(present)
    width = gap_width(len(present), len(places))
    gaps = np.zeros(unary_bits(len(present), len(places)), np.uint8)
    gaps[(places >> width) + np.arange(len(places))] = 1
    low = _bits(pack(places & ((1 << width) - 1), width), width * len(places))
    return pack(np.concatenate([low, gaps]), 1)


def _read_gaps(data: bytes, elements: int, count: int) -> np.ndarray:
    width, length = gap_width(elements, count), unary_bits(elements, count)
    bits = _bits(data, width * count + length)
    ones = np.flatnonzero(bits[width * count :])
    _expect(len(ones) == count)
    low = unpack(pack(bits[: width * count], 1), width, count).astype(np.int64)
    places = ((ones - np.arange(count)) << width) | low
    _expect(bool((np.diff(places) > 0).all() and (places < elements).all()))
    present = np.zeros(elements, bool)
    present[places] = True
    return present


def _bits(data: bytes, count: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count, bitorder="little")


def _expect(sound: bool) -> None:
    if not sound:
        raise PackedError("the places of the non-zeros are damaged; fetch or make the file again")


PLACES = {
    "all": Places(lambda present: b"", lambda data, elements, count: np.ones(elements, bool)),
    "bitmap": Places(lambda present: pack(present, 1), _read_bitmap),
    "gaps": Places(_write_gaps, _read_gaps),
}
"""The ways to store places, by name; see ``PLACE_BYTES``."""
