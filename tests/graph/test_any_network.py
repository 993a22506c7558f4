"""Networks of every kind of Flax and of none, and what is no network: each gets a clear answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.extend.core import Primitive
from jax.interpreters import mlir

from envs import NetworkTask, Problem
from envs.decisions import Decisions
from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress, run_graph
from pfrl.cost import Budget, BudgetError, CostModel
from pfrl.graph import GraphError, trace
from pfrl.graph.ending import ends_in_softmax
from pfrl.graph.frontends import from_function, from_linen
from pfrl.graph.masks import Masks
from tests.support.conformance import check, lively, random_source
from tests.support.tiny import TwoConvs, made, shape


class LinenNet(linen.Module):
    """[N, 8, 8, 2] to 3 logits, with batch normalisation and dropout."""

    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.Conv(6, (3, 3))(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not train)(x))
        x = linen.Conv(5, (3, 3), strides=2)(x)
        x = linen.Dropout(0.4, deterministic=not train)(linen.gelu(x))
        return linen.Dense(3)(x.mean(axis=(1, 2)))


def linen_source():
    module = LinenNet()
    x = jnp.zeros((1, 8, 8, 2))
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x, False))
    return from_linen(module, variables)


def function_source():
    def apply(params, x):
        for layer in params["hidden"]:
            x = jnp.tanh(x @ layer["w"] + layer["b"])
        return x @ params["out"]

    def dense(n, m):
        return {"w": np.zeros((n, m), np.float32), "b": np.zeros(m, np.float32)}

    params = {"hidden": [dense(4, 6), dense(6, 5)], "out": np.zeros((5, 3), np.float32)}
    return from_function(apply, params)


def standardised_source():
    """Kernels less their mean, over their deviation, times a gain, as of arXiv 2101.08692."""

    def conv(x, layer):
        kernel = layer["w"].reshape(1, -1, layer["w"].shape[-1])
        mean = kernel.mean((0, 1))
        variance = (kernel * kernel).mean((0, 1)) - mean * mean
        kernel = (kernel - mean) * (jax.lax.rsqrt(variance + 0.01) * layer["gain"])
        height, width, inputs, outputs = layer["w"].shape
        if height == 1:  # as an exporter writes it
            kernel = kernel.reshape(inputs, 1, outputs, 1).transpose(1, 3, 0, 2)
        kernel = kernel.reshape(height, width, inputs, outputs)
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def apply(params, x):
        for layer in params["layers"]:
            x = jax.nn.relu(conv(x, layer) + layer["b"])
        return x.mean((1, 2)) @ params["out"]

    def layer(size, inputs, outputs):
        kernel = np.zeros((size, size, inputs, outputs), np.float32)
        return {"w": kernel, "gain": kernel[0, 0, 0], "b": kernel[0, 0, 0]}

    layers = [layer(3, 2, 6), layer(1, 6, 5), layer(3, 5, 4)]
    return from_function(apply, {"layers": layers, "out": np.zeros((4, 3), np.float32)})


def weight_norm_source():
    """Kernels of a direction and a length (arXiv 1602.07868)."""

    def dense(x, layer):
        length = jnp.sqrt((layer["v"] ** 2).sum(0) + 1e-6)
        return x @ (layer["v"] / length * layer["g"])

    def apply(params, x):
        return dense(jnp.tanh(dense(jnp.tanh(dense(x, params["a"])), params["b"])), params["c"])

    def layer(inputs, outputs):
        return {"v": np.zeros((inputs, outputs), np.float32), "g": np.zeros(outputs, np.float32)}

    return from_function(apply, {"a": layer(4, 6), "b": layer(6, 5), "c": layer(5, 3)})


@pytest.mark.parametrize(
    ("source", "image", "groups"),
    [
        (linen_source, (8, 8, 2), {"Conv_0": 6, "Conv_1": 5}),
        (function_source, (4,), {"hidden.0": 6, "hidden.1": 5}),
        (standardised_source, (5, 5, 2), {"layers.0": 6, "layers.1": 5, "layers.2": 4}),
        (weight_norm_source, (4,), {"a": 6, "b": 5}),
    ],
)
def test_linen_modules_and_functions_are_networks_like_any_other(source, image, groups):
    graph = trace(random_source(source), shape(2, *image))
    assert {name: group.size for name, group in graph.groups.items()} == groups
    check(source, image, seed=2)


class TwoHeads(nnx.Module):
    """An image and a vector to class logits and, beside them, an embedding."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(2, 6, (3, 3), rngs=rngs)
        self.side = nnx.Linear(3, 6, rngs=rngs)
        self.shared = nnx.Linear(6, 8, rngs=rngs)
        self.classes = nnx.Linear(8, 4, rngs=rngs)
        self.embed = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, image, vector):
        x = jax.nn.relu(self.conv(image)).mean(axis=(1, 2)) * self.side(vector)
        x = jax.nn.relu(self.shared(x))
        return {"classes": self.classes(x), "embedding": self.embed(x)}


def test_several_inputs_and_several_outputs():
    graph = trace(random_source(TwoHeads), shape(2, 6, 6, 2), shape(2, 3))
    assert {name: group.size for name, group in graph.groups.items()} == {"conv": 6, "shared": 8}
    # 36 positions x 9 taps x 2 x 6, and four dense layers.
    assert graph.macs == 36 * 9 * 2 * 6 + 3 * 6 + 6 * 8 + 8 * 4 + 8 * 5
    variables = lively(graph.source.variables, 0)
    small = compress(graph.source, Policy.uniform(graph, 0.5), graph=graph, variables=variables)
    rng = np.random.default_rng(0)
    inputs = tuple(rng.normal(size=each.shape).astype(np.float32) for each in graph.inputs)
    masks = Masks(graph)
    masked = masks.apply(variables, jnp.asarray(masks.vector(small.kept)))
    expected, _ = jax.jit(lambda v: run_graph(graph, v, inputs, False))(masked)
    got = jax.jit(small)(*inputs)
    assert set(got) == {"classes", "embedding"}
    for name, value in expected.items():
        assert np.abs(value).max() > 0.01
        assert np.allclose(got[name], value, atol=1e-5), name


mystery = Primitive("mystery")
mystery.def_impl(lambda x: x + 1)
mystery.def_abstract_eval(lambda x: x)
mlir.register_lowering(mystery, mlir.lower_fun(lambda x: x + 1, multiple_results=False))


class Mysterious(nnx.Module):
    """An operation that nobody knows, between two convolutions; [N, 6, 6, 2] to 3 logits."""

    def __init__(self, rngs):
        self.a = nnx.Conv(2, 6, (3, 3), rngs=rngs)
        self.b = nnx.Conv(6, 5, (3, 3), rngs=rngs)
        self.out = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        x = mystery.bind(self.a(x))
        return self.out(jax.nn.relu(self.b(x)).mean(axis=(1, 2)))


def test_an_unknown_primitive_freezes_what_it_touches_and_says_so():
    graph = trace(random_source(Mysterious), shape(2, 6, 6, 2))
    assert graph.unknown == {"mystery"}
    assert {name: group.size for name, group in graph.groups.items()} == {"b": 5}
    assert graph.frozen["a"] == {"the primitive 'mystery'": 6}
    small = compress(graph.source, Policy.uniform(graph, 0.5), graph=graph)
    assert jax.jit(small)(np.zeros((2, 6, 6, 2), np.float32)).shape == (2, 3)


class Positive(nnx.Module):
    """Keeps the positive inputs: how many there are is not known before."""

    def __call__(self, x):
        return x[x > 0].sum()


class Branching(nnx.Module):
    """Does something else with a negative sum."""

    def __call__(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("network", [Positive, Branching])
def test_shapes_and_branches_that_depend_on_values_are_refused(network):
    with pytest.raises(GraphError, match=r"depend on the values of its input.*use jnp\.where"):
        trace(network(), shape(2, 3))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (None, "expected an nnx.Module, a linen.Module with its variables or a function"),
        ({"kernel": np.zeros((3, 3))}, "got dict"),
        (LinenNet(), "LinenNet"),
    ],
)
def test_what_is_no_network_gets_a_sentence(model, sentence):
    with pytest.raises(GraphError, match=sentence):
        trace(model, shape(2, 3))


def test_a_network_needs_an_input():
    with pytest.raises(GraphError, match="expected an example input"):
        trace(made(TwoConvs))


def test_a_network_without_a_removable_channel():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    graph = trace(model, shape(2, 3))
    assert graph.groups == {}
    assert list(graph.frozen.values()) == [{"the network's output": 2}]
    small = compress(model, Policy.uniform(graph, 0.5), graph=graph)
    x = jnp.ones((2, 3))
    assert np.allclose(small(x), model(x))
    problem = Problem(NetworkTask("", "", ""), budget=Budget("macs", 0.5, True))
    with pytest.raises(BudgetError, match="no channel of this network can be removed"):
        Decisions(problem, graph, CostModel(graph))


def spelled_out(z):
    powers = jnp.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (jax.nn.softmax, True),
        (spelled_out, True),
        (lambda z: z, False),
        (jax.nn.sigmoid, False),
        (lambda z: jax.nn.softmax(z, axis=0), False),
        (lambda z: (jax.nn.softmax(z), z), False),
        (lambda z: jax.nn.softmax(z) * 2, False),
    ],
)
def test_whether_a_network_ends_in_a_softmax(ending, expected):
    source = from_function(lambda v, x: ending(x @ v["w"]), {"w": np.ones((4, 3), np.float32)})
    assert ends_in_softmax(trace(source, shape(2, 4))) is expected


def test_places_that_a_network_computes_are_known_within_a_trace_too():
    """The reversed order of channels, worked out from a literal; traced anew for another batch."""

    def apply(params, x):
        places = jnp.stack([jnp.asarray(5) - i for i in range(6)])
        x = jnp.take(jnp.tanh(x @ params["a"]), places, axis=1, mode="clip")
        return jnp.tanh(x @ params["b"]) @ params["c"]

    shapes = {"a": (4, 6), "b": (6, 5), "c": (5, 3)}
    source = from_function(apply, {k: np.ones(v, np.float32) for k, v in shapes.items()})
    graph = trace(source, shape(2, 4))
    small = compress(source, Policy.uniform(graph, keep=0.5), graph=graph)
    assert jax.jit(small)(np.ones((3, 4), np.float32)).shape == (3, 3)
