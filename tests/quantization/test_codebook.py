"""Codebooks: assignment, gradients and sizes worked out by hand; one compilation for all widths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.evaluation.compilations import compilations
from pfrl.methods.quantization import codebook
from pfrl.methods.quantization.codebook import (
    CodebookError,
    codebook_of,
    codebook_quantize,
    fit_codebooks,
    lookup,
)

# Jitted: one operation after the other would compile hundreds of small programs.
quantize = jax.jit(codebook_quantize, static_argnames=("train", "zero"))
assign = jax.jit(codebook.assign)
refit = jax.jit(codebook.refit, static_argnames="zero")
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
    assert lookup(indices, padded(2.0, -1.0, 1.0)).tolist() == [[-1, -1, -1], [1, 1, 2]]


def test_only_so_many_entries_are_used_as_there_are_bits():
    kernel, centers = jnp.array([0.9, 2.2, 3.1]), padded(0.0, 1.0, 2.0, 3.0)
    assert quantize(kernel, centers, 1).tolist() == [1, 1, 1]
    assert quantize(kernel, centers, 2).tolist() == [1, 2, 3]
    assert np.array_equal(quantize(kernel, centers, 32), kernel)


def test_every_width_has_its_codebook():
    kernel = normal(3, 3, 4, 8)
    codebooks = fit_codebooks(kernel)
    assert codebooks.shape == (8, 256) and codebooks.dtype == np.float32
    errors = []
    for bits in range(1, 9):
        centers = codebooks[bits - 1]
        found = quantize(kernel, centers, bits)
        assert len(np.unique(found)) == 2**bits
        assert np.isin(
            found, np.unique(kernel.astype(np.float64)).tolist() + centers.tolist()
        ).all()
        errors.append(float(jnp.square(found - kernel).mean()))
    assert errors == sorted(errors, reverse=True)
    assert np.array_equal(jax.jit(codebook_of)(codebooks, 3), codebooks[2])
    assert np.array_equal(quantize(kernel, codebook_of(codebooks, 32), 32), kernel)


def test_with_as_many_entries_as_values_nothing_is_lost():
    kernel = np.array([[0.5, -2.0], [0.25, 0.5]], np.float32)
    codebooks = fit_codebooks(kernel)
    # Sorted: -2, 0.25, 0.5; the last one fills up.
    assert codebooks[1, :5].tolist() == [-2, 0.25, 0.5, 0.5, 0.5]
    for bits in (2, 8):
        assert np.array_equal(quantize(kernel, codebooks[bits - 1], bits), kernel)


def test_removed_channels_stay_zero_and_do_not_count():
    kernel = normal(3, 3, 6, 4)
    kernel[:, :, [1, 4]] = 0
    alive = np.ones((1, 1, 6, 1), np.float32)
    alive[:, :, [1, 4]] = 0
    sliced = np.delete(kernel, [1, 4], axis=2)
    for init in ("quantile", "kmeans++"):
        codebooks = fit_codebooks(kernel, alive, init=init)
        assert np.array_equal(codebooks, fit_codebooks(sliced, init=init))
    for bits in (1, 4, 8, 32):
        centers = codebooks[min(bits, 8) - 1]
        masked = quantize(kernel, centers, bits, alive)
        assert not masked[:, :, [1, 4]].any()
        assert np.array_equal(np.delete(masked, [1, 4], 2), quantize(sliced, centers, bits))
        indices, kept = (assign(k, centers, 2 ** min(bits, 8)) for k in (kernel, sliced))
        moved = refit(kernel, indices, centers, alive)
        assert np.allclose(moved, refit(sliced, kept, centers), atol=1e-6)


def test_gradients_of_every_mode():
    kernel, centers = jnp.array([0.1, 0.4, 1.2, 9.0]), padded(0.0, 1.0)
    factors, alive = jnp.array([1.0, 2.0, 4.0, 8.0]), jnp.array([1.0, 1.0, 1.0, 0.0])

    def gradients(train, bits=1):
        def total(kernel, centers):
            return (factors * quantize(kernel, centers, bits, alive, train=train)).sum()

        both = jax.jit(jax.grad(total, (0, 1)))(kernel, centers)
        to_kernel, to_centers = (np.asarray(gradient).tolist() for gradient in both)
        assert not any(to_centers[2:])
        return to_kernel, to_centers[:2]

    # The first two weights are in cluster 0, the third in cluster 1, the last was removed.
    assert gradients("weights") == ([1, 2, 4, 0], [0, 0])
    assert gradients("clusters") == ([0, 0, 0, 0], [3, 4])
    assert gradients("both") == ([1, 2, 4, 0], [3, 4])
    # At 32 bits nothing is clustered: weights are all that there is to be trained.
    assert gradients("clusters", 32) == ([1, 2, 4, 8], [0, 0])


def test_given_indices_are_kept():
    kernel, centers = jnp.array([0.1, 0.9]), padded(0.0, 1.0)
    indices = assign(kernel, centers, 2)
    moved = padded(2.0, -1.0)
    fixed = quantize(kernel, moved, 1, train="clusters", indices=indices)
    assert fixed.tolist() == [2, -1]
    assert quantize(kernel, moved, 1, train="clusters").tolist() == [-1, 2]


def test_training_the_clusters_finds_their_means():
    # The loss is the squared distance to [1, 3, 10]; the best centers are (1 + 3) / 2 and 10.
    kernel, target = jnp.array([0.0, 0.2, 5.0]), jnp.array([1.0, 3.0, 10.0])
    centers = padded(0.1, 5.0)
    indices = assign(kernel, centers, 2)

    @jax.jit
    def step(centers):
        def loss(centers):
            found = codebook_quantize(kernel, centers, 1, train="clusters", indices=indices)
            return jnp.square(found - target).sum()

        return centers - 0.2 * jax.grad(loss)(centers)

    for _ in range(50):
        centers = step(centers)
    assert np.allclose(centers[:2], [2, 10])


def test_refitting_takes_the_means():
    kernel, indices = jnp.array([1.0, 2.0, 6.0]), jnp.array([0, 0, 2], jnp.uint8)
    moved = refit(kernel, indices, padded(0.0, 4.0, 5.0))
    # Entry 1 has no weight and stays.
    assert moved[:4].tolist() == [1.5, 4, 6, padded()[3]]
    assert refit(kernel, indices, padded(0.0, 4.0, 5.0), zero=True)[:3].tolist() == [0, 4, 6]


def test_an_entry_that_is_exactly_zero():
    kernel = normal(400)
    kernel[np.abs(kernel) < 1] = 0
    codebooks = fit_codebooks(kernel, zero=True)
    assert not codebooks[:, 0].any()
    for bits in (1, 2, 8):
        centers = codebooks[bits - 1]
        assert len(np.unique(centers[: 2**bits])) == min(2**bits, len(np.unique(kernel)))
        # Even after training has moved it.
        centers[0] = 0.1
        found = np.asarray(quantize(kernel, centers, bits, zero=True))
        assert not found[kernel == 0].any()
    total = jax.grad(lambda c: quantize(kernel, c, 2, train="both", zero=True).sum())
    gradient = np.asarray(jax.jit(total)(jnp.asarray(codebooks[1])))
    assert gradient[0] == 0 and (gradient[1:4] > 0).all()


def test_dtypes_are_kept():
    kernel, centers = jnp.asarray(normal(8), jnp.bfloat16), padded(-1.0, 1.0)
    for bits in (1, 32):
        found = quantize(kernel, centers, bits, jnp.ones(8))
        assert found.dtype == jnp.bfloat16
    assert refit(kernel, assign(kernel, centers, 2), centers).dtype == centers.dtype


def test_all_widths_run_the_same_program():
    kernel, alive = normal(3, 3, 8, 8), np.ones((1, 1, 8, 1), np.float32)
    codebooks = fit_codebooks(kernel)

    @jax.jit
    def gradient(kernel, codebooks, bits, alive):
        def total(kernel, codebooks):
            centers = codebook_of(codebooks, bits)
            return jnp.square(codebook_quantize(kernel, centers, bits, alive, train="both")).sum()

        return jax.grad(total, (0, 1))(kernel, codebooks)

    jax.block_until_ready(gradient(kernel, codebooks, 4, alive))
    before = compilations()
    found = [np.asarray(gradient(kernel, codebooks, bits, alive)[0]) for bits in WIDTHS]
    assert compilations() == before
    assert len({each.tobytes() for each in found}) == len(WIDTHS)


def test_an_unknown_mode_is_refused():
    with pytest.raises(CodebookError, match="choose one of weights, clusters, both"):
        codebook_quantize(jnp.ones(2), padded(1.0), 1, train="all")
