"""Canonical Huffman code of whole numbers from 0 to 255: the indices of a codebook, say.

Frequent symbols get short codes (Huffman 1952; of codebook indices Han et al. 2016,
arXiv 1510.00149, section 4). The code is canonical: of two codes the longer one is
the larger one, and equally long ones are in the order of their symbols, so that the
lengths alone tell the code.
"""

import heapq
from typing import NamedTuple

import numpy as np

SYMBOLS = 256
LONGEST = 57
"""Bits of the longest code that is read; one longer needs some 10¹² symbols."""
BLOCK = 1 << 17
"""Symbols or bytes that are worked on at once, which bounds the memory."""


class HuffmanError(ValueError):
    """Symbols, lengths or data that fit no Huffman code; the message says why."""


class _Code(NamedTuple):
    """The symbols that have a code, in the order of their codes.

    Attributes:
      symbols: uint8 ``[S]``.
      lengths: int64 ``[S]``, bits of each code, which never fall.
      starts: uint64 ``[S]``, each code followed by zeros up to the ``longest``.
      longest: bits of the longest code.
    """

    symbols: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray
    longest: int


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Bits of every symbol's code, such that the encoded symbols take as few as possible.

    Args:
      counts: how often each symbol occurs, whole numbers ``[S]``, ``S`` at most 256.

    Returns:
      uint8 ``[S]``: 0 for what does not occur, 1 for the only symbol that does.

    Raises:
      HuffmanError: if ``counts`` are no such numbers.
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or len(counts) > SYMBOLS or (counts < 0).any():
        raise HuffmanError(
            f"expected counts from 0 of at most {SYMBOLS} symbols in one axis,"
            f" got an array of shape {counts.shape}"
        )
    lengths = np.zeros(len(counts), np.uint8)
    # The second entry decides between equal counts, so that the code is always the same.
    trees = [(int(counts[s]), int(s), [int(s)]) for s in np.flatnonzero(counts)]
    if len(trees) == 1:
        lengths[trees[0][2]] = 1
    heapq.heapify(trees)
    while len(trees) > 1:
        first, order, left = heapq.heappop(trees)
        second, _, right = heapq.heappop(trees)
        lengths[left + right] += 1
        heapq.heappush(trees, (first + second, order, left + right))
    return lengths


def encoded_bits(counts: np.ndarray) -> int:
    """Bits that symbols which occur so often take, without the padding to whole bytes."""
    lengths = code_lengths(counts)
    return sum(int(n) * int(bits) for n, bits in zip(counts, lengths, strict=True))


def encode(symbols: np.ndarray, lengths: np.ndarray) -> bytes:
    """Symbols one after the other, first bit first, padded with zeros to whole bytes.

    Args:
      symbols: whole numbers from 0 to 255, of any shape, in C order.
      lengths: of ``code_lengths``.

    Raises:
      HuffmanError: if a symbol has no code, or ``lengths`` are of no Huffman code.
    """
    code, symbols = _canonical(lengths), np.asarray(symbols).ravel()
    place = np.full(SYMBOLS, -1)
    place[code.symbols] = np.arange(len(code.symbols))
    known = (symbols >= 0) & (symbols < SYMBOLS)
    known[known] = place[symbols[known]] >= 0
    if not known.all():
        raise HuffmanError(
            f"symbol {symbols[~known][0]} has no code; make the lengths of counts that hold it"
        )
    shifts = np.arange(code.longest)[::-1].astype(np.uint64)
    bits = (code.starts[:, None] >> shifts).astype(np.uint8) & 1
    used = np.arange(code.longest) < code.lengths[:, None]
    blocks: list[np.ndarray] = [np.zeros(0, np.uint8)]
    for start in range(0, len(symbols), BLOCK):
        rows = place[symbols[start : start + BLOCK]]
        blocks.append(bits[rows][used[rows]])
    return np.packbits(np.concatenate(blocks)).tobytes()


def decode(data: bytes, lengths: np.ndarray, count: int) -> np.ndarray:
    """The symbols that ``encode`` wrote, uint8 ``[count]``.

    What a code at each bit would be is looked up for all bits at once; only the
    way from one code to the next is walked.

    Raises:
      HuffmanError: if ``lengths`` are of no Huffman code, or ``data`` is no encoding
        of ``count`` symbols with it: too short, too long or damaged.
    """
    code = _canonical(lengths)
    symbols, position = [np.zeros(0, np.uint8)], 0
    missing = count
    for first in range(0, len(data), BLOCK):
        if missing == 0 or not code.longest:
            break
        windows = _windows(data, first, code.longest)
        found = np.searchsorted(code.starts, windows, side="right") - 1
        visited, position = _walk(code.lengths[found], position - 8 * first, missing)
        symbols.append(code.symbols[found[visited]])
        if len(code.symbols) == 1 and windows[visited].any():
            raise HuffmanError("expected zero bits alone, as there is but one symbol; got a one")
        missing -= len(visited)
        position += 8 * first
    if missing or -(-position // 8) != len(data) or _tail(data, position):
        raise HuffmanError(
            f"{len(data)} bytes are no encoding of {count} symbols: they are damaged, or belong to"
            " another code"
        )
    return np.concatenate(symbols)


def _canonical(lengths: np.ndarray) -> _Code:
    """The code with these lengths, checked."""
    lengths = np.asarray(lengths).astype(np.int64)
    if lengths.ndim != 1 or len(lengths) > SYMBOLS or ((lengths < 0) | (lengths > LONGEST)).any():
        raise HuffmanError(
            f"expected lengths from 0 to {LONGEST} of at most {SYMBOLS} symbols in one axis"
        )
    order = np.argsort(lengths, kind="stable")
    symbols = order[lengths[order] > 0]
    lengths = lengths[symbols]
    longest = int(lengths.max(initial=0))
    shares = [1 << (longest - int(length)) for length in lengths]
    # Only a lone symbol leaves codes unused: it has one bit, and nothing to tell it from.
    if len(symbols) and lengths.tolist() != [1] and sum(shares) != 1 << longest:
        raise HuffmanError(
            "the lengths belong to no Huffman code: their codes overlap or leave some unused"
        )
    starts = np.cumsum([0, *shares], dtype=np.uint64)[:-1]
    return _Code(symbols.astype(np.uint8), lengths, starts, longest)


def _windows(data: bytes, first: int, longest: int) -> np.ndarray:
    """uint64: the next ``longest`` bits from each bit of a block of bytes; zeros follow the end."""
    block = np.frombuffer(data[first : first + BLOCK + 7] + bytes(7), np.uint8)
    size = min(BLOCK, len(data) - first)
    words = np.zeros(size, np.uint64)
    for offset in range(8):
        words = words << np.uint64(8) | block[offset : offset + size].astype(np.uint64)
    shifted = words[:, None] << np.arange(8, dtype=np.uint64)
    return (shifted >> np.uint64(64 - longest)).ravel()


def _walk(steps: np.ndarray, position: int, most: int) -> tuple[list[int], int]:
    """The places of at most ``most`` steps from ``position`` on, and the place after the last."""
    after = (np.arange(len(steps)) + steps).tolist()
    visited: list[int] = []
    while position < len(after) and len(visited) < most:
        visited.append(position)
        position = after[position]
    return visited, position


def _tail(data: bytes, position: int) -> int:
    """The bits from ``position`` to the end of its byte, as a number."""
    return data[-1] & ((1 << -position % 8) - 1) if data else 0
