"""Packed numbers and places: worked out by hand, and of exactly the stated size."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pfrl.deploy.packed.bits import PLACES, pack, unpack
from pfrl.deploy.packed.size import PLACE_BYTES, gap_width


def test_numbers_of_three_bits_by_hand():
    # 1, 2, 3, 4, 5, lowest bit first: 100 010 11|0 001 101, so 1+16+64+128 and 8+16+64.
    assert pack(np.array([1, 2, 3, 4, 5]), 3) == bytes([209, 88])
    assert unpack(bytes([209, 88]), 3, 5).tolist() == [1, 2, 3, 4, 5]
    assert pack(np.array([258, 1]), 16) == bytes([2, 1, 1, 0])
    assert pack(np.array([0, 0]), 0) == b""
    assert unpack(b"", 0, 2).tolist() == [0, 0]


@given(st.integers(0, 64), st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_numbers_of_any_width_come_back(bits, numbers):
    numbers = np.array([number & ((1 << bits) - 1) for number in numbers], np.uint64)
    data = pack(numbers, bits)
    assert len(data) == -(-len(numbers) * bits // 8)
    np.testing.assert_array_equal(unpack(data, bits, len(numbers)), numbers)


def test_a_bitmap_and_gaps_by_hand():
    present = np.zeros(16, bool)
    present[[1, 6, 15]] = True
    assert PLACES["bitmap"].write(present) == bytes([2 + 64, 128])
    # 15 // 7 = 2 has two bits, so low parts 1, 2, 3 of two bits: 10 01 11.
    # High parts 0, 1, 3: a place, a step, a place, two steps, a place: 10|1001.
    assert gap_width(16, 3) == 2
    assert PLACES["gaps"].write(present) == bytes([1 + 8 + 16 + 32 + 64, 1 + 8])
    assert PLACES["gaps"].read(bytes([121, 9]), 16, 3).nonzero()[0].tolist() == [1, 6, 15]


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_width_of_gaps_is_the_best_one(elements, share):
    count = max(round(share * elements), 1)
    sizes = [count * w + count + ((elements - 1) >> w) for w in range(22)]
    assert gap_width(elements, count) == int(np.argmin(sizes))


@settings(deadline=None)
@given(st.integers(0, 400), st.floats(0, 1), st.integers(0, 10**6))
def test_places_come_back_and_take_the_stated_bytes(elements, share, seed):
    present = np.random.default_rng(seed).random(elements) < share
    for name, places in PLACES.items():
        data, count = places.write(present), int(present.sum())
        assert len(data) == PLACE_BYTES[name](elements, count)
        if name != "all":
            np.testing.assert_array_equal(places.read(data, elements, count), present)


def test_gaps_take_about_two_bits_more_than_the_logarithm():
    # 1 of 100: 10,000 · 6 and 10,000 + 999,999 >> 6 = 25,624 bits; a bitmap has 125,000 bytes.
    assert PLACE_BYTES["gaps"](10**6, 10**4) == 7_500 + 3_203
    assert PLACE_BYTES["bitmap"](10**6, 10**4) == 125_000


@settings(deadline=None)
@given(st.integers(1, 2_000), st.data())
def test_more_places_or_elements_never_take_fewer_bytes(elements, data):
    count = data.draw(st.integers(0, elements))
    for size in PLACE_BYTES.values():
        assert size(elements, count) <= size(elements + 1, count)
        assert size(elements, count) <= size(elements, min(count + 1, elements))
