"""The Huffman code: a textbook's lengths, optimality, round trips, and data that are none."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfrl.methods.quantization.huffman import (
    BLOCK,
    LONGEST,
    HuffmanError,
    code_lengths,
    decode,
    encode,
    encoded_bits,
)

some_counts = st.lists(st.integers(0, 10**6), max_size=256).map(np.asarray)
some_symbols = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from([0, 0, 0, 0, 7, 7, 255]), max_size=300).map(bytes),
).map(lambda data: np.frombuffer(data, np.uint8))


def counted(symbols):
    return np.bincount(symbols, minlength=256)


def test_lengths_of_a_textbook_example():
    # Cormen et al., a to f: 5 + 9 = 14, 12 + 13 = 25, 14 + 16 = 30, 25 + 30 = 55, 45 + 55 = 100.
    counts = np.array([45, 13, 12, 16, 9, 5])
    assert code_lengths(counts).tolist() == [1, 3, 3, 3, 4, 4]
    # 45 + 3 (13 + 12 + 16) + 4 (9 + 5)
    assert encoded_bits(counts) == 224


def test_codes_are_canonical():
    # Lengths 2, 1, 3, 3: symbol 1 is 0, symbol 0 is 10, symbols 2 and 3 are 110 and 111.
    lengths = code_lengths(np.array([2, 4, 1, 1]))
    assert lengths.tolist() == [2, 1, 3, 3] and lengths.dtype == np.uint8
    assert encode(np.array([3, 1, 0, 2, 1]), lengths) == bytes([0b11101011, 0b00000000])
    assert encode(np.array([[0, 1], [1, 0]]), lengths) == bytes([0b10001000])


def test_equal_counts_get_equal_lengths():
    assert code_lengths(np.full(256, 3)).tolist() == [8] * 256
    assert encode(np.arange(256), code_lengths(np.ones(256, int))) == bytes(range(256))


def test_one_symbol_and_none():
    alone = code_lengths(np.array([0, 9]))
    assert alone.tolist() == [0, 1]
    assert encoded_bits(np.array([0, 9])) == 9
    assert encode(np.ones(9, int), alone) == bytes(2)
    assert decode(bytes(2), alone, 9).tolist() == [1] * 9
    nothing = code_lengths(np.zeros(256, int))
    assert not nothing.any() and encoded_bits(np.zeros(3, int)) == 0
    assert encode(np.zeros(0, int), nothing) == b""
    assert decode(b"", nothing, 0).tolist() == []


@given(some_symbols)
def test_what_is_encoded_is_decoded(symbols):
    lengths = code_lengths(counted(symbols))
    data = encode(symbols, lengths)
    assert len(data) == -(-encoded_bits(counted(symbols)) // 8)
    assert np.array_equal(decode(data, lengths, len(symbols)), symbols)


@given(some_counts)
def test_the_code_is_full_and_as_short_as_entropy_allows(counts):
    lengths = code_lengths(counts)
    assert ((lengths > 0) == (counts > 0)).all()
    occurring = counts[counts > 0]
    if len(occurring) < 2:
        return
    # Kraft's equality: no code could be shorter without another becoming longer.
    assert sum(2.0 ** -lengths[counts > 0].astype(float)) == 1
    shares = occurring / occurring.sum()
    entropy = -(shares * np.log2(shares)).sum()
    average = encoded_bits(counts) / occurring.sum()
    assert entropy - 1e-9 <= average < entropy + 1
    # What occurs more often has no longer code.
    bits = lengths[counts > 0].astype(int)
    assert (np.diff(bits[np.lexsort((-bits, occurring))]) <= 0).all()


def test_long_codes():
    # Fibonacci's numbers give the longest codes that there are: 1, 1, 2, 3, 5, ...
    fibonacci = [1, 1]
    while len(fibonacci) < LONGEST + 1:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = code_lengths(np.array(fibonacci))
    assert lengths.max() == LONGEST
    symbols = np.random.default_rng(0).integers(0, len(fibonacci), 2000)
    assert np.array_equal(decode(encode(symbols, lengths), lengths, 2000), symbols)


def test_a_million_symbols_over_several_blocks():
    symbols = np.random.default_rng(0).normal(128, 30, 10**6).clip(0, 255).astype(np.uint8)
    lengths = code_lengths(counted(symbols))
    data = encode(symbols, lengths)
    assert len(data) > 5 * BLOCK
    start = time.process_time()
    assert np.array_equal(decode(data, lengths, len(symbols)), symbols)
    assert time.process_time() - start < 2


FOUR = np.array([1, 2, 3, 3], np.uint8)


@pytest.mark.parametrize(
    ("data", "lengths", "count"),
    [
        (b"", FOUR, 1),  # too short
        (bytes([0b11011011]), FOUR, 4),  # three codes of three bits do not fit a byte
        (bytes(2), FOUR, 8),  # a byte too many
        (bytes([0b01011001]), FOUR, 4),  # a bit behind the last code
        (bytes([1]), np.array([1]), 8),  # the one symbol is a zero bit
        (b"", np.zeros(4), 1),  # symbols without a code
        (bytes(1), np.zeros(4), 0),
        (bytes(1), np.array([1, 2]), 1),  # the code 11 means nothing
        (bytes(1), np.array([1, 1, 1]), 1),  # three codes of one bit
        (bytes(1), np.array([2]), 1),
        (bytes(1), np.array([58, 58]), 1),
        (bytes(1), np.array([[1, 1]]), 1),
        (bytes(1), np.full(512, 9), 1),
    ],
)
def test_what_is_no_encoding_is_refused(data, lengths, count):
    with pytest.raises(HuffmanError):
        decode(data, lengths, count)


def test_what_cannot_be_encoded_is_refused():
    with pytest.raises(HuffmanError, match="symbol 4 has no code"):
        encode(np.array([0, 4]), FOUR)
    with pytest.raises(HuffmanError, match="symbol -1 has no code"):
        encode(np.array([-1]), FOUR)
    with pytest.raises(HuffmanError, match="symbol 256 has no code"):
        encode(np.array([256]), np.full(256, 8))
    with pytest.raises(HuffmanError, match="expected counts from 0"):
        code_lengths(np.array([1, -1]))
    with pytest.raises(HuffmanError, match="at most 256 symbols"):
        code_lengths(np.ones(257, int))


@given(st.binary(max_size=20), st.integers(0, 200))
def test_random_bytes_are_decoded_or_refused(data, count):
    try:
        symbols = decode(data, FOUR, count)
    except HuffmanError:
        return
    assert encode(symbols, FOUR) == data
