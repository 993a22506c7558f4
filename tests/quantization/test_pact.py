"""Learned clips: the paper's formula and gradients by hand, and ranges with negative values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.evaluation.compilations import compilations
from pfrl.methods.quantization.pact import SMALLEST_CLIP, pact
from pfrl.methods.quantization.uniform import fake_quantize_activations

clipped = jax.jit(pact)
clip_gradient = jax.jit(jax.grad(lambda a, x, *rest: pact(x, a, *rest).sum()))
input_gradient = jax.jit(jax.grad(lambda x, a, *rest: pact(x, a, *rest).sum()))


# Two bits, a clip of 1.5: the values 0, 0.5, 1, 1.5.
@pytest.mark.parametrize(
    ("x", "value", "for_clip", "for_x"),
    [
        (-1.0, 0.0, 0, 0),
        (0.2, 0.0, 0, 1),
        (0.8, 1.0, 0, 1),
        (1.4, 1.5, 0, 1),
        (1.6, 1.5, 1, 0),
        (9.0, 1.5, 1, 0),
    ],
)
def test_values_and_gradients_are_those_of_the_paper(x, value, for_clip, for_x):
    x, clip, bits = np.float32(x), np.float32(1.5), np.int32(2)
    assert np.allclose(clipped(x, clip, bits), value)
    assert np.allclose(clip_gradient(clip, x, bits), for_clip, atol=1e-6)
    assert np.allclose(input_gradient(x, clip, bits), for_x)


def test_with_many_bits_it_is_the_papers_clip():
    x, a = np.linspace(-3, 3, 61, dtype=np.float32), np.float32(1.7)
    expected = 0.5 * (np.abs(x) - np.abs(x - a) + a)
    # Half a step of 1.7 / 255.
    assert np.abs(clipped(x, a, np.int32(8)) - expected).max() <= 0.5 * a / 255 + 1e-6


def test_a_range_that_holds_negative_values_is_scaled_as_a_whole():
    x = np.asarray([-9.0, -1.2, 0.4, 2.2, 9.0], np.float32)
    bits, low, high = np.int32(2), -1.0, 2.0
    # At 1 the range is -1, 0, 1, 2; at 1.5 it is -1.5, 0, 1.5, 3.
    assert np.allclose(clipped(x, np.float32(1), bits, low, high), [-1, -1, 0, 2, 2])
    assert np.allclose(clipped(x, np.float32(1.5), bits, low, high), [-1.5, -1.5, 0, 1.5, 3])
    plain = jax.jit(fake_quantize_activations)(x, bits, low, high)
    assert np.array_equal(clipped(x, np.float32(1), bits, low, high), plain)
    # Above goes with high and below with low: 2 + 2 - 1 - 1 at 1, and 2 - 1 at 1.5.
    assert np.allclose(clip_gradient(np.float32(1), x, bits, low, high), 2)
    assert np.allclose(clip_gradient(np.float32(1.5), x, bits, low, high), 1)
    assert np.array_equal(input_gradient(x, np.float32(1), bits, low, high), [0, 0, 1, 0, 0])


def test_the_gradient_follows_the_grid_that_was_moved_onto_zero():
    # From -0.4 to 2.6 the zero point is 0, and the grid 0 to 3: so the end is 3 at a clip of 1.
    x = np.asarray([-2.0, 5.0], np.float32)
    assert np.allclose(clipped(x, np.float32(1), np.int32(2), -0.4, 2.6), [0, 3])
    assert np.allclose(clip_gradient(np.float32(1), x, np.int32(2), -0.4, 2.6), 3)


def test_at_32_bits_nothing_changes_and_the_clip_rests():
    x = np.linspace(-3, 3, 7, dtype=np.float32)
    assert np.array_equal(clipped(x, np.float32(0.5), np.int32(32)), x)
    assert clip_gradient(np.float32(0.5), x, np.int32(32)) == 0


@pytest.mark.parametrize("clip", [0.0, -2.0])
def test_a_clip_that_went_too_far_is_as_small_as_can_be_and_can_come_back(clip):
    x = np.asarray([1.0, 3.0], np.float32)
    assert np.allclose(clipped(x, np.float32(clip), np.int32(4)), SMALLEST_CLIP)
    assert np.allclose(clip_gradient(np.float32(clip), x, np.int32(4)), 2)


def test_types_are_kept_and_widths_compile_once():
    x = jnp.linspace(-1, 1, 9)
    assert clipped(x.astype("bfloat16"), np.float32(1), np.int32(4)).dtype == "bfloat16"
    clipped(x, np.float32(1), np.int32(2))
    before = compilations()
    found = [np.asarray(clipped(x, np.float32(1), np.int32(b))) for b in (2, 3, 4, 32)]
    assert compilations() == before
    assert len({each.tobytes() for each in found}) == 4
