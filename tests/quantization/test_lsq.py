"""Learned steps: the paper's gradients by hand, and masked equal to sliced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.evaluation.compilations import compilations
from pfrl.methods.quantization.base import ACTIVATION_QUANTIZERS
from pfrl.methods.quantization.lsq import (
    SMALLEST_STEP,
    kept_elements,
    lsq,
    lsq_weights,
)
from pfrl.methods.quantization.uniform import (
    activation_grid,
    fake_quantize_activations,
    fake_quantize_weights,
)

rounded = jax.jit(lsq)
step_gradient = jax.jit(jax.grad(lambda step, x, *rest: lsq(x, step, *rest).sum()))
input_gradient = jax.jit(jax.grad(lambda x, step, *rest: lsq(x, step, *rest).sum()))
kernel_rounded = jax.jit(lsq_weights)
input_rounded = jax.jit(ACTIVATION_QUANTIZERS["lsq"].round)
grid_of = jax.jit(activation_grid)
range_rounded = jax.jit(fake_quantize_activations)


def normal(*size, seed=0):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


# Step 0.5 and integers from -3 to 3: x / 0.5 is 1.4, -0.8 and 2.5 (which is even 2) inside, 5 above
# and -4 below. One element and Q = 3: g = 1 / sqrt(3).
@pytest.mark.parametrize(
    ("x", "value", "step", "passes"),
    [
        (0.7, 0.5, 1 - 1.4, 1),
        (-0.4, -0.5, -1 + 0.8, 1),
        (1.25, 1.0, 2 - 2.5, 1),
        (0.0, 0.0, 0, 1),
        (2.5, 1.5, 3, 0),
        (-2.0, -1.5, -3, 0),
        # At the very ends the paper takes v / s >= Q for outside.
        (1.5, 1.5, 3, 0),
        (-1.5, -1.5, -3, 0),
    ],
)
def test_values_and_gradients_are_those_of_the_paper(x, value, step, passes):
    arguments = np.float32(x), np.float32(0.5)
    rest = np.int32(3), -3.0, 3.0, 1.0
    assert np.allclose(rounded(*arguments, *rest), value)
    assert np.allclose(step_gradient(*arguments[::-1], *rest), step / 3**0.5, atol=1e-6)
    assert np.allclose(input_gradient(*arguments, *rest), passes)


def test_a_step_sums_over_its_elements_with_the_papers_scale():
    x = np.asarray([0.7, -0.4, 2.5, -2.0], np.float32)
    # -0.4 - 0.2·(-1) + 3 - 3 = -0.2, times 1 / sqrt(4 · 3).
    found = step_gradient(np.float32(0.5), x, np.int32(3), -3.0, 3.0, 4.0)
    assert np.allclose(found, (-0.4 + (-1 + 0.8) + 3 - 3) / 12**0.5, atol=1e-6)
    # Unsigned integers from 0 to 3 around a zero point of 1, -1 to 2: Q is 2. With the step
    # 0.5: 1.4 inside, -0.8 inside, 5 above, -4 below.
    activation = jax.jit(
        jax.grad(lambda s: input_rounded(x, s, jnp.int32(2), -1.0, 2.0, 4.0).sum())
    )
    expected = (-0.4 - 0.2 + 2 - 1) / (4 * 2) ** 0.5
    assert np.allclose(activation(jnp.float32(0.5)), expected, atol=1e-6)


def test_kernels_have_a_step_for_every_output_channel():
    kernel = np.asarray([[0.7, 7.0], [-0.4, 50.0]], np.float32)
    step = np.asarray([0.5, 10.0], np.float32)
    assert np.allclose(kernel_rounded(kernel, step, np.int32(3)), [[0.5, 10], [-0.5, 30]])
    gradient = jax.jit(jax.grad(lambda s: kernel_rounded(kernel, s, jnp.int32(3)).sum()))(step)
    # Two weights a channel: g = 1 / sqrt(2 · 3); 0.7 and 5 in the second.
    expected = np.asarray([-0.4 - 0.2, (1 - 0.7) + 3]) / 6**0.5
    assert np.allclose(gradient, expected, atol=1e-6)


def test_started_from_a_calibrated_grid_it_is_that_of_the_range():
    x = normal(50, 4)
    for bits in map(np.int32, (2, 3, 8)):
        grid = grid_of(bits, -1.0, 2.0)
        plain = range_rounded(x, bits, -1.0, 2.0)
        assert np.allclose(input_rounded(x, grid.scale, bits, -1.0, 2.0, 4.0), plain, atol=1e-6)


def test_with_the_largest_value_as_the_last_level_it_is_the_min_max_grid():
    kernel = normal(3, 3, 4, 5)
    plain = jax.jit(fake_quantize_weights)
    for bits in (2, 4, 8):
        top = 2 ** (bits - 1) - 1
        step = np.abs(kernel).max((0, 1, 2)) / top
        assert np.allclose(kernel_rounded(kernel, step, np.int32(bits)), plain(kernel, bits))


def test_at_32_bits_nothing_changes_and_the_step_rests():
    x = normal(20)
    assert np.array_equal(rounded(x, np.float32(0.3), np.int32(32), -1.0, 1.0, 20.0), x)
    assert step_gradient(np.float32(0.3), x, np.int32(32), -1.0, 1.0, 20.0) == 0
    found = input_gradient(x, np.float32(0.3), np.int32(32), -1.0, 1.0, 20.0)
    assert np.array_equal(found, np.ones(20))


@pytest.mark.parametrize("step", [0.0, -1.0])
def test_a_step_that_went_too_far_is_as_small_as_can_be_and_can_come_back(step):
    x = np.asarray([0.7, 0.4], np.float32)
    arguments = np.float32(step), x, np.int32(3), -3.0, 3.0, 2.0
    value = rounded(x, *arguments[:1], *arguments[2:])
    assert np.allclose(value, 3 * SMALLEST_STEP)
    # Both are above: their sum grows with the step as 2 · 3.
    assert np.allclose(step_gradient(*arguments), 6 / 6**0.5)


def test_masked_equals_sliced():
    kept = [0, 2, 5]
    kernel = normal(3, 3, 6, 4)
    alive = np.zeros((1, 1, 6, 1), np.float32)
    alive[:, :, kept] = 1
    sliced, masked = kernel[:, :, kept], kernel * alive
    small = np.full(4, 0.3, np.float32)
    assert np.allclose(jax.jit(lambda a: kept_elements((3, 3, 6, 4), range(3), a))(alive), 27)
    slope = normal(3, 3, 6, 4, seed=1)

    @jax.jit
    def gradients(kernel, slope, alive):
        def total(kernel, step):
            return (slope * lsq_weights(kernel, step, jnp.int32(3), alive)).sum()

        return jax.grad(total, (0, 1))(kernel, small)

    whole, part = gradients(masked, slope, alive), gradients(sliced, slope[:, :, kept], None)
    assert np.allclose(whole[0][:, :, kept], part[0], atol=1e-6)
    assert np.allclose(whole[1], part[1], atol=1e-5)
    assert np.abs(part[1]).min() > 0.01


def test_an_output_channel_that_is_gone_has_a_finite_gradient():
    alive = np.asarray([[1.0, 0.0]], np.float32)
    kernel = normal(6, 2) * alive
    gradient = jax.jit(jax.grad(lambda s: kernel_rounded(kernel, s, jnp.int32(4), alive).sum()))
    found = gradient(jnp.ones(2))
    assert np.isfinite(found).all() and found[1] == 0


def test_types_are_kept_and_widths_compile_once():
    x = jnp.linspace(-1, 1, 8).astype("bfloat16")
    assert rounded(x, np.float32(0.1), np.int32(8), -127.0, 127.0, 8.0).dtype == x.dtype
    kernel, step = normal(6, 3), np.full(3, 0.1, np.float32)
    kernel_rounded(kernel, step, np.int32(2))
    before = compilations()
    found = [np.asarray(kernel_rounded(kernel, step, np.int32(b))) for b in (2, 3, 4, 32)]
    assert compilations() == before
    assert len({each.tobytes() for each in found}) == 4


def test_a_learned_step_finds_the_grid_that_is_there():
    # Values on multiples of 0.1 that reach from -3 to 3 of them, and a step that starts at 0.17.
    x = np.repeat(np.arange(-3, 4), 20).astype(np.float32) * 0.1

    @jax.jit
    def improved(step):
        def error(step):
            return jnp.square(rounded(x, step, jnp.int32(3), -3.0, 3.0, x.size) - x).sum()

        return step - 0.02 * jax.grad(error)(step)

    step = jnp.float32(0.17)
    for _ in range(300):
        step = improved(step)
    assert abs(float(step) - 0.1) < 0.005
