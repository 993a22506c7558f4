"""Linen modules and plain functions become sources as well, and there is one door for all."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import core, linen, nnx

from pfrl.graph.frontends import as_source, from_function, from_linen
from pfrl.graph.source import SourceError, from_nnx
from tests.graph.test_source import Asked, array, called
from tests.support.tiny import TwoConvs, made


class Net(linen.Module):
    """Names are Flax's; a dense layer, normalisation over the batch, and dropout."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.Dense(1, use_bias=False)(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=0)(x)
        return linen.Dropout(0.5, deterministic=not train)(x)


LINEN = {
    "params": {
        "Dense_0": {"kernel": array([2.0])},
        "BatchNorm_0": {"scale": array(1.0), "bias": array(0.0)},
    },
    "batch_stats": {"BatchNorm_0": {"mean": array(0.0), "var": array(1.0)}},
}


@pytest.mark.parametrize("wrap", [dict, core.freeze])
def test_a_linen_module(wrap):
    source = from_linen(Net(), wrap(LINEN))
    statistics = {
        "batch_stats.BatchNorm_0.mean",
        "batch_stats.BatchNorm_0.var",
        "rngs.dropout.key",
        "rngs.dropout.count",
    }
    parameters = {"Dense_0.kernel", "BatchNorm_0.scale", "BatchNorm_0.bias"}
    assert source.trainable == parameters
    assert set(source.variables) == parameters | statistics
    x = array([1.0], [2.0])
    np.testing.assert_array_equal(called(source, x)[0], [[2], [4]])
    # As in the test of nnx: -1 and 1 after the normalisation, then nothing or double.
    outputs, after = called(source, x, True)
    assert set(np.abs(np.asarray(outputs)).round(5).flatten()) <= {0, 2}
    np.testing.assert_allclose(after["batch_stats.BatchNorm_0.mean"], [0.3], rtol=1e-6)
    np.testing.assert_allclose(after["batch_stats.BatchNorm_0.var"], [1.0], rtol=1e-6)
    assert set(after) == statistics
    assert int(after["rngs.dropout.count"]) == 1


class Noise(linen.Module):
    """Its parameter once, and what it drew from two streams."""

    @linen.compact
    def __call__(self, x, *, deterministic=True):
        scale = self.param("scale", linen.initializers.ones, (1,))
        if deterministic:
            return x * scale
        return [jax.random.uniform(self.make_rng(stream), (4,)) for stream in ("dropout", "other")]


def test_linen_streams_draw_anew_apart_and_repeatably():
    variables = {"params": {"scale": array(1.0)}}
    source = from_linen(Noise(), variables, rngs=("dropout", "other"))
    x = array(1.0)
    drawn, after = called(source, x, True)
    assert set(after) == {f"rngs.{s}.{w}" for s in ("dropout", "other") for w in ("key", "count")}
    again, _ = called(source, x, True)
    later, _ = called(source, x, True, {**source.variables, **after})
    other = from_linen(Noise(), variables, rngs=("dropout", "other"), seed=1)
    elsewhere, _ = called(source, x, True, other.variables)
    np.testing.assert_array_equal(drawn, again)
    rows = [*drawn, *later, *elsewhere]
    assert len({tuple(np.asarray(row).tolist()) for row in rows}) == len(rows) == 6


class Mode(linen.Module):
    """Returns the keywords that it was called with, on top of its parameter."""

    @linen.compact
    def __call__(self, x, training=None, deterministic=None, use_running_average=None, alpha=0.0):
        self.param("scale", linen.initializers.ones, (1,))
        told = (training, deterministic, use_running_average)
        return [jnp.asarray(-1 if value is None else value) for value in told] + [alpha]


def test_keywords_of_the_mode():
    variables = {"params": {"scale": array(1.0)}}
    x = array(1.0)

    def told(**given):
        """In training and in evaluation."""
        source = from_linen(Mode(), variables, **given)
        return [[float(v) for v in called(source, x, train)[0]] for train in (True, False)]

    assert told() == [[1, 0, 0, 0], [0, 1, 1, 0]]
    given = told(train={"alpha": 0.5}, evaluation={"deterministic": True})
    assert given == [[-1, -1, -1, 0.5], [-1, 1, -1, 0]]


def test_linen_metadata_is_taken_off():
    boxed = {"params": {"scale": linen.Partitioned(array(2.0), (None,))}}
    source = from_linen(Noise(), boxed)
    assert source.variables["scale"].shape == (1,)
    assert called(source, array(3.0))[0] == 6


def test_linen_variables_need_parameters():
    with pytest.raises(SourceError, match=r"collection 'params'.* got keys \['Dense_0'\]"):
        from_linen(Net(), {"Dense_0": LINEN["params"]["Dense_0"]})
    with pytest.raises(SourceError, match=r"as its init returns them, got list"):
        from_linen(Net(), [1, 2])  # pyright: ignore[reportArgumentType]


def perceptron(params, x):
    for kernel, bias in params["layers"][:-1]:
        x = jax.nn.relu(x @ kernel + bias)
    kernel, bias = params["layers"][-1]
    return x @ kernel + bias


PERCEPTRON = {
    "layers": [
        (np.ones((2, 3), np.float32), np.zeros(3, np.float32)),
        (np.ones((3, 1), np.float32), np.ones(1, np.float32)),
    ],
    "epoch": np.asarray(4),
}


def test_a_function_of_a_pytree():
    source = from_function(perceptron, PERCEPTRON)
    layers = [f"layers.{i}.{j}" for i in (0, 1) for j in (0, 1)]
    assert sorted(source.variables) == ["epoch", *layers]
    assert source.trainable == set(layers)
    # 1 + 2 = 3 in each of three hidden units, 9, and the bias.
    outputs, statistics = called(source, array([1.0, 2.0]), True)
    assert outputs == 10 and statistics == {"epoch": 4}


def test_a_function_that_is_told_the_mode():
    def function(params, x, y, train=False):
        return params * x + (y if train else 0)

    x = (array(2.0), array(1.0))
    source = from_function(function, array(3.0))
    assert set(source.variables) == {"params"} == source.trainable
    assert [float(called(source, x, train)[0][0]) for train in (False, True)] == [6, 7]
    untold = from_function(function, array(3.0), has_train=False)
    assert called(untold, x, True)[0] == 6
    blind: Callable = lambda params, *inputs, **keywords: function(params, *inputs, **keywords)  # noqa: E731
    assert called(from_function(blind, array(3.0)), x, True)[0] == 6
    assert called(from_function(blind, array(3.0), has_train=True), x, True)[0] == 7


def test_parameters_that_are_no_arrays_are_refused():
    with pytest.raises(SourceError, match=r"variable 'layers.1' is a str; expected an array"):
        from_function(perceptron, {"layers": [array(1.0), "relu"]})
    with pytest.raises(SourceError, match=r"two variables are called 'a.b'; rename one"):
        from_function(perceptron, {"a": {"b": array(1.0)}, "a.b": array(1.0)})


def test_one_door():
    model = made(TwoConvs)
    source = as_source(model)
    assert sorted(source.variables) == sorted(from_nnx(model).variables)
    assert as_source(source) is source
    assert "Dense_0.kernel" in as_source(Net(), LINEN).trainable
    assert "layers.0.0" in as_source(perceptron, PERCEPTRON).trainable


@pytest.mark.parametrize(
    "model, variables, message",
    [
        (3, None, "or a function with its parameters, got int$"),
        ({"a": 1}, None, "got dict$"),
        (Net(), None, "got the linen.Module Net alone: give variables=, the dictionary"),
        (perceptron, None, "got the function perceptron alone: give variables=, the pytree"),
        (TwoConvs, None, "got the class TwoConvs: make an instance of it"),
        (Asked(), {}, "a Asked has its own variables; leave out variables="),
        (nnx.List([]), None, "expected a network to call, got a List: it has no __call__"),
    ],
)
def test_what_is_no_network_is_refused(model, variables, message):
    with pytest.raises(SourceError, match=message):
        as_source(model, variables)
