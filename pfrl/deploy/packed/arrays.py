"""Arrays as bytes, each in the smallest of the encodings that hold it (``predict``)."""

import numpy as np

from pfrl.deploy.packed.bits import PLACES, PackedError, pack, unpack
from pfrl.deploy.packed.kinds import Array, Coded, coded, coded_as_floats, decoded
from pfrl.deploy.packed.size import WIDTHS, Stored, predict
from pfrl.methods.quantization.huffman import HuffmanError, code_lengths, decode, encode


def payload_bytes(array: Array) -> int:
    """Bytes of an array in the file, without Huffman coding.

    An exact function of its shape, its bits, the number of elements that stay (or are not
    zero) and the number of scales or centers.
    """
    return _predicted(coded(array)).payload


def store(array: Array, huffman: bool = False) -> tuple[Stored, bytes]:
    """An array's smallest encoding, and the bytes.

    Args:
      array: see ``Array``.
      huffman: whether integers and indices may be Huffman-coded where that is smaller.
        Then the size depends on how often each occurs, and is at most what is predicted.
    """
    own = coded(array)
    found = [_predicted(own)]
    if huffman and own.kind in WIDTHS:
        found += [
            _described(own)._replace(places=places, huffman=len(_huffman(own, places)))
            for places in PLACES
            if own.zeros_coded or places != "all"
        ]
    stored = min(found, key=lambda each: each.payload)
    if stored.kind != own.kind:
        own = coded_as_floats(array)
    places = PLACES[stored.places].write(own.present)
    if stored.huffman:
        values = _huffman(own, stored.places)
    else:
        values = pack(_stored_codes(own, stored.places), stored.bits)
    return stored, own.table.tobytes() + places + values


def restore(stored: Stored, data: bytes) -> np.ndarray:
    """The array that ``store`` wrote: of its type, or float32 if it was quantized.

    Args:
      stored: of which ``data`` has the ``payload``.

    Raises:
      PackedError: if the bytes are no such array.
    """
    first, second, _ = stored.parts
    table = table_of(stored, data)
    places, values = data[first : first + second], data[first + second :]
    present = PLACES[stored.places].read(places, stored.elements, stored.values)
    if stored.huffman:
        codes = _read_huffman(values, stored.bits, stored.values)
    else:
        codes = unpack(values, stored.bits, stored.values)
    return decoded(stored.kind, stored.shape, stored.bits, table, codes, present)


def table_of(stored: Stored, data: bytes) -> np.ndarray:
    """The scales or centers of the array that ``store`` wrote; of others nothing."""
    return np.frombuffer(data[: stored.parts[0]], "<f4").reshape(stored.table)


def _described(own: Coded) -> Stored:
    count = int(own.present.sum())
    return Stored(own.kind, own.shape, own.bits, own.table.shape, "all", count)


def _predicted(own: Coded) -> Stored:
    at = _described(own)
    return predict(at.kind, at.shape, at.bits, at.table, at.nonzeros, own.zeros_coded)


def _stored_codes(own: Coded, places: str) -> np.ndarray:
    return own.codes if places == "all" else own.codes[own.present]


def _huffman(own: Coded, places: str) -> bytes:
    """The length of every code in one byte each, and the encoded codes."""
    codes = _stored_codes(own, places)
    lengths = code_lengths(np.bincount(codes, minlength=2**own.bits))
    return lengths.tobytes() + encode(codes, lengths)


def _read_huffman(data: bytes, bits: int, count: int) -> np.ndarray:
    try:
        return decode(data[2**bits :], np.frombuffer(data[: 2**bits], np.uint8), count)
    except HuffmanError as error:
        raise PackedError(f"the Huffman-coded values are damaged: {error}") from error
