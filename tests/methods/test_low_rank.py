"""Low rank: kernels split by hand, and decomposed networks that compute, shrink and repair."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pfrl.compression.calibration import gather_statistics
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.compression.saved import load, save
from pfrl.compression.sliced import compress
from pfrl.deploy.onnx.export import to_onnx
from pfrl.graph import trace
from pfrl.graph.frontends import from_function
from pfrl.graph.masks import Masks
from pfrl.methods.low_rank.decompose import DecomposeError, decomposable, decompose
from pfrl.methods.low_rank.factors import split_kernel, split_matrix
from pfrl.methods.repair.reconstruct import gather, repair
from tests.support.conformance import QUICK, check
from tests.support.tiny import Branches, Shared, TwoConvs, made, shape


def normal(*size, seed=0):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


@cache
def two_convs():
    return trace(made(TwoConvs), shape(6, 8, 8, 1))


@cache
def jitted(apply):
    return jax.jit(apply, static_argnums=2, compiler_options=QUICK)


def outputs(source, x, train=False):
    return np.asarray(jitted(source.apply)(source.variables, x, train)[0])


def assert_same(source, other, x):
    """Equal outputs in both modes, to 1e-5 of the largest."""
    for train in (False, True):
        expected = outputs(source, x, train)
        assert np.abs(expected).max() > 0.01
        assert np.abs(outputs(other, x, train) - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_matrix_of_rank_one():
    # [[3, 0], [4, 0]] = 5 · (0.6, 0.8)ᵀ (1, 0).
    first, second = split_matrix(np.array([[3.0, 0.0], [4.0, 0.0]]), 1)
    sign, root = np.sign(second[0, 0]), np.sqrt(5)
    assert np.allclose(first, sign * root * np.array([[0.6], [0.8]]))
    assert np.allclose(second, sign * root * np.array([[1, 0]]))


def test_norms_are_roots_of_the_singular_values():
    matrix = normal(7, 5)
    first, second = split_matrix(matrix, 5)
    values = np.linalg.svd(matrix, compute_uv=False)
    assert np.allclose(first @ second, matrix, atol=1e-6)
    assert np.allclose(np.square(first).sum(0), values, rtol=1e-5)
    assert np.allclose(np.square(second).sum(1), values, rtol=1e-5)
    # Without the last two channels the error is that of the two smallest values.
    error = np.square(first[:, :3] @ second[:3] - matrix).sum()
    assert np.allclose(error, np.square(values[3:]).sum(), rtol=1e-4)


def test_a_separable_kernel_has_spatial_rank_one():
    # Sobel's edge filter is a mean down the rows of a difference along them; two such
    # channels added.
    down, along = np.array([1.0, 2, 1]), np.array([-1.0, 0, 1])
    kernel = np.einsum("a,b,i->abi", down, along, [1.0, -3.0])[..., None]
    first, second = split_kernel(kernel, (0,), 1)
    assert first.shape == (3, 1, 2, 1) and second.shape == (1, 3, 1, 1)
    assert np.allclose(np.einsum("axir,xbro->abio", first, second), kernel)
    assert np.allclose(first[:, 0, 0, 0] / first[0, 0, 0, 0], down)
    assert np.allclose(second[0, :, 0, 0] / second[0, 2, 0, 0], along)


def test_split_kernels_multiply_to_the_kernel():
    kernel = normal(3, 5, 4, 6)
    first, second = split_kernel(kernel, (0, 1), 6)
    assert first.shape == (3, 5, 4, 6) and second.shape == (1, 1, 6, 6)
    assert np.allclose(first @ second[0, 0], kernel, atol=1e-5)
    first, second = split_kernel(kernel, (0,), 12)
    assert first.shape == (3, 1, 4, 12) and second.shape == (1, 5, 12, 6)
    assert np.allclose(np.einsum("axir,xbro->abio", first, second), kernel, atol=1e-5)
    line = normal(5, 4, 6)
    first, second = split_kernel(line, (0,), 6)
    assert np.allclose(first @ second[0], line, atol=1e-5)


def test_break_even_ranks():
    # conv1: 9 · 1 · 8 at 64 positions, 4608. As 'channel' a rank costs (9 + 8) · 64 = 1088, as
    # 'spatial' (3 + 3 · 8) · 64 = 1728. conv2: 9 · 8 · 8 at 16 positions, 9216. 'channel':
    # (72 + 8) · 16 = 1280; 'spatial': 3 · 8 · 32 + 3 · 8 · 16 = 1152, as its first half has the
    # stride along one axis alone. linear: 32 against 8 + 4.
    assert decomposable(two_convs()) == {
        "conv1": {"channel": 4, "spatial": 2},
        "conv2": {"channel": 7, "spatial": 8},
        "linear": {"svd": 2},
    }


def test_depthwise_and_too_small_layers_are_left_out():
    graph = trace(made(Branches), shape(2, 6, 6, 2))
    found = decomposable(graph)
    assert set(found) == {"left", "right", "mix", "out"}
    # right: 2 · 4 against 2 + 4 as a 1 × 1 convolution, whatever it is called.
    assert found["right"] == {"svd": 1, "channel": 1, "spatial": 1}


KINDS = {"conv1": "spatial", "conv2": "channel", "linear": "svd"}


def test_inner_groups_are_found_and_cost_what_they_should():
    graph = trace(decompose(two_convs(), KINDS), *two_convs().inputs)
    sizes = {"conv1.first": 2, "conv2.first": 7, "linear.first": 2}
    assert {name: graph.groups[name].size for name in sizes} == sizes
    for name in sizes:
        second = name.replace("first", "second")
        assert graph.groups[name].producers == (name,)
        assert graph.groups[name].consumers == (second,)
        assert [m.parameter for m in graph.groups[name].members] == [
            f"{name}.kernel",
            f"{second}.kernel",
        ]
    # The channels of the layers themselves are as before.
    others = {name: group.size for name, group in graph.groups.items() if name not in sizes}
    assert others == {"conv1.second": 8, "conv2.second": 8}
    # See test_break_even_ranks.
    assert graph.macs == 2 * 1728 + 7 * 1280 + 2 * 12
    assert graph.macs_at(graph.full_counts() | {"conv2.first": 3}) == graph.macs - 4 * 1280
    assert graph.params == sum(
        np.size(graph.source.variables[name]) for name in graph.source.trainable
    )


def test_full_rank_changes_nothing():
    graph = two_convs()
    for kinds in (KINDS, {"conv1": "channel", "conv2": "spatial"}):
        assert_same(graph.source, decompose(graph, kinds, full=True), normal(4, 8, 8, 1))


# Strides, padding, dilation and the layout of arrays; kernels [O, I, H, W] as in PyTorch.
WINDOWS = {
    "strided": dict(window_strides=(2, 3), padding=((1, 0), (2, 3))),
    "dilated": dict(window_strides=(1, 1), padding="SAME", rhs_dilation=(2, 1)),
    "cropped": dict(window_strides=(1, 2), padding=((-1, 2), (0, -2)), rhs_dilation=(1, 2)),
    "channels first": dict(
        window_strides=(2, 1), padding="SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")
    ),
}


@pytest.mark.parametrize("kind", ["channel", "spatial"])
@pytest.mark.parametrize("window", WINDOWS)
def test_windows_are_split_along_with_their_axes(window, kind):
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), **WINDOWS[window]}
    first = options["dimension_numbers"][0] == "NCHW"
    kernel, x = normal(3, 2, 4, 6), normal(2, 9, 10, 4, seed=1)
    if first:
        kernel, x = kernel.transpose(3, 2, 0, 1), x.transpose(0, 3, 1, 2)

    def network(params, x):
        return jax.lax.conv_general_dilated(x, params["kernel"], **options)

    graph = trace(from_function(network, {"kernel": kernel}), x)
    source = decompose(graph, {"kernel": kind}, full=True)
    assert set(source.variables) == {"kernel.first.kernel", "kernel.second.kernel"}
    assert np.allclose(outputs(source, x), outputs(graph.source, x), atol=1e-5)
    # The rank in the middle is what the shapes say, and the break-even cost is no higher.
    small = trace(decompose(graph, {"kernel": kind}), x)
    rank = decomposable(graph)["kernel"][kind]
    assert small.macs <= graph.macs < small.macs * (rank + 1) / rank


class Tokens(nnx.Module):
    """[N, 5, 8] to 3 logits: attention, whose kernels have axes of heads."""

    def __init__(self, rngs):
        self.mix = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(self.mix(x).mean(axis=1))


def test_dense_kernels_of_several_axes():
    graph = trace(made(Tokens), shape(4, 5, 8))
    x = normal(4, 5, 8)
    layers = {layer.name: "svd" for layer in graph.layers}
    assert {"mix.query", "mix.out"} < set(layers)
    source = decompose(graph, layers, full=True)
    assert_same(graph.source, source, x)
    assert source.variables["mix.query.first.kernel"].shape == (8, 8)
    assert source.variables["mix.query.second.kernel"].shape == (8, 2, 4)
    assert source.variables["mix.out.first.kernel"].shape == (2, 4, 8)
    groups = trace(source, shape(4, 5, 8)).groups
    assert groups["mix.query.first"].size == groups["mix.out.first"].size == 8


def test_kernels_on_the_left_moved_and_converted():
    def network(params, x):
        x = (params["left"] @ x.T).T
        x = x @ params["moved"].T
        return (x.astype(jnp.bfloat16) @ params["low"].astype(jnp.bfloat16)).astype(jnp.float32)

    params = {"left": normal(6, 5), "moved": normal(7, 6, seed=1), "low": normal(7, 4, seed=2)}
    graph, x = trace(from_function(network, params), shape(3, 5)), normal(3, 5, seed=3)
    source = decompose(graph, {"left": "svd", "moved": "svd"}, full=True)
    assert_same(graph.source, source, x)
    source = decompose(graph, {"low": "svd"}, full=True)
    assert np.allclose(outputs(source, x), outputs(graph.source, x), rtol=0.05, atol=0.3)


def test_a_shared_kernel_becomes_two_for_all_its_layers():
    graph = trace(made(Shared), shape(2, 6, 6, 2))
    source = decompose(graph, {"shared": "channel"}, full=True)
    assert "shared.kernel" not in source.variables
    assert_same(graph.source, source, normal(2, 6, 6, 2))
    twice = decompose(graph, {"shared": "channel", "shared#2": "channel"}, full=True)
    assert set(twice.variables) == set(source.variables)
    with pytest.raises(DecomposeError, match="shares its kernel"):
        decompose(graph, {"shared": "channel", "shared#2": "spatial"})


def strongest(graph, counts):
    """The channels with the largest L2 norms."""
    select = gather_statistics(graph, Recipe(criterion="l2")).select
    assert select is not None
    return select(counts)


@pytest.mark.parametrize("kind", ["channel", "spatial"])
def test_the_strongest_channels_between_are_the_truncated_svd(kind):
    graph, rank = two_convs(), 3
    kernel = np.asarray(graph.source.variables["conv2.kernel"], np.float64)
    wide = trace(decompose(graph, {"conv2": kind}, full=True), *graph.inputs)
    counts = wide.full_counts() | {"conv2.first": rank}
    kept = strongest(wide, counts)
    assert kept["conv2.first"].tolist() == [0, 1, 2]
    masks = Masks(wide)
    masked = masks.apply(wide.source.variables, jnp.asarray(masks.vector(kept)))

    order = (0, 1, 2, 3) if kind == "channel" else (0, 2, 1, 3)
    moved = kernel.transpose(order)
    matrix = moved.reshape(72 if kind == "channel" else 24, -1)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    best = (left[:, :rank] * values[:rank]) @ right[:rank]
    best = best.reshape(moved.shape).transpose(np.argsort(order)).astype(np.float32)
    truncated = graph.source.variables | {"conv2.kernel": best}
    x = normal(4, 8, 8, 1)
    assert_same(
        graph.source._replace(variables=truncated), wide.source._replace(variables=masked), x
    )


def decomposed():
    """Two convolutions and a dense layer, each as two layers of its own kind."""
    return decompose(two_convs(), KINDS)


@pytest.mark.parametrize("seed", range(2))
def test_masked_equals_sliced(seed):
    check(decomposed, (8, 8, 1), seed)


def ranks(graph, count):
    """All channels of all groups, but ``count`` of each group between two layers."""
    full = graph.full_counts()
    counts = full | {name: min(count, full[name]) for name in full if name.endswith(".first")}
    return strongest(graph, counts)


def test_repair_refits_the_second_layer():
    graph = two_convs()
    wide = trace(decompose(graph, {"conv2": "channel", "linear": "svd"}, full=True), *graph.inputs)
    x = normal(200, 8, 8, 1)
    kept, masks = ranks(wide, 2), Masks(wide)
    repaired = repair(wide, gather(wide, wide.source.variables, [x]), wide.source.variables, kept)
    expected, errors = outputs(graph.source, x), []
    for variables in (wide.source.variables, repaired):
        masked = masks.apply(variables, jnp.asarray(masks.vector(kept)))
        found = outputs(wide.source._replace(variables=masked), x)
        errors.append(np.square(found - expected).mean())
    assert errors[1] < 0.8 * errors[0]
    assert np.array_equal(
        repaired["conv2.first.kernel"], wide.source.variables["conv2.first.kernel"]
    )


def test_what_was_compressed_is_saved_and_exported(tmp_path):
    graph = trace(decompose(two_convs(), KINDS), *two_convs().inputs)
    policy = Policy.uniform(graph, keep=0.5)
    small = compress(graph.source, policy, graph=graph)
    assert len(small.kept["conv2.first"]) < 7
    # The batch is another one than it was traced with.
    x = normal(3, 8, 8, 1)
    expected = np.asarray(jax.jit(small, compiler_options=QUICK)(x))
    loaded = load(save(small, tmp_path / "small"))
    assert np.allclose(jax.jit(loaded, compiler_options=QUICK)(x), expected, atol=1e-5)
    model = to_onnx(small, (8, 8, 1))
    names = [node.op_type for node in model.graph.node]
    # Two convolutions for each, and the kernels of the dense layer.
    assert names.count("Conv") == 4
    assert names.count("Gemm") + names.count("MatMul") == 2


def refuse(network, params, x, layer, kind, match):
    graph = trace(from_function(network, params), x)
    assert kind not in decomposable(graph).get(layer, {})
    with pytest.raises(DecomposeError, match=match):
        decompose(graph, {layer: kind})


def convolution(**options):
    numbers = ("NHWC", "HWIO", "NHWC")

    def network(params, x):
        full = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": numbers}
        return jax.lax.conv_general_dilated(x, params["a"], **(full | options))

    return network


TRANSPOSED = dict(lhs_dilation=(2, 2), padding=((1, 1), (1, 1)))


@pytest.mark.parametrize(
    ("network", "kernel", "x", "kind", "match"),
    [
        (convolution(feature_group_count=2), (3, 3, 2, 4), (1, 6, 6, 4), "channel", "grouped"),
        (convolution(feature_group_count=4), (3, 3, 1, 4), (1, 6, 6, 4), "spatial", "depthwise"),
        (convolution(**TRANSPOSED), (3, 3, 4, 4), (1, 6, 6, 4), "channel", "transposed"),
        (convolution(), (3, 3, 4, 4), (1, 6, 6, 4), "svd", "window of 3 x 3"),
        (lambda p, x: x @ p["a"], (4, 4), (2, 4), "channel", "it is dense; choose 'svd'"),
        (lambda p, x: x @ p["a"], (4, 4), (2, 4), "cp", "choose one of svd, channel, spatial"),
        (lambda p, x: x @ (p["a"] / p["a"].sum()), (4, 4), (2, 4), "svd", "'reduce_sum' takes it"),
        (lambda p, x: (x @ p["a"], p["a"]), (4, 4), (2, 4), "svd", "output of the network"),
        (lambda p, x: x @ p["a"] @ p["a"].T, (4, 4), (2, 4), "svd", "different arrangements"),
        (lambda p, x: x @ p["a"], (4, 1), (2, 4), "svd", "so small"),
        (
            lambda p, x: jnp.einsum("nhi,hio->nho", x, p["a"]),
            (2, 4, 4),
            (3, 2, 4),
            "svd",
            "kernels of its own",
        ),
    ],
)
def test_what_cannot_be_decomposed_is_refused(network, kernel, x, kind, match):
    refuse(network, {"a": normal(*kernel)}, shape(*x), "a", kind, match)


def test_spatial_needs_two_axes():
    def network(params, x):
        numbers = ("NWC", "WIO", "NWC")
        return jax.lax.conv_general_dilated(x, params["a"], (1,), "SAME", dimension_numbers=numbers)

    params, x = {"a": normal(3, 4, 4)}, shape(1, 6, 4)
    refuse(network, params, x, "a", "spatial", "along 1 axes, expected 2")
    assert decomposable(trace(from_function(network, params), x)) == {"a": {"channel": 3}}


def test_an_unknown_layer_is_refused():
    with pytest.raises(DecomposeError, match="no layer is named 'conv9'"):
        decompose(two_convs(), {"conv9": "svd"})
