"""Codebooks: assignment, gradients and sizes worked out by hand; one compilation for all widths."""

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.evaluation.compilations import compilations
from pfrl.methods.quantization import codebook
from pfrl.methods.quantization.codebook import codebook_quantize, fit_centers

# Jitted: one operation after the other would compile hundreds of small programs.
quantize = jax.jit(codebook_quantize, static_argnames=("train_weights", "train_centers"))
assign = jax.jit(codebook.assign)
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 32)


def padded(*centers):
    """A codebook ``[256]`` whose other entries would be noticed if they were used."""
    return jnp.asarray([*centers, *[0.001] * (256 - len(centers))])


def normal(*size, seed=0):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def test_weights_go_to_the_nearest_center():
    # Halfway between two, at 0 and at 1.5, to the smaller one; the order of the centers is free.
    kernel = jnp.array([[-3.0, -0.1, 0.0], [0.1, 1.5, 9.0]])
    indices = assign(kernel, padded(2.0, -1.0, 1.0), 3)
    assert indices.dtype == jnp.uint8
    assert indices.tolist() == [[1, 1, 1], [2, 2, 0]]
    found = quantize(kernel, padded(2.0, -1.0, 1.0, 99.0), 2)
    assert found.tolist() == [[-1, -1, -1], [1, 1, 2]]


def test_only_so_many_entries_are_used_as_there_are_bits():
    kernel, centers = jnp.array([0.9, 2.2, 3.1]), padded(0.0, 1.0, 2.0, 3.0)
    assert quantize(kernel, centers, 1).tolist() == [1, 1, 1]
    assert quantize(kernel, centers, 2).tolist() == [1, 2, 3]
    assert np.array_equal(quantize(kernel, centers, 32), kernel)


def test_every_width_has_its_codebook():
    kernel = normal(3, 3, 4, 8)
    errors = []
    for bits in range(1, 9):
        centers = fit_centers(kernel, bits)
        assert centers.shape == (256,) and centers.dtype == np.float32
        found = quantize(kernel, centers, bits)
        assert len(np.unique(found)) == 2**bits
        assert np.isin(
            found, np.unique(kernel.astype(np.float64)).tolist() + centers.tolist()
        ).all()
        errors.append(float(jnp.square(found - kernel).mean()))
    assert errors == sorted(errors, reverse=True)
    assert not fit_centers(kernel, 32).any()
    assert np.array_equal(quantize(kernel, centers, 32), kernel)


def test_with_as_many_entries_as_values_nothing_is_lost():
    kernel = np.array([[0.5, -2.0], [0.25, 0.5]], np.float32)
    # Sorted: -2, 0.25, 0.5; the last one fills up.
    assert fit_centers(kernel, 2)[:5].tolist() == [-2, 0.25, 0.5, 0.5, 0.5]
    for bits in (2, 8):
        assert np.array_equal(quantize(kernel, fit_centers(kernel, bits), bits), kernel)


def test_removed_channels_stay_zero_and_do_not_count():
    kernel = normal(3, 3, 6, 4)
    kernel[:, :, [1, 4]] = 0
    alive = np.ones((1, 1, 6, 1), np.float32)
    alive[:, :, [1, 4]] = 0
    sliced = np.delete(kernel, [1, 4], axis=2)
    for bits in (1, 4, 8, 32):
        centers = fit_centers(kernel, bits, alive)
        assert np.array_equal(centers, fit_centers(sliced, bits))
        masked = quantize(kernel, centers, bits, alive)
        assert not masked[:, :, [1, 4]].any()
        assert np.array_equal(np.delete(masked, [1, 4], 2), quantize(sliced, centers, bits))


def test_gradients_of_every_mode():
    kernel, centers = jnp.array([0.1, 0.4, 1.2, 9.0]), padded(0.0, 1.0)
    factors, alive = jnp.array([1.0, 2.0, 4.0, 8.0]), jnp.array([1.0, 1.0, 1.0, 0.0])

    def gradients(weights, table, bits=1):
        def total(kernel, centers):
            trained = {"train_weights": weights, "train_centers": table}
            return (factors * quantize(kernel, centers, bits, alive, **trained)).sum()

        both = jax.jit(jax.grad(total, (0, 1)))(kernel, centers)
        to_kernel, to_centers = (np.asarray(gradient).tolist() for gradient in both)
        assert not any(to_centers[2:])
        return to_kernel, to_centers[:2]

    # The first two weights are in cluster 0, the third in cluster 1, the last was removed.
    assert gradients(True, False) == ([1, 2, 4, 0], [0, 0])
    assert gradients(False, True) == ([0, 0, 0, 0], [3, 4])
    assert gradients(True, True) == ([1, 2, 4, 0], [3, 4])
    # At 32 bits nothing is clustered: weights are all that there is to be trained.
    assert gradients(False, True, 32) == ([1, 2, 4, 8], [0, 0])


def test_given_indices_are_kept():
    kernel, centers = jnp.array([0.1, 0.9]), padded(0.0, 1.0)
    indices = assign(kernel, centers, 2)
    moved = padded(2.0, -1.0)
    fixed = quantize(kernel, moved, 1, train_weights=False, indices=indices)
    assert fixed.tolist() == [2, -1]
    assert quantize(kernel, moved, 1, train_weights=False).tolist() == [-1, 2]


def test_training_the_clusters_finds_their_means():
    # The loss is the squared distance to [1, 3, 10]; the best centers are (1 + 3) / 2 and 10.
    kernel, target = jnp.array([0.0, 0.2, 5.0]), jnp.array([1.0, 3.0, 10.0])
    centers = padded(0.1, 5.0)
    indices = assign(kernel, centers, 2)

    @jax.jit
    def step(centers):
        def loss(centers):
            found = codebook_quantize(kernel, centers, 1, train_weights=False, indices=indices)
            return jnp.square(found - target).sum()

        return centers - 0.2 * jax.grad(loss)(centers)

    for _ in range(50):
        centers = step(centers)
    assert np.allclose(centers[:2], [2, 10])


def test_dtypes_are_kept():
    kernel, centers = jnp.asarray(normal(8), jnp.bfloat16), padded(-1.0, 1.0)
    for bits in (1, 32):
        found = quantize(kernel, centers, bits, jnp.ones(8))
        assert found.dtype == jnp.bfloat16


def test_all_widths_run_the_same_program():
    kernel, alive = normal(3, 3, 8, 8), np.ones((1, 1, 8, 1), np.float32)
    centers = fit_centers(kernel, 8)

    @jax.jit
    def gradient(kernel, centers, bits, alive):
        def total(kernel, centers):
            return jnp.square(codebook_quantize(kernel, centers, bits, alive)).sum()

        return jax.grad(total, (0, 1))(kernel, centers)

    jax.block_until_ready(gradient(kernel, centers, 4, alive))
    before = compilations()
    found = [np.asarray(gradient(kernel, centers, bits, alive)[0]) for bits in WIDTHS]
    assert compilations() == before
    assert len({each.tobytes() for each in found}) == len(WIDTHS)
