"""The packed file: a compressed network's arrays on disk, as small as their encodings are.

A preamble of 20 bytes (magic, version, length of the header, CRC-32 of all that follows),
a JSON header, and the payloads of the arrays in the header's order. Integers are little-endian.
"""

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pfrl.deploy.packed.arrays import payload_bytes, restore, store, table_of
from pfrl.deploy.packed.bits import PackedError
from pfrl.deploy.packed.kinds import Array, Codebook, Dense, Uniform, fits
from pfrl.deploy.packed.size import PLACE_BYTES, TYPES, WIDTHS, Stored, predict
from pfrl.files import write_whole

__all__ = [
    "Array",
    "Codebook",
    "Dense",
    "PackedError",
    "Restored",
    "Sizes",
    "Stored",
    "Uniform",
    "payload_bytes",
    "predict",
    "read_packed",
    "read_restored",
    "sizes_of",
    "write_packed",
]

MAGIC = b"PFRLPACK"
VERSION = 1
PREAMBLE = struct.Struct("<8sIII")
LIMIT = 4 << 30
"""Bytes of arrays that are read without being asked for more: zeros take no room in a file."""
LARGEST = 2**40
"""Of any number in a row of the header."""
REMARK = (
    "These are bytes of storage and transfer. Runtimes with dense kernels unpack the arrays and"
    " multiply by the zeros too: sparsity and codebooks make the file smaller, not the network"
    " faster."
)


@dataclass(frozen=True)
class Sizes:
    """What the arrays of a file take.

    Attributes:
      arrays: how each one is stored, by name.
      header: bytes before the payloads.
    """

    arrays: Mapping[str, Stored]
    header: int

    @property
    def dense(self) -> int:
        """Bytes of the arrays when they are read."""
        return sum(stored.dense for stored in self.arrays.values())

    @property
    def payload(self) -> int:
        """Bytes of the arrays in the file."""
        return sum(stored.payload for stored in self.arrays.values())

    @property
    def file(self) -> int:
        """Bytes of the file."""
        return self.header + self.payload

    def table(self) -> str:
        """Markdown: a row an array and the totals, and what smaller files do not do."""
        rows = ["| array | encoding | non-zeros | dense bytes | stored bytes |"]
        rows.append("| --- | --- | ---: | ---: | ---: |")
        for name, stored in self.arrays.items():
            share = f"{stored.nonzeros:,} of {stored.elements:,}"
            sizes = f"{stored.dense:,} | {stored.payload:,}"
            rows.append(f"| {name} | {stored.encoding} | {share} | {sizes} |")
        rows.append(f"| header | | | | {self.header:,} |")
        rows.append(f"| file | | | {self.dense:,} | {self.file:,} |")
        return "\n".join([*rows, "", REMARK])


def sizes_of(arrays: Mapping[str, Stored], meta: Mapping[str, Any]) -> Sizes:
    """The sizes of a file with arrays stored like this, of ``predict`` say, without writing it."""
    return Sizes(dict(arrays), PREAMBLE.size + len(_header(arrays, meta)))


def write_packed(
    path: Path, arrays: Mapping[str, Array], meta: Mapping[str, Any], huffman: bool = False
) -> Sizes:
    """Write arrays by name, each in its smallest encoding, and JSON-able ``meta``.

    Args:
      path: where the file appears when it is whole.
      arrays: see ``Dense``, ``Uniform`` and ``Codebook``.
      meta: anything else that belongs to them.
      huffman: whether integers and indices may be Huffman-coded where that is smaller.

    Raises:
      PackedError: if ``meta`` is no JSON.
      FileError: if the file cannot be written.
    """
    stored = {name: store(array, huffman) for name, array in arrays.items()}
    sizes = {name: how for name, (how, _) in stored.items()}
    try:
        header = _header(sizes, meta)
    except (TypeError, ValueError) as error:
        raise PackedError(f"expected meta of plain JSON values: {error}") from error
    content = header + b"".join(payload for _, payload in stored.values())
    preamble = PREAMBLE.pack(MAGIC, VERSION, len(header), zlib.crc32(content))
    write_whole(Path(path), lambda stream: stream.write(preamble + content))
    return sizes_of(sizes, meta)


class Restored(NamedTuple):
    """An array that was read.

    Attributes:
      stored: how it lay in the file.
      array: its values; float32 if it was quantized.
      table: its scales or centers; ``[0]`` of an array as it is.
    """

    stored: Stored
    array: np.ndarray
    table: np.ndarray


def read_packed(path: Path, limit: int = LIMIT) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """``(arrays by name, meta)``; what was quantized is float32 again. See ``read_restored``."""
    found, meta = read_restored(path, limit)
    return {name: restored.array for name, restored in found.items()}, meta


def read_restored(path: Path, limit: int = LIMIT) -> tuple[dict[str, Restored], dict[str, Any]]:
    """``(arrays by name with what they were made of, meta)``.

    Args:
      path: of a file that ``write_packed`` wrote.
      limit: bytes that the arrays may have together.

    Raises:
      PackedError: if the file is missing, of another origin, of a newer version or
        damaged, or if its arrays are larger than the limit. Nothing in it is executed.
    """
    path = Path(path)
    content, length = _read_content(path)
    try:
        header = json.loads(content[:length])
        rows, meta = dict(header["arrays"]), dict(header["meta"])
        arrays = {str(name): _stored(row) for name, row in rows.items()}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise PackedError(f"the header of {path} is damaged ({error}); make it again") from error
    sizes = Sizes(arrays, length)
    if sizes.dense > limit:
        raise PackedError(
            f"the arrays of {path} have {sizes.dense:,} bytes and the limit is {limit:,};"
            " give a higher one if you trust the file"
        )
    if sizes.payload != len(content) - length:
        raise PackedError(
            f"{path} has {len(content) - length:,} bytes of arrays, and its header describes"
            f" {sizes.payload:,}; make it again"
        )
    found, start = {}, length
    for name, stored in arrays.items():
        try:
            data = content[start : start + stored.payload]
            found[name] = Restored(stored, restore(stored, data), table_of(stored, data))
        except ValueError as error:  # of shapes that are too large for NumPy, too
            raise PackedError(f"'{name}' in {path} cannot be read: {error}") from error
        start += stored.payload
    return found, meta


def _header(arrays: Mapping[str, Stored], meta: Mapping[str, Any]) -> bytes:
    rows = {name: _row(stored) for name, stored in arrays.items()}
    value = {"arrays": rows, "meta": dict(meta)}
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _read_content(path: Path) -> tuple[bytes, int]:
    """What follows the preamble, unharmed, and how much of it is the header."""
    if not path.is_file():
        raise PackedError(f"no file {path}; expected one that write_packed wrote")
    with path.open("rb") as stream:
        preamble = stream.read(PREAMBLE.size)
        if not preamble.startswith(MAGIC):
            raise PackedError(f"{path} is no packed file; expected one that write_packed wrote")
        if len(preamble) < PREAMBLE.size:
            raise PackedError(f"{path} ends within its preamble; fetch or make it again")
        _, version, length, checksum = PREAMBLE.unpack(preamble)
        if version != VERSION:
            raise PackedError(
                f"{path} is of format version {version}, expected {VERSION}; read it with the"
                " version of pfrl that wrote it, or make it again"
            )
        content = stream.read()
    if length > len(content) or zlib.crc32(content) != checksum:
        raise PackedError(f"{path} is cut off or damaged; fetch or make it again")
    return content, length


def _plain(kind: str, shape: Sequence[int]) -> Stored:
    """An array as it is."""
    bits = 8 * TYPES[kind].itemsize
    return Stored(kind, tuple(shape), bits, (0,), "all", math.prod(shape))


def _row(stored: Stored) -> list[Any]:
    """A row of the header: kind and shape say all of an array as it is."""
    kind, shape = stored[:2]
    return [kind, shape] if kind in TYPES and stored == _plain(kind, shape) else list(stored)


def _stored(row: Any) -> Stored:
    """A row of the header, checked: nothing is made of it that does not fit together."""
    kind, shape, bits, table, places, nonzeros, huffman = _plain(*row) if len(row) == 2 else row
    stored = Stored(kind, tuple(shape), bits, tuple(table), places, nonzeros, huffman)
    numbers = (*stored.shape, bits, *stored.table, nonzeros, huffman)
    if not all(type(number) is int and 0 <= number <= LARGEST for number in numbers):
        raise PackedError(f"expected whole numbers from 0 to {LARGEST}, got {numbers}")
    match kind:
        case "uniform":
            sound = bits in WIDTHS[kind] and fits(stored.table, stored.shape)
        case "codebook":
            sound = bits in WIDTHS[kind] and 1 <= math.prod(table) <= 2**bits and len(table) == 1
        case _:
            sound = bits == 8 * TYPES[kind].itemsize and stored.table == (0,) and not huffman
    if not sound or places not in PLACE_BYTES or nonzeros > stored.elements:
        raise PackedError(f"no array is stored as {row}")
    return stored
