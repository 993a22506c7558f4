"""Closed-form repair: against ``numpy.linalg.lstsq`` on explicit patches, and on real weights."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.compression.policy import Policy
from pfrl.compression.sliced import Compressed, run_graph
from pfrl.data import load
from pfrl.graph import trace
from pfrl.graph.masks import Masks, slice_variables
from pfrl.methods.channels.base import choose
from pfrl.methods.channels.criteria import l1_scores
from pfrl.methods.repair.reconstruct import ReconstructError, gather, repair
from pfrl.models.catalogue import build, load_weights, pretrained_path
from tests.support.tiny import Dense, Shared, TwoConvs, made, randomised, resnet8, shape

EVERY = 10**6
"""More positions than any image has: the gathered inputs are then all that there are."""
# The tiny ridge leaves least squares as it is; float32 sums agree to about 1e-5.
NO_RIDGE = 1e-7


def assert_close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-4)


def normal(*size, seed=0):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def kept_of(graph, **chosen):
    """All channels of all groups, but for those given."""
    return {name: np.arange(group.size) for name, group in graph.groups.items()} | chosen


def halves(graph, seed=0):
    """A random half of the channels of every group."""
    rng = np.random.default_rng(seed)
    scores = {name: rng.random(group.size) for name, group in graph.groups.items()}
    return choose(scores, {name: group.size // 2 for name, group in graph.groups.items()})


def conv(x, kernel, **options):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, dimension_numbers=dimensions, **options)


def windows(x, taps, strides, padding, dilation=(1, 1)):
    """Explicit patches ``[N · H' · W', taps · C]`` of ``x`` ``[N, H, W, C]``."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    spans = [d * (k - 1) + 1 for k, d in zip(taps, dilation, strict=True)]
    corners = [
        range(0, size - span + 1, step)
        for size, span, step in zip(x.shape[1:3], spans, strides, strict=True)
    ]
    rows = []
    for image, top, left in itertools.product(x, *corners):
        window = image[top : top + spans[0] : dilation[0], left : left + spans[1] : dilation[1], :]
        rows.append(window.ravel())
    return np.array(rows, np.float64)


def least_squares(rows, weights, stays):
    """``argmin ‖rows weights − rows[:, stays] W'‖²``, zero where it does not stay."""
    result = np.zeros(weights.shape)
    result[stays] = np.linalg.lstsq(rows[:, stays], rows @ weights, rcond=None)[0]
    return result


def test_a_dense_layer_is_what_lstsq_gives():
    graph = trace(made(Dense), shape(40, 3))
    x, variables = normal(40, 3), graph.source.variables
    grams = gather(graph, variables, [x[:20], x[20:]])
    repaired = repair(graph, grams, variables, {"a": np.array([0, 2, 3])}, NO_RIDGE)
    hidden = np.maximum(x @ np.asarray(variables["a.kernel"]) + variables["a.bias"], 0)
    old = np.asarray(variables["b.kernel"])
    expected = least_squares(hidden.astype(np.float64), old, [0, 2, 3])
    assert np.abs(expected - old)[[0, 2, 3]].max() > 0.01
    assert_close(repaired["b.kernel"], expected)
    assert repaired["b.kernel"].dtype == np.float32
    (gram,) = grams
    assert gram.rows == 40
    np.testing.assert_allclose(gram.matrix[0], hidden.T @ hidden, rtol=1e-4, atol=1e-4)
    for name in ("a.kernel", "a.bias", "b.bias"):
        assert repaired[name] is variables[name]


STRIDED = {
    "window_strides": (2, 1),
    "padding": ((1, 2), (0, 1)),
    "rhs_dilation": (1, 2),
}


def two_convs(p, x):
    return conv(
        jax.nn.relu(conv(x, p["a"], window_strides=(1, 1), padding="SAME")), p["b"], **STRIDED
    )


def test_a_convolution_with_stride_padding_and_dilation_is_what_lstsq_gives():
    p = {"a": normal(3, 3, 2, 5), "b": normal(3, 3, 5, 4, seed=1)}
    graph = trace(two_convs, shape(6, 8, 8, 2), variables=p)
    x, stays = normal(6, 8, 8, 2, seed=2), np.array([0, 3, 4])
    repaired = repair(graph, gather(graph, p, [x], EVERY), p, {"a": stays}, NO_RIDGE)
    hidden = jax.nn.relu(conv(x, p["a"], window_strides=(1, 1), padding="SAME"))
    rows = windows(np.asarray(hidden), (3, 3), (2, 1), ((1, 2), (0, 1)), (1, 2))
    assert rows.shape == (6 * 5 * 5, 9 * 5)
    # Row t · 5 + c of the kernel's matrix is tap t of channel c.
    by_row = (5 * np.arange(9)[:, None] + stays).ravel()
    expected = least_squares(rows, p["b"].reshape(45, 4), by_row)
    assert_close(repaired["b"].reshape(45, 4), expected)
    assert (repaired["b"][:, :, [1, 2]] == 0).all()


def upsampling(p, x):
    x = jax.nn.relu(conv(x, p["a"], window_strides=(1, 1), padding="SAME"))
    return jax.lax.conv_transpose(x, p["b"], (2, 2), "SAME")


def test_a_transposed_convolution_is_what_lstsq_gives():
    p = {"a": normal(1, 1, 2, 4), "b": normal(3, 3, 4, 3, seed=1)}
    graph = trace(upsampling, shape(6, 4, 4, 2), variables=p)
    x, stays = normal(6, 4, 4, 2, seed=2), np.array([1, 2])
    repaired = repair(graph, gather(graph, p, [x], EVERY), p, {"a": stays}, NO_RIDGE)
    # Zeros between the inputs, 7 × 7, then 8 × 8 windows: two places of padding before, one after.
    spread = np.zeros((6, 7, 7, 4), np.float32)
    spread[:, ::2, ::2] = np.maximum(np.einsum("nhwi,io->nhwo", x, p["a"][0, 0]), 0)
    rows = windows(spread, (3, 3), (1, 1), ((2, 1), (2, 1)))
    by_row = (4 * np.arange(9)[:, None] + stays).ravel()
    outputs = jax.jit(upsampling)(p, x).reshape(-1, 3)
    np.testing.assert_allclose(rows @ p["b"].reshape(36, 3), outputs, rtol=1e-4, atol=1e-4)
    expected = least_squares(rows, p["b"].reshape(36, 3), by_row)
    assert_close(repaired["b"].reshape(36, 3), expected)


def grouped(p, x):
    """Eight channels in two groups of four, of which a grouped convolution makes 2 × 3."""
    x = jax.nn.relu(conv(x, p["a"], window_strides=(1, 1), padding="VALID"))
    options = {"window_strides": (1, 1), "padding": "VALID", "feature_group_count": 2}
    return conv(x, p["b"], **options)


def test_a_grouped_convolution_is_solved_group_by_group():
    p = {"a": normal(1, 1, 3, 8), "b": normal(2, 2, 4, 6, seed=1)}
    graph = trace(grouped, shape(6, 5, 5, 3), variables=p)
    (inner,) = (
        (name, member)
        for name, group in graph.groups.items()
        for member in group.members
        if (member.parameter, member.axis) == ("b", 2)
    )
    name, member = inner
    kept = kept_of(graph, **{name: np.array([0, 2, 3])})
    x = normal(6, 5, 5, 3, seed=2)
    repaired = repair(graph, gather(graph, p, [x], EVERY), p, kept, NO_RIDGE)["b"]
    places = member.indices[[0, 2, 3]].ravel()
    by_row = (4 * np.arange(4)[:, None] + places).ravel()
    hidden = np.maximum(np.einsum("nhwi,io->nhwo", x, p["a"][0, 0]), 0)
    for group in range(2):
        outputs = slice(3 * group, 3 * group + 3)
        rows = windows(hidden[..., 4 * group : 4 * group + 4], (2, 2), (1, 1), ((0, 0), (0, 0)))
        expected = least_squares(rows, p["b"][..., outputs].reshape(16, 3), by_row)
        assert_close(repaired[..., outputs].reshape(16, 3), expected)


def heads(p, x):
    """Tokens ``[N, T, 3]`` to two heads of four features, put together by a kernel of two axes."""
    x = jax.nn.relu(jnp.einsum("ntc,chd->nthd", x, p["a"]))
    return jnp.einsum("nthd,hdo->nto", x, p["b"])


def test_the_summed_axes_of_a_dense_kernel_are_flattened():
    p = {"a": normal(3, 2, 4), "b": normal(2, 4, 5, seed=1)}
    graph = trace(heads, shape(6, 7, 3), variables=p)
    (features,) = (
        name
        for name, group in graph.groups.items()
        if any((m.parameter, m.axis) == ("b", 1) for m in group.members)
    )
    x, stays = normal(6, 7, 3, seed=2), np.array([0, 2, 3])
    kept = kept_of(graph, **{features: stays})
    grams = gather(graph, p, [x], EVERY)
    repaired = repair(graph, grams, p, kept, NO_RIDGE)["b"]
    rows = np.maximum(np.einsum("ntc,chd->nthd", x, p["a"]), 0).reshape(42, 8)
    by_row = np.array([0, 2, 3, 4, 6, 7])
    expected = least_squares(rows.astype(np.float64), p["b"].reshape(8, 5), by_row)
    assert_close(repaired.reshape(8, 5), expected)


def test_a_kernel_that_two_layers_use_takes_the_sum_of_what_they_read():
    graph = trace(made(Shared), shape(8, 6, 6, 2))
    variables, x = graph.source.variables, normal(8, 6, 6, 2)
    shared, *_ = (g for g in gather(graph, variables, [x], EVERY) if len(g.kernel.layers) == 2)
    same = {"window_strides": (1, 1), "padding": "SAME"}
    total, hidden = np.zeros((54, 54)), x
    for name in ("first", "shared"):
        hidden = conv(hidden, variables[f"{name}.kernel"], **same) + variables[f"{name}.bias"]
        hidden = jax.nn.relu(hidden)
        rows = windows(np.asarray(hidden), (3, 3), (1, 1), ((1, 1), (1, 1)))
        total += rows.T @ rows
    assert shared.kernel.layers == ("shared", "shared#2")
    assert shared.rows == 2 * 8 * 36
    np.testing.assert_allclose(shared.matrix[0], total, rtol=1e-4, atol=1e-2)


def tied(p, x):
    """One kernel forwards and, transposed, backwards."""
    x = jax.nn.relu(x @ p["a"])
    return (jax.nn.relu(x @ p["b"]) @ p["b"].T) @ p["c"]


def transposed(p, x):
    return jax.nn.relu(x @ p["a"]) @ p["b"].T


def test_a_kernel_used_in_two_arrangements_is_left_alone_and_one_used_transposed_is_not():
    p = {"a": normal(3, 6), "b": normal(6, 5, seed=1), "c": normal(6, 2, seed=2)}
    graph, x = trace(tied, shape(20, 3), variables=p), normal(20, 3)
    assert {gram.kernel.variable for gram in gather(graph, p, [x])} == {"c"}
    p = {"a": normal(3, 6), "b": normal(5, 6, seed=1)}
    graph, stays = trace(transposed, shape(20, 3), variables=p), [0, 1, 4]
    repaired = repair(graph, gather(graph, p, [x]), p, {"a": np.array(stays)}, NO_RIDGE)
    hidden = np.maximum(x.astype(np.float64) @ p["a"], 0)
    expected = least_squares(hidden, p["b"].T, stays).T
    assert_close(repaired["b"], expected)


def depthwise(p, x):
    options = {"window_strides": (1, 1), "padding": "SAME"}
    x = jax.nn.relu(conv(x, p["a"], **options))
    x = jax.nn.relu(conv(x, p["b"], feature_group_count=4, **options))
    return conv(x, p["c"], **options)


def test_depthwise_convolutions_and_what_loses_nothing_stay_as_they_are():
    p = {"a": normal(1, 1, 3, 4), "b": normal(3, 3, 1, 4), "c": normal(1, 1, 4, 2)}
    graph = trace(depthwise, shape(4, 5, 5, 3), variables=p)
    grams = gather(graph, p, [normal(4, 5, 5, 3)])
    assert [gram.kernel.variable for gram in grams] == ["c"]
    half = repair(graph, grams, p, {"a": np.array([1, 2])})
    assert [name for name in p if half[name] is not p[name]] == ["c"]
    whole = repair(graph, grams, p, kept_of(graph))
    assert all(whole[name] is p[name] for name in p)


def test_one_of_two_equal_channels_is_not_missed():
    p = {"a": normal(3, 3, 2, 5), "b": normal(3, 3, 5, 4, seed=1)}
    p["a"][..., 4] = p["a"][..., 1]
    graph = trace(two_convs, shape(6, 8, 8, 2), variables=p)
    x = normal(6, 8, 8, 2, seed=2)
    kept = {"a": np.arange(4)}
    repaired = repair(graph, gather(graph, p, [x], EVERY), p, kept, NO_RIDGE)
    # What channel 4 gave, channel 1 now gives; the others need nothing.
    expected = p["b"].copy()
    expected[:, :, 1] += expected[:, :, 4]
    expected[:, :, 4] = 0
    assert_close(repaired["b"], expected)
    masked = Masks(graph).apply(repaired, jnp.asarray(Masks(graph).vector(kept)))
    np.testing.assert_allclose(two_convs(masked, x), two_convs(p, x), rtol=1e-3, atol=1e-2)


def test_what_is_always_zero_changes_nothing():
    p = {"a": np.zeros((3, 4), np.float32), "b": normal(4, 2)}
    graph = trace(lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"], shape(5, 3), variables=p)
    grams = gather(graph, p, [normal(5, 3)])
    repaired = repair(graph, grams, p, {"a": np.array([1, 2])})
    np.testing.assert_array_equal(repaired["b"][1:3], p["b"][1:3])
    assert (repaired["b"][[0, 3]] == 0).all()


@pytest.mark.parametrize("ridge", [1e-6, 1e-4, 1e-1, 10])
def test_the_error_is_never_larger_than_without_repair(ridge):
    graph = trace(made(resnet8), shape(16, 8, 8, 1))
    variables = randomised(graph.source.variables, 3)
    grams = gather(graph, variables, [normal(16, 8, 8, 1)])
    better = 0
    for seed in range(3):
        kept = halves(graph, seed)
        removed = graph.removed_atoms(graph.program(graph.inputs[0], False)[0], kept)
        repaired = repair(graph, grams, variables, kept, ridge)
        for kernel, matrices, _ in grams:
            stays = ~kernel.gone(removed)[:, None]
            old = np.asarray(variables[kernel.variable], np.float64).ravel()[kernel.places]
            new = np.asarray(repaired[kernel.variable], np.float64).ravel()[kernel.places]
            # ‖X D‖² = trace(Dᵀ G D) of the difference D in the kernel.
            before, after = (
                sum(np.trace(d.T @ g @ d) for d, g in zip(difference, matrices, strict=True))
                for difference in (old * ~stays, old - new)
            )
            assert after <= before * (1 + 1e-6)
            better += after < 0.9 * before
    assert better > 0 or ridge == 10


@pytest.mark.parametrize(("network", "image"), [(TwoConvs, (8, 8, 1)), (resnet8, (8, 8, 1))])
def test_masked_and_repaired_is_sliced_and_repaired(network, image):
    graph = trace(made(network), shape(8, *image))
    variables, x, kept = graph.source.variables, normal(8, *image), halves(graph)
    repaired = repair(graph, gather(graph, variables, [x]), variables, kept)
    assert {k: v.shape for k, v in repaired.items()} == {k: v.shape for k, v in variables.items()}
    masks = Masks(graph)
    masked = jax.jit(lambda v, m: run_graph(graph, masks.apply(v, m), x, False)[0])
    sliced = slice_variables(graph, repaired, kept)
    small = Compressed(graph, Policy.uniform(graph), kept, sliced)
    expected = jax.jit(lambda v: small.apply(v, x, False)[0])(sliced)
    got = masked(repaired, masks.vector(kept))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * scale)
    assert np.abs(masked(variables, masks.vector(kept)) - got).max() > 1e-2 * scale


def test_the_positions_are_drawn_from_the_seed_and_the_last_batch_may_be_smaller():
    graph = trace(made(TwoConvs), shape(8, 8, 8, 1))
    variables = graph.source.variables
    batches = [normal(8, 8, 8, 1), normal(3, 8, 8, 1, seed=1)]
    first, again, other = (gather(graph, variables, batches, 2, seed) for seed in (0, 0, 1))
    assert [gram.rows for gram in first] == [2 * 11, 11]
    for ours, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(ours.matrix, same.matrix)
        np.testing.assert_allclose(ours.matrix, ours.matrix.transpose(0, 2, 1), rtol=1e-5)
        # The last layer has one position only, and no choice.
        assert np.allclose(ours.matrix, different.matrix) == (ours.rows == 11)


def test_nothing_to_gather_from_and_numbers_out_of_range_are_refused():
    graph = trace(made(Dense), shape(4, 3))
    variables = graph.source.variables
    with pytest.raises(ReconstructError, match="at least one batch"):
        gather(graph, variables, [])
    with pytest.raises(ReconstructError, match="at least 1 position an image, got 0"):
        gather(graph, variables, [normal(4, 3)], positions=0)
    with pytest.raises(ReconstructError, match="a ridge above zero, such as 1e-4, got 0"):
        repair(graph, (), variables, {"a": np.arange(2)}, ridge=0)


def test_half_of_the_inner_channels_of_a_trained_network_are_not_missed():
    data = load("digits")
    path = pretrained_path("resnet8", "digits")
    assert path is not None
    model, _ = load_weights(build("resnet8", 10, data.image_shape, 0), path)
    graph = trace(model, shape(64, *data.image_shape))
    variables, masks = graph.source.variables, Masks(graph)
    share = {name: 0.5 if name.endswith(".0.conv1") else 1.0 for name in graph.groups}
    policy = replace(Policy.uniform(graph), keep=share).checked(graph)
    kept = choose(l1_scores(graph, variables), policy.counts(graph))
    images = data.normalize(data.search.images)
    predict = jax.jit(lambda v, m: run_graph(graph, masks.apply(v, m), images, False)[0])

    def accuracy(variables):
        logits = np.asarray(predict(variables, masks.vector(kept)))
        return (logits.argmax(-1) == data.search.labels).mean()

    rng = np.random.default_rng(0)
    batches = [x for x, _ in data.training_batches(64, rng, 8)]
    repaired = repair(graph, gather(graph, variables, batches), variables, kept)
    before, after = accuracy(variables), accuracy(repaired)
    print(f"accuracy {before:.3f} as pruned, {after:.3f} repaired")
    assert after >= 0.95
    assert after - before >= 0.4
