"""The packed file: named arrays on disk, each in its smallest encoding.

A preamble of 20 bytes (magic, version, length of the header, CRC-32 of all that follows),
a JSON header, and the payloads of the arrays in the header's order. Integers are little-endian.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pfrl.deploy.packed.encoding import CODED_BITS, TYPES, PackedError, Stored, decode
from pfrl.files import write_whole

MAGIC = b"PFRLPACK"
VERSION = 2
PREAMBLE = struct.Struct("<8sIII")
LARGEST = 2**40
"""Of any number in a row of the header."""


class Sizes(NamedTuple):
    """What the arrays of a file take.

    Attributes:
      arrays: how each one is stored, by name.
      header: bytes before the payloads.
    """

    arrays: Mapping[str, Stored]
    header: int

    @property
    def payload(self) -> int:
        """Bytes of the arrays in the file."""
        return sum(stored.payload for stored in self.arrays.values())

    @property
    def file(self) -> int:
        """Bytes of the file."""
        return self.header + self.payload


def write_packed(
    path: Path, arrays: Mapping[str, tuple[Stored, bytes]], meta: Mapping[str, Any]
) -> Sizes:
    """Write arrays by name, as ``encode`` made them, and JSON-able ``meta``.

    Raises:
      PackedError: if ``meta`` is no JSON.
      FileError: if the file cannot be written; it appears when it is whole.
    """
    stored = {name: how for name, (how, _) in arrays.items()}
    value = {"arrays": stored, "meta": dict(meta)}
    try:
        header = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise PackedError(f"expected meta of plain JSON values: {error}") from error
    content = header + b"".join(payload for _, payload in arrays.values())
    preamble = PREAMBLE.pack(MAGIC, VERSION, len(header), zlib.crc32(content))
    write_whole(path, lambda stream: stream.write(preamble + content))
    return Sizes(stored, PREAMBLE.size + len(header))


def read_packed(path: Path) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, Any]]:
    """``(arrays by name, meta)`` of a file that ``write_packed`` wrote; arrays with their tables.

    No array has more than 64 times the bytes that the file has for it.

    Raises:
      PackedError: if the file is missing, of another origin, of a newer version or
        damaged. Nothing in it is executed.
    """
    content, start = _read_content(path)
    try:
        header = json.loads(content[:start])
        rows, meta = dict(header["arrays"]), dict(header["meta"])
        arrays = {str(name): _checked(row) for name, row in rows.items()}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise PackedError(f"the header of {path} is damaged ({error}); make it again") from error
    sizes = Sizes(arrays, start)
    if sizes.file != len(content):
        raise PackedError(
            f"{path} has {len(content) - start:,} bytes of arrays, and its header describes"
            f" {sizes.payload:,}; make it again"
        )
    found = {}
    for name, stored in arrays.items():
        try:
            found[name] = decode(stored, content[start : start + stored.payload])
        except ValueError as error:  # of shapes that are too large for NumPy, too
            raise PackedError(f"'{name}' in {path} cannot be read: {error}") from error
        start += stored.payload
    return found, meta


def _read_content(path: Path) -> tuple[bytes, int]:
    """What follows the preamble, unharmed, and how much of it is the header."""
    if not path.is_file():
        raise PackedError(f"no file {path}; expected one that write_packed wrote")
    content = path.read_bytes()
    if not content.startswith(MAGIC) or len(content) < PREAMBLE.size:
        raise PackedError(f"{path} is no packed file; expected one that write_packed wrote")
    _, version, length, checksum = PREAMBLE.unpack(content[: PREAMBLE.size])
    if version != VERSION:
        raise PackedError(
            f"{path} is of format version {version}, expected {VERSION}; read it with the"
            " version of pfrl that wrote it, or make it again"
        )
    content = content[PREAMBLE.size :]
    if length > len(content) or zlib.crc32(content) != checksum:
        raise PackedError(f"{path} is cut off or damaged; fetch or make it again")
    return content, length


def _checked(row: Any) -> Stored:
    """What a row of the header says: nothing is made of it that does not fit together."""
    format, shape, bits, table, bitmap, nonzeros = row
    stored = Stored(format, tuple(shape), bits, tuple(table), bitmap, nonzeros)
    numbers = (*stored.shape, bits, *stored.table, nonzeros)
    if not all(type(number) is int and 0 <= number <= LARGEST for number in numbers):
        raise PackedError(f"expected whole numbers from 0 to {LARGEST}, got {numbers}")
    if format not in CODED_BITS:
        sound = stored.table == (0,) and bits == 8 * TYPES[format].itemsize
    elif format == "uniform":
        sound = bits in CODED_BITS[format] and stored.table == stored.shape[-1:]
    else:  # 2**bits of any bits would take all memory
        sound = bits in CODED_BITS[format] and stored.table in [(n + 1,) for n in range(2**bits)]
    if not sound or nonzeros > stored.elements or type(bitmap) is not bool:
        raise PackedError(f"no array is stored as {row}")
    return stored
