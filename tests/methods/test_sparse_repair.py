"""Repair of sparse kernels: against ``numpy.linalg.lstsq``, and never worse than none."""

from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfrl.compression.sliced import run_graph
from pfrl.data import load
from pfrl.graph import trace
from pfrl.graph.kernels import Kernel
from pfrl.graph.masks import Masks, slice_variables
from pfrl.methods.repair.reconstruct import Gram, ReconstructError, gather, repair
from pfrl.methods.repair.sparse_repair import repair_sparse
from pfrl.methods.sparsity.sparsify import magnitude_mask, n_of_m_mask
from pfrl.models.catalogue import build, load_weights, pretrained_path
from tests.support.tiny import Dense, made, randomised, resnet8, shape

EVERY = 10**6
"""More positions than any image has: the gathered inputs are then all that there are."""
# The tiny ridge leaves least squares as it is; float32 sums agree to about 1e-5.
NO_RIDGE = 1e-7


def normal(*size, seed=0):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def least_squares(rows, weights, stays):
    """``argmin ‖rows weights − rows W'‖²`` with ``W'`` zero where it does not stay."""
    result = np.zeros(weights.shape)
    for column, on in enumerate(stays.T):
        outputs = rows @ weights[:, column]
        result[on, column] = np.linalg.lstsq(rows[:, on], outputs, rcond=None)[0]
    return result


def test_a_dense_layer_is_what_lstsq_gives():
    graph = trace(made(Dense), shape(40, 3))
    x, variables = normal(40, 3), graph.source.variables
    stays = np.array([[1, 0], [1, 1], [0, 0], [1, 0]], bool)
    grams = gather(graph, variables, [x])
    repaired = repair_sparse(graph, grams, variables, {"b.kernel": stays}, NO_RIDGE)
    hidden = np.maximum(x @ np.asarray(variables["a.kernel"]) + variables["a.bias"], 0)
    old = np.asarray(variables["b.kernel"])
    expected = least_squares(hidden.astype(np.float64), old, stays)
    assert np.abs(expected - old)[stays].min() > 0.01
    np.testing.assert_allclose(repaired["b.kernel"], expected, rtol=1e-3, atol=2e-4)
    assert repaired["b.kernel"].dtype == np.float32
    assert (repaired["b.kernel"][~stays] == 0).all()
    for name in ("a.kernel", "a.bias", "b.bias"):
        assert repaired[name] is variables[name]


def grouped(p, x):
    """Eight channels in two groups of four, of which a grouped convolution makes 2 × 3."""
    options = {
        "window_strides": (1, 1),
        "padding": "VALID",
        "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
    }
    x = jax.nn.relu(jax.lax.conv_general_dilated(x, p["a"], **options))
    return jax.lax.conv_general_dilated(x, p["b"], feature_group_count=2, **options)


def test_a_grouped_convolution_is_solved_group_by_group():
    p = {"a": normal(1, 1, 3, 8), "b": normal(2, 2, 4, 6, seed=1)}
    graph, x = trace(grouped, shape(6, 5, 5, 3), variables=p), normal(6, 5, 5, 3, seed=2)
    stays = np.random.default_rng(3).random(p["b"].shape) < 0.6
    stays[..., 4] = stays[..., 3]
    repaired = repair_sparse(graph, gather(graph, p, [x], EVERY), p, {"b": stays}, NO_RIDGE)["b"]
    hidden = np.maximum(np.einsum("nhwi,io->nhwo", x, p["a"][0, 0]), 0)
    windows = np.lib.stride_tricks.sliding_window_view(hidden, (2, 2), axis=(1, 2))
    for group in range(2):
        # [N · H' · W', taps · channels]
        rows = windows[:, :, :, 4 * group : 4 * group + 4].transpose(0, 1, 2, 4, 5, 3)
        rows = rows.reshape(-1, 16).astype(np.float64)
        outputs = slice(3 * group, 3 * group + 3)
        old, mask = (value[..., outputs].reshape(16, 3) for value in (p["b"], stays))
        expected = least_squares(rows, old, mask)
        np.testing.assert_allclose(
            repaired[..., outputs].reshape(16, 3), expected, rtol=1e-3, atol=5e-4
        )


def matrix_case(seed, inputs, outputs, on):
    """A dense kernel ``[K, M]`` of one layer with its Gram matrix, and a mask of that share."""
    rng = np.random.default_rng(seed)
    # Inputs that depend on one another, some of them almost completely.
    rows = rng.normal(size=(3 * inputs, inputs)) @ rng.normal(size=(inputs, inputs)) ** 3
    weights = rng.normal(size=(inputs, outputs))
    return rows, weights, rng.random(weights.shape) < on


def repaired_matrix(rows, weights, stays, ridge):
    """``repair_sparse`` of one matrix, in float64."""
    inputs, outputs = weights.shape
    graph = trace(lambda p, x: x @ p["w"], shape(2, inputs), variables={"w": np.float32(weights)})
    places = np.arange(weights.size, dtype=np.int32).reshape(1, inputs, outputs)
    gram = Gram(Kernel(("w",), "w", places, (inputs,)), (rows.T @ rows)[None], len(rows))
    return repair_sparse(graph, (gram,), {"w": weights}, {"w": stays}, ridge)["w"]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 4),
    on=st.floats(0, 1),
    ridge=st.sampled_from([1e-6, 1e-4, 1e-1, 10]),
)
def test_it_is_the_minimum_and_so_never_worse_than_no_repair(seed, inputs, outputs, on, ridge):
    rows, weights, stays = matrix_case(seed, inputs, outputs, on)
    got = repaired_matrix(rows, weights, stays, ridge)
    assert (got[~stays] == 0).all()
    read = stays.any(axis=1)
    damping = np.sqrt(ridge * np.square(rows[:, read]).sum(axis=0).mean()) if read.any() else 0
    for column, on in enumerate(stays.T):
        # The damping as so many more inputs: √λ times the distance from the old weights.
        more = np.concatenate([rows[:, on], damping * np.eye(on.sum())])
        outputs = np.concatenate([rows @ weights[:, column], damping * weights[on, column]])
        expected = np.linalg.lstsq(more, outputs, rcond=None)[0]
        np.testing.assert_allclose(more @ got[on, column], more @ expected, rtol=1e-4, atol=1e-4)
    before, after = (
        np.square(rows @ (weights - kernel)).sum(axis=0) for kernel in (weights * stays, got)
    )
    assert (after <= before * (1 + 1e-9) + 1e-9).all()


def test_inputs_that_are_always_zero_change_nothing():
    weights, stays = normal(3, 2).astype(np.float64), np.array([[1, 0], [0, 1], [1, 1]], bool)
    got = repaired_matrix(np.zeros((4, 3)), weights, stays, 1e-4)
    np.testing.assert_array_equal(got, np.where(stays, weights, 0))


@cache
def resnet_case():
    graph = trace(made(resnet8), shape(16, 8, 8, 1))
    variables = randomised(graph.source.variables, 3)
    return graph, variables, gather(graph, variables, [normal(16, 8, 8, 1)])


def full_masks(graph, kept):
    """By kernel, where its channels stay."""
    masks, names = Masks(graph), {layer.kernel for layer in graph.layers}
    ones = {name: np.ones_like(value) for name, value in graph.source.variables.items()}
    applied = jax.jit(masks.apply)(ones, masks.vector(kept))
    return {name: np.asarray(applied[name]) > 0 for name in names}


def test_where_whole_channels_go_it_is_the_repair_of_channels():
    graph, variables, grams = resnet_case()
    kept = {name: np.arange(0, group.size, 2) for name, group in graph.groups.items()}
    sparse = repair_sparse(graph, grams, variables, full_masks(graph, kept))
    whole = repair(graph, grams, variables, kept)
    for name, value in slice_variables(graph, whole, kept).items():
        same = slice_variables(graph, sparse, kept)[name]
        np.testing.assert_allclose(same, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ridge", [1e-6, 1e-4, 1e-1, 10])
def test_the_error_of_no_layer_grows_with_channels_and_weights_off(ridge):
    graph, variables, grams = resnet_case()
    kept = {name: np.arange(group.size * 3 // 4) for name, group in graph.groups.items()}
    rng, better = np.random.default_rng(0), 0
    masks = {
        name: mask & (rng.random(mask.shape) < 0.6)
        for name, mask in full_masks(graph, kept).items()
    }
    repaired = repair_sparse(graph, grams, variables, masks, ridge)
    for kernel, matrices, _ in grams:
        old = np.asarray(variables[kernel.variable], np.float64).ravel()[kernel.places]
        new = np.asarray(repaired[kernel.variable], np.float64).ravel()[kernel.places]
        stays = masks[kernel.variable].ravel()[kernel.places]
        # ‖X d‖² = dᵀ G d of the difference d in the weights of an output.
        before, after = (
            np.einsum("gkm,gkl,glm->gm", d, matrices, d) for d in (old * ~stays, old - new)
        )
        assert (after <= before * (1 + 1e-5)).all()
        better += after.sum() < 0.9 * before.sum()
    assert better > 0 or ridge == 10
    # The first kernel has no Gram matrix: its mask is applied.
    first = graph.layers[0].kernel
    assert first not in {gram.kernel.variable for gram in grams}
    np.testing.assert_array_equal(repaired[first], variables[first] * masks[first])


def test_masks_that_fit_no_kernel_are_refused():
    graph = trace(made(Dense), shape(4, 3))
    variables = graph.source.variables
    with pytest.raises(ReconstructError, match=r"mask for 'b\.bias', which is no kernel"):
        repair_sparse(graph, (), variables, {"b.bias": np.ones(2)})
    with pytest.raises(ReconstructError, match=r"has shape \(2, 4\); expected .* \(4, 2\)"):
        repair_sparse(graph, (), variables, {"b.kernel": np.ones((2, 4))})
    with pytest.raises(ReconstructError, match="a ridge above zero, such as 1e-4, got 0"):
        repair_sparse(graph, (), variables, {}, ridge=0)


def test_most_weights_of_a_trained_network_are_not_missed():
    data = load("digits")
    path = pretrained_path("resnet8", "digits")
    assert path is not None
    model, _ = load_weights(build("resnet8", 10, data.image_shape, 0), path)
    graph = trace(model, shape(64, *data.image_shape))
    variables, images = graph.source.variables, data.normalize(data.search.images)
    first, *inner, last = graph.layers
    # Of all weights 85 %, none of them in the first and the last layer.
    sizes = {layer.name: layer.params for layer in graph.layers}
    share = 0.85 * sum(sizes.values()) / sum(sizes[layer.name] for layer in inner)
    shares = dict.fromkeys(sizes, share) | {first.name: 0.0, last.name: 0.0}

    @jax.jit
    def find_masks(variables):
        blocks = {layer.kernel: n_of_m_mask(variables[layer.kernel], 1, 8) for layer in inner}
        largest = {
            layer.kernel: magnitude_mask(variables[layer.kernel], shares[layer.name])
            for layer in graph.layers
        }
        return {"largest": largest, "1 of 8": blocks}

    predict = jax.jit(lambda v: run_graph(graph, v, images, False)[0])

    def accuracy(variables):
        return (np.asarray(predict(variables)).argmax(-1) == data.search.labels).mean()

    rng = np.random.default_rng(0)
    grams = gather(graph, variables, [x for x, _ in data.training_batches(64, rng, 8)])
    for (pattern, masks), least in zip(find_masks(variables).items(), (0.4, 0.8), strict=True):
        masks = {name: np.asarray(mask) for name, mask in masks.items()}
        before = accuracy({**variables, **{n: variables[n] * mask for n, mask in masks.items()}})
        after = accuracy(repair_sparse(graph, grams, variables, masks))
        print(f"{pattern}: accuracy {before:.3f} as pruned, {after:.3f} repaired")
        assert before < 0.2
        assert after >= least
