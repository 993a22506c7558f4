"""The packed file: sizes worked out by hand, arrays that come back, files that are damaged."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfrl.deploy.packed.encoding import (
    TYPES,
    PackedError,
    Stored,
    decode,
    encode,
    from_bits,
    smallest,
    to_bits,
    values_of,
)
from pfrl.deploy.packed.file import MAGIC, PREAMBLE, VERSION, read_packed, write_packed
from pfrl.files import FileError

NONE = np.zeros(0, np.float32)


def test_numbers_of_three_bits_by_hand():
    # 1, 2, 3, 4, 5, lowest bit first: 100 010 11|0 001 101, so 1+16+64+128 and 8+16+64.
    assert to_bits(np.array([1, 2, 3, 4, 5]), 3) == bytes([209, 88])
    assert from_bits(bytes([209, 88]), 3, 5).tolist() == [1, 2, 3, 4, 5]
    assert to_bits(np.array([2, 255]), 8) == bytes([2, 255])


@given(st.integers(1, 8), st.lists(st.integers(0, 255), max_size=20))
def test_numbers_of_any_width_come_back(bits, numbers):
    numbers = np.array([number & ((1 << bits) - 1) for number in numbers], np.uint8)
    data = to_bits(numbers, bits)
    assert len(data) == -(-len(numbers) * bits // 8)
    np.testing.assert_array_equal(from_bits(data, bits, len(numbers)), numbers)


@pytest.mark.parametrize(
    ("asked", "payload", "format", "bitmap"),
    [
        (("float32", (10,), 32, (0,), 10), 40, "float32", False),
        (("float32", (), 32, (0,), 1), 4, "float32", False),
        # ⌈10 / 8⌉ + 3 · 4.
        (("float32", (10,), 32, (0,), 3), 14, "float32", True),
        (("int32", (5,), 32, (0,), 4), 17, "int32", True),
        # 288 · 4 bits and eight scales.
        (("uniform", (3, 3, 4, 8), 4, (8,), 288), 176, "uniform", False),
        # 36 bytes of places, 144 · 4 bits and eight scales.
        (("uniform", (3, 3, 4, 8), 4, (8,), 144), 140, "uniform", True),
        # A scale for one value each: floats are smaller than 8 + 32 bytes.
        (("uniform", (1, 1, 1, 8), 8, (8,), 8), 32, "float32", False),
        # 100 · 2 bits and four values.
        (("codebook", (100,), 2, (4,), 100), 41, "codebook", False),
        # 13 bytes of places, 50 · 2 bits and four values, none of which is zero.
        (("codebook", (100,), 2, (4,), 50, False), 42, "codebook", True),
        (("codebook", (100,), 2, (4,), 50, True), 41, "codebook", False),
    ],
)
def test_sizes_by_hand(asked, payload, format, bitmap):
    stored = smallest(*asked)
    assert (stored.payload, stored.format, stored.bitmap) == (payload, format, bitmap)


def test_the_values_by_hand():
    scales = np.array([0.5, 2.0], np.float32)
    uniform = values_of("uniform", np.array([[9, 0], [15, 10]], np.uint8), scales, 4)
    np.testing.assert_array_equal(uniform, [[0.5, -16], [3.5, 4]])
    book = values_of("codebook", np.array([2, 0, 1]), np.array([0.25, -1.0, 3.0], np.float32), 2)
    np.testing.assert_array_equal(book, [3, 0.25, -1])


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("bitmap", [False, True])
def test_every_type_comes_back(name, bitmap):
    array = np.array([[0, 1, 1], [0, 1, 1]]).astype(TYPES[name])
    stored = Stored(name, (2, 3), 8 * array.itemsize, (0,), bitmap, 4)
    data = encode(stored, array, NONE, array != 0)
    assert len(data) == stored.payload
    restored, _ = decode(stored, data)
    assert restored.dtype == array.dtype
    np.testing.assert_array_equal(restored, array)


@st.composite
def coded(draw):
    """``(stored, codes, table, stays)`` of any shape, bit width and sparsity."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    stays = np.asarray(rng.random(shape) < draw(st.sampled_from([0.0, 0.05, 0.5, 0.9, 1.0])))
    whole, bits = bool(stays.all()), draw(st.integers(2, 8))
    if draw(st.booleans()):
        table = rng.random(shape[-1:] if draw(st.booleans()) else ()).astype(np.float32)
        codes = np.where(stays, rng.integers(0, 2**bits, shape), 2 ** (bits - 1))
        return "uniform", bits, codes.astype(np.uint8), table, stays, True
    table = rng.normal(size=draw(st.integers(1, 2**bits))).astype(np.float32)
    codes = rng.integers(0, len(table), shape).astype(np.uint8)
    return "codebook", bits, np.asarray(codes), table, stays, whole


@settings(max_examples=300)
@given(coded())
def test_arrays_come_back_and_take_the_predicted_bytes(array):
    format, bits, codes, table, stays, zeros_coded = array
    stored = smallest(format, codes.shape, bits, table.shape, int(stays.sum()), zeros_coded)
    expected = np.where(stays, values_of(format, codes, table, bits), np.float32(0))
    if stored.format == "float32":
        codes, table = expected, NONE
    data = encode(stored, codes, table, stays)
    assert len(data) == stored.payload <= expected.nbytes
    restored, read = decode(stored, data)
    assert restored.dtype == np.float32
    np.testing.assert_array_equal(restored, expected)
    np.testing.assert_array_equal(read, table)


@settings(max_examples=300)
@given(coded(), st.data())
def test_payloads_of_anything_are_arrays_or_refused(array, data):
    format, bits, codes, table, stays, zeros_coded = array
    stored = smallest(format, codes.shape, bits, table.shape, int(stays.sum()), zeros_coded)
    other = data.draw(st.binary(min_size=stored.payload, max_size=stored.payload))
    with np.errstate(all="ignore"):  # of scales that are no numbers
        try:
            restored, _ = decode(stored, other)
        except PackedError:
            return
    assert (restored.shape, restored.dtype) == (stored.shape, np.float32)


def network():
    """One array of every format, by name: ``(stored, bytes)``, and the values."""
    rng = np.random.default_rng(0)
    stays = rng.random((3, 3, 4, 8)) < 0.1
    whole = np.ones_like(stays)
    rows = {
        "a.kernel": ("uniform", 4, rng.integers(1, 16, stays.shape), rng.random(8), whole),
        "b.kernel": ("codebook", 2, rng.integers(0, 4, stays.shape), rng.normal(size=4), stays),
        "b.bias": ("float32", 32, rng.normal(size=8).astype(np.float32), NONE, np.ones(8, bool)),
        "count": ("uint32", 32, np.asarray(np.uint32(3)), NONE, np.ones((), bool)),
    }
    arrays, values = {}, {}
    for name, (format, bits, codes, table, stay) in rows.items():
        table, kept = np.asarray(table, np.float32), int(stay.sum())
        stored = smallest(format, codes.shape, bits, table.shape, kept, kept == codes.size)
        codes = codes.astype(np.uint8) if table.size else codes
        arrays[name] = stored, encode(stored, codes, table, stay)
        values[name] = (
            np.where(stay, values_of(format, codes, table, bits), 0) if bits < 8 else codes
        )
    return arrays, values


def test_a_file_has_the_stated_size_and_gives_everything_back(tmp_path):
    path, meta = tmp_path / "m.pfrl", {"model": "größer", "input": [1, 8, 8, 4]}
    arrays, values = network()
    sizes = write_packed(path, arrays, meta)
    assert path.stat().st_size == sizes.file == sizes.header + sizes.payload
    found, read = read_packed(path)
    assert read == meta
    assert list(found) == list(arrays)
    for name, (array, _) in found.items():
        np.testing.assert_array_equal(array, values[name])
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.pfrl"]


def test_every_part_of_a_file_is_no_file_and_every_changed_byte_is_seen(tmp_path):
    path = tmp_path / "m.pfrl"
    stored = smallest("uniform", (16,), 4, (1,), 16)
    data = encode(stored, np.arange(16, dtype=np.uint8), np.ones(1), np.ones(16, bool))
    write_packed(path, {"a": (stored, data)}, {"b": 1})
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(PackedError, match=r"m\.pfrl is"):
            read_packed(path)
        path.write_bytes(whole[:end] + bytes([whole[end] ^ 4]) + whole[end + 1 :])
        with pytest.raises(PackedError, match=r"m\.pfrl is"):
            read_packed(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(PackedError, match="cut off or damaged"):
        read_packed(path)


def test_other_files_and_newer_ones_are_told_apart(tmp_path):
    path = tmp_path / "m.pfrl"
    with pytest.raises(PackedError, match=r"no file .*m\.pfrl; expected one that write_packed"):
        read_packed(path)
    path.write_bytes(b"PK\3\4 some other archive")
    with pytest.raises(PackedError, match=r"m\.pfrl is no packed file"):
        read_packed(path)
    path.write_bytes(PREAMBLE.pack(MAGIC, VERSION + 1, 2, zlib.crc32(b"{}")) + b"{}")
    with pytest.raises(PackedError, match=f"format version {VERSION + 1}, expected {VERSION}"):
        read_packed(path)
    with pytest.raises(PackedError, match="meta of plain JSON"):
        write_packed(path, {}, {"a": np.ones(2)})
    with pytest.raises(FileError, match="cannot write"):
        write_packed(path / "in" / "a" / "file", {}, {})


def forge(path, rows, payload=b""):
    """A file whose checksum is right, whatever it says of its arrays."""
    content = json.dumps({"arrays": rows, "meta": {}}).encode()
    preamble = PREAMBLE.pack(MAGIC, VERSION, len(content), zlib.crc32(content + payload))
    path.write_bytes(preamble + content + payload)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["float32", [2], 32, [0], False, 2], "has 4 bytes of arrays, .* describes 8"),
        (["float32", [10**9, 2], 32, [0], True, 0], "describes 250,000,000"),
        (["float32", [10**50], 32, [0], True, 0], "expected whole numbers from 0 to"),
        (["float32", [-1], 32, [0], False, 2], "expected whole numbers from 0"),
        (["float32", [True], 32, [0], False, 1], "expected whole numbers from 0"),
        (["float32", [1], 16, [0], False, 1], "no array is stored as"),
        (["float32", [1], 32, [0], "all", 1], "no array is stored as"),
        (["float32", [1], 32, [0], True, 2], "no array is stored as"),
        (["float32", [1], 32, [1], False, 1], "no array is stored as"),
        (["object", [1], 64, [0], False, 1], "header .* is damaged"),
        (["uniform", [4], 9, [1], False, 4], "no array is stored as"),
        (["uniform", [4], 4, [3], False, 4], "no array is stored as"),
        (["codebook", [4], 1, [3], False, 4], "no array is stored as"),
        (["codebook", [4], 1, [], False, 4], "no array is stored as"),
        (["codebook", [4], 2**40, [3], False, 4], "no array is stored as"),
        (["float32", 4, 32, [0], False, 1], "header .* is damaged"),
        ([[], [4], 32, [0], False, 1], "header .* is damaged"),
        (["uniform", [1]], "header .* is damaged"),
        (None, "header .* is damaged"),
    ],
)
def test_headers_that_make_no_sense_are_refused_before_anything_is_made(tmp_path, row, message):
    forge(tmp_path / "m.pfrl", {"a": row}, b"1234")
    with pytest.raises(PackedError, match=message):
        read_packed(tmp_path / "m.pfrl")


def test_a_shape_that_no_array_can_have_is_refused(tmp_path):
    forge(tmp_path / "m.pfrl", {"a": ["float32", [2**40, 2**40, 0], 32, [0], True, 0]})
    with pytest.raises(PackedError, match=r"'a' in .* cannot be read"):
        read_packed(tmp_path / "m.pfrl")


@pytest.mark.parametrize("rows", [[], 3, None, [1]])
def test_headers_of_other_forms_are_refused(tmp_path, rows):
    for forged in ({"arrays": rows}, {"meta": rows}, rows):
        content = json.dumps(forged).encode()
        preamble = PREAMBLE.pack(MAGIC, VERSION, len(content), zlib.crc32(content))
        (tmp_path / "m.pfrl").write_bytes(preamble + content)
        with pytest.raises(PackedError, match=r"the header of .*m\.pfrl is damaged"):
            read_packed(tmp_path / "m.pfrl")


def test_bitmaps_and_indices_that_do_not_fit_are_refused():
    stored = Stored("float32", (16,), 32, (0,), True, 2)
    with pytest.raises(PackedError, match="bitmap of the zeros is damaged"):
        decode(stored, bytes([1, 0]) + bytes(8))
    with pytest.raises(PackedError, match="index is beyond the 3 values"):
        decode(Stored("codebook", (4,), 2, (3,), False, 4), bytes(12) + bytes([255]))
