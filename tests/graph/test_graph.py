"""Layers, channel groups and costs found by tracing, against values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.graph import Count, GraphError, trace
from pfrl.models.zoo.lenet import LeNet5
from pfrl.models.zoo.resnet import CifarResNet
from tests.support.tiny import Branches, Dense, Shared, Through, TwoConvs, made, resnet8, shape

INNER = [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1, 2)]
INNER_SIZES = dict(zip(INNER, [16, 16, 16, 32, 32, 32, 64, 64, 64], strict=True))


@pytest.fixture(scope="module")
def resnet20():
    return trace(made(lambda rngs: CifarResNet(20, 10, rngs=rngs)), shape(2, 32, 32, 3))


def sizes(graph):
    return {name: group.size for name, group in graph.groups.items()}


def member(graph, group, parameter, axis):
    """Where the channels of a group are on an axis, ``[channels, places]``."""
    found = [m for m in graph.groups[group].members if (m.parameter, m.axis) == (parameter, axis)]
    assert len(found) == 1, (group, parameter, axis)
    return found[0].indices


# MACs: stem 32*32 * 9*3*16 = 442,368; stage 1: 6 * 32*32 * 9*16*16 = 14,155,776;
# stages 2 and 3: 16*16 * 9*(16*32 + 5*32*32) = 8*8 * 9*(32*64 + 5*64*64) = 12,976,128 each;
# linear 64*10 = 640.
def test_resnet20_has_the_published_size(resnet20):
    assert len(resnet20.layers) == 20
    assert resnet20.macs == 442_368 + 14_155_776 + 2 * 12_976_128 + 640 == 40_551_040
    assert resnet20.params == 269_722
    assert resnet20.unknown == frozenset()
    assert [layer.name for layer in resnet20.layers[:3]] == [
        "conv1",
        "layer1.0.conv1",
        "layer1.0.conv2",
    ]
    assert sum(layer.macs for layer in resnet20.layers) == resnet20.macs


# A block's first convolution is free. The stream of a stage is one group: every block adds to it.
# Where a stream of 16 is padded with zeros to 32 channels, 8 on either side, the middle 16 are
# still those of conv1; the other 16 begin at layer2.0.conv2, and the 32 new ones of the third
# stage at layer3.0.conv2.
def test_resnet20_with_zero_padding_has_twelve_groups(resnet20):
    expected = {**INNER_SIZES, "conv1": 16, "layer2.0.conv2": 16, "layer3.0.conv2": 32}
    assert sizes(resnet20) == expected
    u = np.arange(16)[:, None]
    assert np.array_equal(member(resnet20, "conv1", "conv1.kernel", 3), u)
    assert np.array_equal(member(resnet20, "conv1", "layer2.1.conv2.kernel", 3), u + 8)
    assert np.array_equal(member(resnet20, "conv1", "linear.kernel", 0), u + 24)
    new = np.r_[0:8, 24:32][:, None]
    assert np.array_equal(member(resnet20, "layer2.0.conv2", "layer2.0.conv2.kernel", 3), new)
    assert np.array_equal(member(resnet20, "layer2.0.conv2", "linear.kernel", 0), new + 16)
    new = np.r_[0:16, 48:64][:, None]
    assert np.array_equal(member(resnet20, "layer3.0.conv2", "linear.kernel", 0), new)


def test_a_group_knows_its_layers_and_every_array_it_is_in(resnet20):
    inner = resnet20.groups["layer2.1.conv1"]
    assert inner.producers == ("layer2.1.conv1",)
    assert inner.consumers == ("layer2.1.conv2",)
    assert {(m.parameter, m.axis) for m in inner.members} == {
        ("layer2.1.conv1.kernel", 3),
        ("layer2.1.bn1.scale", 0),
        ("layer2.1.bn1.bias", 0),
        ("layer2.1.bn1.mean", 0),
        ("layer2.1.bn1.var", 0),
        ("layer2.1.conv2.kernel", 2),
    }
    stream = resnet20.groups["layer3.0.conv2"]
    assert stream.producers == ("layer3.0.conv2", "layer3.1.conv2", "layer3.2.conv2")
    assert stream.consumers == ("layer3.1.conv1", "layer3.2.conv1", "linear")
    decided = [group for layer in resnet20.layers for group in layer.decides]
    assert sorted(decided) == sorted(resnet20.groups)
    assert {la.name: la.decides for la in resnet20.layers}["layer2.0.conv2"] == ("layer2.0.conv2",)


# With half of all channels the stem has half of its MACs, a 3x3 convolution a quarter, and the
# linear layer half: 221,184 + (14,155,776 + 2 * 12,976,128) / 4 + 320.
# Parameters: 464/2; 9*8*8 + 16 = 592 six times; 9*8*16 + 32 = 1,184, 9*16*16 + 32 = 2,336 five
# times; 9*16*32 + 64 = 4,672, 9*32*32 + 64 = 9,280 five times; 32*10 + 10 = 330.
def test_half_the_channels_of_resnet20(resnet20):
    counts = {name: size // 2 for name, size in sizes(resnet20).items()}
    assert resnet20.macs_at(counts) == 10_248_512
    params = 232 + 6 * 592 + 1_184 + 5 * 2_336 + 4_672 + 5 * 9_280 + 330
    assert resnet20.params_at(counts) == params


def test_resnet20_with_convolved_shortcuts():
    model = made(lambda rngs: CifarResNet(20, 10, shortcut="B", rngs=rngs))
    graph = trace(model, shape(2, 32, 32, 3))
    assert len(graph.layers) == 22
    # Nothing passes from stage to stage but through a kernel: three streams.
    streams = {"conv1": 16, "layer2.0.conv2": 32, "layer3.0.conv2": 64}
    assert sizes(graph) == {**INNER_SIZES, **streams}
    assert "layer2.0.shortcut.conv" in graph.groups["layer2.0.conv2"].producers
    assert "layer2.0.shortcut.conv" in graph.groups["conv1"].consumers
    # 16*16 * 16*32 and 8*8 * 32*64 multiplications in the shortcuts.
    assert graph.macs == 40_551_040 + 131_072 + 131_072


# Four stem channels, of which 3 stay; 2 of 4 in layer1.0; 5 of 8 in layer2.0, whose stream has
# the 3 of the stem and 1 of its own 4; 6 of 16 in layer3.0, whose stream has 3 + 1 + 7 of 8.
# 8x8: 9*1*3 = 27, 9*3*2 = 54, 9*2*3 = 54; 4x4: 9*3*5 = 135, 9*5*4 = 180;
# 2x2: 9*4*6 = 216, 9*6*11 = 594; linear 11*4 = 44.
def test_macs_of_unequal_counts_in_a_narrow_resnet():
    graph = trace(made(resnet8), shape(1, 8, 8, 1))
    full = {"conv1": 4, "layer1.0.conv1": 4, "layer2.0.conv1": 8, "layer2.0.conv2": 4}
    assert sizes(graph) == {**full, "layer3.0.conv1": 16, "layer3.0.conv2": 8}
    counts = dict(zip(graph.groups, (3, 2, 5, 1, 6, 7), strict=True))
    assert list(graph.groups) == [*full, "layer3.0.conv1", "layer3.0.conv2"]
    expected = 64 * (27 + 54 + 54) + 16 * (135 + 180) + 4 * (216 + 594) + 44
    assert graph.macs_at(counts) == expected
    assert graph.macs_at(graph.full_counts()) == graph.macs
    assert graph.params_at(graph.full_counts()) == graph.params


@pytest.mark.parametrize(("side", "places"), [(28, 25), (8, 4)])
def test_flattening_ties_a_channel_to_many_rows(side, places):
    model = made(lambda rngs: LeNet5(10, (side, side, 1), rngs=rngs))
    graph = trace(model, shape(2, side, side, 1))
    assert sizes(graph) == {"conv1": 6, "conv2": 16, "linear1": 120, "linear2": 84}
    # Rows of [H, W, 16]: channel u is every sixteenth from u on.
    rows = np.arange(16)[:, None] + 16 * np.arange(places)
    assert np.array_equal(member(graph, "conv2", "linear1.kernel", 0), rows)
    dense = {layer.name: layer for layer in graph.layers}["linear1"]
    assert dense.c_in == Count(0, ((places, ("conv2",)),))
    counts = {"conv1": 3, "conv2": 5, "linear1": 7, "linear2": 2}
    pixels = {28: (784, 100), 8: (64, 16)}[side]
    convs = 25 * (pixels[0] * 1 * 3 + pixels[1] * 3 * 5)
    assert graph.macs_at(counts) == convs + 5 * places * 7 + 7 * 2 + 2 * 10


def test_a_plain_network_has_a_group_for_every_convolution():
    model = made(lambda rngs: resnet8(rngs, None))
    graph = trace(model, shape(1, 8, 8, 1))
    convs = {la.name: la.kernel_shape[-1] for la in graph.layers if la.kind == "conv"}
    assert len(convs) == 7
    assert sizes(graph) == convs


@pytest.mark.parametrize(
    ("model", "x", "image", "logits"),
    [
        (
            resnet8,
            (8, 8, 1),
            "conv1.kernel",
            "linear",
        ),
        (lambda rngs: LeNet5(10, (8, 8, 1), rngs=rngs), (8, 8, 1), "conv1.kernel", "linear"),
        (Branches, (6, 6, 2), "left.kernel", "out"),
    ],
    ids=["resnet8", "lenet5", "branches"],
)
def test_image_channels_and_logits_stay(model, x, image, logits):
    graph = trace(made(model), shape(1, *x))
    owned = {(m.parameter, m.axis) for group in graph.groups.values() for m in group.members}
    assert (image, 2) not in owned
    assert (f"{logits}.kernel", 1) not in owned
    assert (f"{logits}.bias", 0) not in owned
    assert (image, 3) in owned
    assert (f"{logits}.kernel", 0) in owned


def test_branches_meet_in_a_concatenation():
    graph = trace(made(Branches), shape(2, 6, 6, 2))
    assert sizes(graph) == {"left": 6, "right": 4, "mix": 8}
    layers = {layer.name: layer for layer in graph.layers}
    assert layers["mix"].c_in == Count(0, ((1, ("left",)), (1, ("right",))))
    assert np.array_equal(member(graph, "right", "mix.kernel", 2), np.arange(6, 10)[:, None])
    assert layers["depth"].kind == "depthwise"
    assert layers["depth"].decides == ()
    assert (layers["depth"].macs, graph.macs_at({"left": 1, "right": 1, "mix": 3})) == (
        36 * 9 * 8,
        36 * (9 * 2 * 1 + 2 * 1 + 2 * 3 + 9 * 3) + 3 * 3,
    )


# The kernel reads what it wrote, so its two axes are one group, with the layer that feeds it.
def test_a_kernel_used_twice_is_two_layers_and_one_array():
    graph = trace(made(Shared), shape(2, 6, 6, 2))
    assert [layer.name for layer in graph.layers] == ["first", "shared", "shared#2", "out"]
    assert graph.layers[2].kernel == "shared.kernel"
    assert sizes(graph) == {"first": 6}
    assert graph.macs == 36 * 9 * (2 * 6 + 6 * 6 + 6 * 6) + 6 * 3
    # The kernel's parameters count once: 9*2*2 + 2, 9*2*2 + 2, 2*3 + 3.
    assert graph.params_at({"first": 2}) == 38 + 38 + 9


@pytest.mark.parametrize(
    ("between", "unknown"),
    [
        (lambda x: jnp.sort(x, axis=-1), set()),
        (lambda x: jax.nn.softmax(x, axis=-1), set()),
        (lambda x: x - x.max(axis=-1, keepdims=True), set()),
        (lambda x: jnp.cumsum(jnp.cos(x), axis=-1), set()),
        # A cosine of nothing is one: a sum over channels feels it.
        (lambda x: x * jnp.cos(x).mean(axis=-1, keepdims=True), set()),
        (lambda x: nnx.max_pool(x[..., None], (1, 1, 3), padding="SAME")[..., 0], set()),
        (lambda x: jnp.fft.fft(x, axis=-1).real, {"fft"}),
        (lambda x: jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), {"cond"}),
    ],
    ids="sort softmax max cumsum mean pool fft cond".split(),
)
def test_what_cannot_be_removed_is_frozen_and_nothing_else(between, unknown):
    graph = trace(made(lambda rngs: Through(between, rngs)), shape(2, 6, 6, 2))
    assert sizes(graph) == {"b": 5}
    assert graph.unknown == unknown
    assert set(graph.frozen) == {"a", "out"}
    assert all(graph.frozen["a"])
    assert graph.macs_at({"b": 2}) == 36 * 9 * (2 * 6 + 6 * 2) + 2 * 3


@pytest.mark.parametrize(
    "between",
    [
        lambda x: jax.nn.softmax(x, axis=1),
        lambda x: x * np.full((2, 6, 6, 6), 2.0, np.float32) + 1,
        lambda x: jnp.transpose(jnp.transpose(x, (3, 0, 1, 2)), (1, 2, 3, 0)),
        lambda x: nnx.avg_pool(x, (3, 3), padding="SAME"),
        lambda x: jax.nn.gelu(x) * jax.nn.sigmoid(x.mean(axis=(1, 2), keepdims=True)),
        lambda x: x.reshape(x.shape[0], 36, 6).reshape(x.shape),
    ],
    ids="softmax_rows equal_elements transpose pool squeeze_excite reshape".split(),
)
def test_what_keeps_channels_apart_freezes_none(between):
    graph = trace(made(lambda rngs: Through(between, rngs)), shape(2, 6, 6, 2))
    assert sizes(graph) == {"a": 6, "b": 5}


def test_a_compressed_network_takes_any_batch_size():
    model = made(TwoConvs)
    graph = trace(model, shape(2, 8, 8, 1))
    small = compress(model, Policy.uniform(graph, 0.5), graph=graph)
    x = np.random.default_rng(1).normal(size=(5, 8, 8, 1)).astype(np.float32)
    run = jax.jit(small)
    together = run(x)
    assert together.shape == (5, 4)
    assert np.allclose(together, np.concatenate([run(x[:2]), run(x[2:])]), atol=1e-5)
    assert np.allclose(together[:1], run(x[:1]), atol=1e-5)


def test_tracing_and_the_model_leave_each_other_alone():
    model = made(TwoConvs)
    model.eval()
    graph = trace(model, shape(1, 8, 8, 1))
    assert model.bn1.use_running_average
    assert np.array_equal(model.bn1.mean[...], graph.source.variables["bn1.mean"])
    before = np.asarray(model.bn1.mean[...])
    model.bn1.mean[...] = model.bn1.mean[...] + 1
    assert np.array_equal(graph.source.variables["bn1.mean"], before)


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (jnp.tanh, shape(1, 3), "got the function tanh alone: give variables="),
        (7, shape(1, 3), "expected an nnx.Module, a linen.Module .* got int"),
        (made(Dense), [1.0, 2.0, 3.0], "expected an array as the example input, got list"),
        (made(Dense), shape(1, 5), r"does not run on an input of shape \(1, 5\)"),
        (made(TwoConvs), shape(1, 8, 8, 3), r"does not run on an input of shape \(1, 8, 8, 3\)"),
    ],
    ids=["function", "number", "list", "width", "colours"],
)
def test_what_is_no_network_is_refused(model, x, message):
    with pytest.raises(GraphError, match=message):
        trace(model, x)
