"""The packed file: sizes worked out by hand, arrays that come back, files that are damaged."""

import json
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfrl.deploy.packed.arrays import restore, store
from pfrl.deploy.packed.file import (
    MAGIC,
    PREAMBLE,
    REMARK,
    VERSION,
    Codebook,
    Dense,
    PackedError,
    Uniform,
    payload_bytes,
    predict,
    read_packed,
    sizes_of,
    write_packed,
)
from pfrl.deploy.packed.kinds import floats_of
from pfrl.deploy.packed.size import TYPES, Stored, gap_width
from pfrl.files import FileError

ONES = np.ones(10, np.float32)


def zeros_but(count, shape):
    """So many ones, then zeros."""
    return (np.arange(np.prod(shape)) < count).astype(np.float32).reshape(shape)


HALF = zeros_but(144, (3, 3, 4, 8)).astype(np.int8)


@pytest.mark.parametrize(
    ("array", "payload", "encoding"),
    [
        (Dense(ONES), 40, "float32"),
        (Dense(np.float32(3)), 4, "float32"),
        (Dense(zeros_but(0, 16)), 0, "float32, gaps"),
        # ⌈10 / 8⌉ + 3 · 4; gaps of one bit each and 3 + 4 bits take as many.
        (Dense(zeros_but(3, 10)), 14, "float32, bitmap"),
        # Six bits, 1 + 1 bits and one value: one byte and four.
        (Dense(zeros_but(1, 100)), 5, "float32, gaps"),
        (Dense(zeros_but(3, 10), np.ones(10, bool)), 40, "float32"),
        (Dense(np.arange(5, dtype=np.int32)), 17, "int32, bitmap"),
        # 288 · 4 bits and eight scales.
        (Uniform(HALF + 1, np.ones(8), 4), 176, "uniform, 4 bits"),
        # 36 bytes of places, 144 · 4 bits and eight scales.
        (Uniform(HALF, np.ones(8), 4), 140, "uniform, 4 bits, bitmap"),
        # A scale for one value each: floats are smaller than 8 + 32 bytes.
        (Uniform(np.ones((1, 1, 1, 8), np.int8), np.ones(8), 8), 32, "float32"),
        (Uniform(np.ones(8, np.int8), 0.5, 3), 7, "uniform, 3 bits"),
        # 100 · 2 bits and four centers.
        (Codebook(np.arange(100) % 4, np.arange(1, 5), 2), 41, "codebook, 2 bits"),
        (Codebook(np.zeros((2, 3), int), np.ones(1), 1), 5, "codebook, 1 bits"),
        # 13 bytes of places, 50 · 2 bits and four centers, none of which is zero.
        (
            Codebook(np.arange(100) % 4, np.arange(1, 5), 2, np.arange(100) % 2),
            42,
            "codebook, 2 bits, bitmap",
        ),
        # One that is makes no difference, unless nobody says what stays.
        (
            Codebook(np.arange(100) % 4, np.arange(4), 2, np.arange(100) % 2),
            42,
            "codebook, 2 bits, bitmap",
        ),
        (Codebook(np.arange(100) % 4, np.arange(4), 2), 41, "codebook, 2 bits"),
    ],
)
def test_sizes_by_hand(array, payload, encoding):
    stored, data = store(array)
    assert (stored.payload, stored.encoding) == (payload, encoding)
    assert len(data) == payload == payload_bytes(array)
    np.testing.assert_array_equal(restore(stored, data), floats_of(array))


def test_the_values_by_hand():
    uniform = Uniform(np.array([[1, -8], [7, 2]]), np.array([0.5, 2.0]), 4)
    np.testing.assert_array_equal(floats_of(uniform), [[0.5, -16], [3.5, 4]])
    stays = np.array([1, 1, 0])
    book = Codebook(np.array([2, 0, 1]), np.array([0.25, -1.0, 3.0]), 2, stays)
    np.testing.assert_array_equal(floats_of(book), [3, 0.25, 0])
    assert floats_of(book).dtype == np.float32
    # Masked with a factor, what was negative is -0: a zero like the others.
    stored, data = store(Dense(np.array([-0.0, 0, np.nan, -np.inf], np.float32)))
    assert stored.nonzeros == 2
    assert not np.signbit(restore(stored, data)[0])
    np.testing.assert_array_equal(restore(stored, data), [0, 0, np.nan, -np.inf])


@pytest.mark.parametrize("name", TYPES)
def test_every_type_comes_back(name):
    array = np.array([[0, 1, 1], [0, 1, 1]]).astype(TYPES[name])
    stored, data = store(Dense(jnp.asarray(array) if TYPES[name].itemsize < 8 else array))
    restored = restore(stored, data)
    assert restored.dtype == array.dtype
    np.testing.assert_array_equal(restored, array)


@st.composite
def arrays(draw):
    """An array of any kind, shape, width and sparsity, with or without a word on what stays."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    on = rng.random(shape) < draw(st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.9, 1.0]))
    stays = on if draw(st.booleans()) else None
    match draw(st.sampled_from(["dense", "uniform", "codebook"])):
        case "dense":
            return Dense(np.asarray(rng.normal(size=shape) * on, np.float32), stays)
        case "uniform":
            bits = draw(st.integers(2, 8))
            ints = np.asarray(rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape) * on)
            scale = rng.random(shape[-1:] if draw(st.booleans()) else ())
            return Uniform(ints.astype(np.int8), np.float32(scale), bits, stays)
        case _:
            bits = draw(st.integers(1, 8))
            centers = rng.normal(size=draw(st.integers(1, 2**bits))).astype(np.float32)
            centers[0] *= draw(st.booleans())
            indices = rng.integers(0, len(centers), shape) * on
            return Codebook(indices.astype(np.uint8), centers, bits, stays)


@settings(max_examples=300, deadline=None)
@given(arrays(), st.booleans())
def test_arrays_come_back_and_take_the_predicted_bytes(array, huffman):
    stored, data = store(array, huffman)
    assert len(data) == stored.payload
    restored, expected = restore(stored, data), floats_of(array)
    assert restored.dtype == expected.dtype
    np.testing.assert_array_equal(restored, expected)
    assert stored.payload <= payload_bytes(array) <= expected.nbytes
    assert huffman or stored.payload == payload_bytes(array)


def test_the_size_of_what_stays_does_not_depend_on_values():
    rng = np.random.default_rng(0)
    stays = rng.permutation(np.arange(400) < 100).reshape(4, 5, 20)
    expected = predict("uniform", (4, 5, 20), 3, (20,), 100)
    # 80 bytes of scales, 50 of places and 300 bits of values; gaps take one bit and 100 + 199.
    assert expected.payload == 80 + 50 + 38
    for most in (0, 1, 3):
        ints = rng.integers(-most, most + 1, stays.shape)
        assert store(Uniform(ints, np.ones(20), 3, stays))[0] == expected


def test_frequent_values_are_shorter_with_huffman():
    # 0 in 96 of 128, 1, 2 and 3 in 16, 8 and 8: codes of 1, 2, 3 and 3 bits, 176 in all.
    indices = np.repeat([0, 1, 2, 3], [96, 16, 8, 8])
    book = Codebook(indices, np.array([5.0, 6, 7, 8]), 2)
    stored, data = store(book, huffman=True)
    assert stored.encoding == "codebook, 2 bits, Huffman"
    # Four centers, four lengths of codes and 22 bytes, where fixed bits take 32.
    assert len(data) == stored.payload == 16 + 4 + 22
    assert payload_bytes(book) == 16 + 32
    np.testing.assert_array_equal(restore(stored, data), floats_of(book))
    even, _ = store(Codebook(np.arange(128) % 4, np.ones(4), 2), huffman=True)
    assert even.encoding == "codebook, 2 bits"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dense(np.array(["a"])), "array of bfloat16, .*; got one of str"),
        (lambda: Dense(ONES, np.ones(9)), r"what stays has shape \(9,\); .* array's, \(10,\)"),
        (lambda: Uniform(np.array([8]), 1.0, 4), "whole numbers from -8 to 7, got 8 to 8"),
        (lambda: Uniform(np.array([1.0]), 1.0, 4), "whole numbers, got an array of float64"),
        (lambda: Uniform(np.array([1]), 1.0, 9), "2 to 8 bits of a uniform, got 9"),
        (lambda: Uniform(np.ones((2, 3), int), np.ones(2), 4), r"scale of shape \(2,\) does not"),
        (lambda: Codebook(np.array([2]), np.ones(2), 4), "whole numbers from 0 to 1, got 2 to 2"),
        (lambda: Codebook(np.array([0]), np.ones(5), 2), r"1 to 4 centers .* shape \(5,\)"),
        (lambda: Codebook(np.array([0]), np.ones(2), 0), "1 to 8 bits of a codebook, got 0"),
    ],
)
def test_arrays_that_fit_no_encoding_are_refused(make, message):
    with pytest.raises(PackedError, match=message):
        make()


def network():
    """One array of every kind."""
    rng = np.random.default_rng(0)
    stays = rng.random((3, 3, 4, 8)) < 0.1
    return {
        "a.kernel": Uniform(rng.integers(-7, 8, (3, 3, 4, 8)), rng.random(8), 4),
        "b.kernel": Codebook(rng.integers(0, 4, (3, 3, 4, 8)), rng.normal(size=4), 2, stays),
        "b.bias": Dense(rng.normal(size=8).astype(np.float32)),
        "c.kernel": Dense(rng.normal(size=(8, 9)).astype(np.float32), rng.random((8, 9)) < 0.5),
        "count": Dense(np.uint32(3)),
        "skewed": Codebook(rng.binomial(15, 0.1, 300), np.arange(16), 4),
    }


@pytest.mark.parametrize("huffman", [False, True])
def test_a_file_has_the_stated_size_and_gives_everything_back(tmp_path, huffman):
    path, meta = tmp_path / "m.pfrl", {"model": "größer", "input": [1, 8, 8, 4]}
    sizes = write_packed(path, network(), meta, huffman)
    assert path.stat().st_size == sizes.file == sizes.header + sizes.payload
    assert sizes_of(sizes.arrays, meta) == sizes
    arrays, read = read_packed(path)
    assert read == meta
    assert list(arrays) == list(network())
    for name, array in network().items():
        np.testing.assert_array_equal(arrays[name], floats_of(array))
        assert sizes.arrays[name].dense == arrays[name].nbytes
        assert huffman or sizes.arrays[name].payload == payload_bytes(array)
    assert bool(sizes.arrays["skewed"].huffman) == huffman
    assert sizes.dense == sum(array.nbytes for array in arrays.values())
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.pfrl"]


def test_the_table_says_what_was_gained_and_what_was_not(tmp_path):
    sizes = write_packed(tmp_path / "m.pfrl", network(), {})
    lines = sizes.table().splitlines()
    assert "| a.kernel | uniform, 4 bits | " in lines[2]
    assert lines[2].endswith(" of 288 | 1,152 | 176 |")
    assert lines[-3] == f"| file | | | {sizes.dense:,} | {sizes.file:,} |"
    assert lines[-1] == REMARK
    assert "not the network faster" in REMARK


def test_every_part_of_a_file_is_no_file_and_every_changed_byte_is_seen(tmp_path):
    path = tmp_path / "m.pfrl"
    write_packed(path, {"a": Uniform(np.arange(-8, 8), 0.5, 4)}, {"b": 1})
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(PackedError, match=r"m\.pfrl (is|ends)"):
            read_packed(path)
        path.write_bytes(whole[:end] + bytes([whole[end] ^ 4]) + whole[end + 1 :])
        with pytest.raises(PackedError, match=r"m\.pfrl (is|ends)"):
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
        (["float32", [2], 32, [0], "all", 2, 0], "has 4 bytes of arrays, .* describes 8"),
        (["float32", [10**9, 2], 32, [0], "gaps", 0, 0], "have 8,000,000,000 bytes and the limit"),
        (["float32", [10**50], 32, [0], "gaps", 0, 0], "expected whole numbers from 0 to"),
        (["float32", [-1], 32, [0], "all", 2, 0], "expected whole numbers from 0"),
        (["float32", [True], 32, [0], "all", 1, 0], "expected whole numbers from 0"),
        (["float32", [1], 16, [0], "all", 1, 0], "no array is stored as"),
        (["float32", [1], 32, [0], "some", 1, 0], "no array is stored as"),
        (["float32", [1], 32, [0], "bitmap", 2, 0], "no array is stored as"),
        (["float32", [1], 32, [0], "all", 1, 4], "no array is stored as"),
        (["float32", [1], 32, [1], "all", 1, 0], "no array is stored as"),
        (["object", [1], 64, [0], "all", 1, 0], "header .* is damaged"),
        (["uniform", [4], 9, [1], "all", 4, 0], "no array is stored as"),
        (["uniform", [4], 4, [3], "all", 4, 0], "no array is stored as"),
        (["codebook", [4], 1, [3], "all", 4, 0], "no array is stored as"),
        (["codebook", [4], 1, [], "all", 4, 0], "no array is stored as"),
        (["float32", 4, 32, [0], "all", 1, 0], "header .* is damaged"),
        ([[], [4], 32, [0], "all", 1, 0], "header .* is damaged"),
        (["float32"], "header .* is damaged"),
        (["uniform", [1]], "header .* is damaged"),
        (["float32", ["1"]], "header .* is damaged"),
        (None, "header .* is damaged"),
    ],
)
def test_headers_that_make_no_sense_are_refused_before_anything_is_made(tmp_path, row, message):
    forge(tmp_path / "m.pfrl", {"a": row}, b"1234")
    with pytest.raises(PackedError, match=message):
        read_packed(tmp_path / "m.pfrl")


def test_a_shape_that_no_array_can_have_is_refused(tmp_path):
    forge(tmp_path / "m.pfrl", {"a": ["float32", [2**40, 2**40, 0], 32, [0], "gaps", 0, 0]})
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


def test_the_limit_is_what_the_reader_allows(tmp_path):
    path = tmp_path / "m.pfrl"
    sizes = write_packed(path, {"a": Dense(np.zeros(10**6, np.float32))}, {})
    assert sizes.payload == 0
    assert read_packed(path, limit=4 * 10**6)[0]["a"].nbytes == 4 * 10**6
    with pytest.raises(PackedError, match="have 4,000,000 bytes and the limit is 3,999,999"):
        read_packed(path, limit=4 * 10**6 - 1)


@settings(max_examples=300, deadline=None)
@given(arrays(), st.booleans(), st.data())
def test_payloads_of_anything_are_arrays_or_refused(array, huffman, data):
    stored, payload = store(array, huffman)
    other = data.draw(st.binary(min_size=len(payload), max_size=len(payload)))
    with np.errstate(all="ignore"):  # of scales that are no numbers
        try:
            restored = restore(stored, other)
        except PackedError:
            return
    assert (restored.shape, restored.nbytes) == (stored.shape, stored.dense)


def test_places_that_do_not_ascend_are_refused():
    # Low parts 3 and 1 of the same high part: places 3 and 1.
    stored = Stored("float32", (16,), 32, (0,), "gaps", 2)
    assert gap_width(16, 2) == 2
    with pytest.raises(PackedError, match="places of the non-zeros are damaged"):
        restore(stored, bytes([3 + 4 + 16 + 32, 0]) + bytes(8))
    with pytest.raises(PackedError, match="places of the non-zeros are damaged"):
        restore(stored, bytes([3 + 4 + 16, 0]) + bytes(8))
    with pytest.raises(PackedError, match="places of the non-zeros are damaged"):
        restore(stored._replace(places="bitmap"), bytes([1, 0]) + bytes(8))
    with pytest.raises(PackedError, match="index is beyond the 3 centers"):
        restore(Stored("codebook", (4,), 2, (3,), "all", 4), bytes(12) + bytes([255]))
