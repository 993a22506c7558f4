"""An ``nnx.Module`` becomes a function of a flat dictionary of arrays, with all its state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.core import Tracer

from pfrl.graph.source import SourceError, from_nnx, split_variables, update_nnx
from tests.support.tiny import Branches, TwoConvs, made, shape


def array(*values, dtype=np.float32):
    return jnp.asarray(np.asarray(values, dtype))


def param(*values):
    return nnx.Param(array(*values))


def called(source, x, train=False, variables=None):
    """Outputs and statistics, compiled as one program."""
    return jax.jit(source.apply, static_argnums=2)(variables or source.variables, x, train)


class Scaled(nnx.Module):
    """``x · scale``, normalised over the batch."""

    def __init__(self):
        self.scale = param(2.0)
        self.bn = nnx.BatchNorm(1, momentum=0.9, epsilon=0, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.bn(x * self.scale[...])


def test_parameters_are_trainable_and_statistics_are_not():
    source = from_nnx(made(TwoConvs))
    parameters, statistics = split_variables(source)
    assert sorted(statistics) == ["bn1.mean", "bn1.var", "bn2.mean", "bn2.var"]
    assert source.trainable == set(parameters)
    names = "bn1.bias bn1.scale bn2.bias bn2.scale conv1.kernel conv2.kernel".split()
    assert sorted(parameters) == [*names, "linear.bias", "linear.kernel"]
    assert parameters["conv1.kernel"].shape == (3, 3, 1, 8)


def test_the_two_modes_of_batch_normalisation():
    model = Scaled()
    source = from_nnx(model)
    x = array([1.0], [2.0])
    # Evaluation: mean 0 and variance 1, as initialised; x · 2 passes.
    outputs, statistics = called(source, x)
    np.testing.assert_array_equal(outputs, [[2], [4]])
    # Training: 2x is 2 and 4, mean 3, variance 1; the running ones move by a tenth.
    outputs, statistics = called(source, x, True)
    np.testing.assert_allclose(outputs, [[-1], [1]])
    np.testing.assert_allclose(statistics["bn.mean"], [0.3], rtol=1e-6)
    np.testing.assert_allclose(statistics["bn.var"], [1.0], rtol=1e-6)
    # The module that it came from is as it was.
    assert model.bn.mean[...] == 0 and model.bn.use_running_average is False


def test_evaluation_hands_statistics_back_as_they_are():
    source = from_nnx(made(Branches))
    names = split_variables(source)[1]
    kept = {}

    def run(variables, x):
        statistics = source.apply(variables, x, False)[1]
        kept.update({name: statistics[name] is variables[name] for name in statistics})

    jax.eval_shape(run, source.variables, shape(2, 6, 6, 2))
    assert kept == dict.fromkeys(names, True)


class Dropping(nnx.Module):
    def __init__(self, rate=0.5):
        self.weight = param(1.0)
        self.drop = nnx.Dropout(rate, rngs=nnx.Rngs(3))

    def __call__(self, x):
        return self.drop(x * self.weight[...])


def test_dropout_draws_anew_with_every_call_and_repeats_from_the_same_state():
    model = Dropping()
    source = from_nnx(model)
    assert source.trainable == {"weight"}
    assert source.variables["drop.rngs.key"].dtype == jnp.uint32
    assert source.variables["drop.rngs.count"] == 0
    x = jnp.ones((64,))
    np.testing.assert_array_equal(called(source, x)[0], x)
    first, after = called(source, x, True)
    second, later = called(source, x, True, {**source.variables, **after})
    # What stays is divided by the probability to stay.
    assert set(np.unique(first)) == {0, 2} == set(np.unique(second))
    assert not np.array_equal(first, second)
    assert (int(after["drop.rngs.count"]), int(later["drop.rngs.count"])) == (1, 2)
    np.testing.assert_array_equal(after["drop.rngs.key"], source.variables["drop.rngs.key"])
    np.testing.assert_array_equal(called(source, x, True)[0], first)
    # As Flax itself would have drawn.
    np.testing.assert_array_equal(model(x), first)
    np.testing.assert_array_equal(model(x), second)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_keys_keep_their_kind(kind):
    model = Dropping()
    model.drop.rngs = nnx.Rngs(jax.random.key(1, impl=kind))["dropout"]
    source = from_nnx(model)
    words = {"threefry2x32": 2, "rbg": 4}[kind]
    assert source.variables["drop.rngs.key"].shape == (words,)
    other: Any = update_nnx(model, {**source.variables, "weight": array(3.0)})
    assert str(jax.random.key_impl(other.drop.rngs.key[...])) == kind
    assert other.weight[...] == 3 and model.weight[...] == 1


def test_abstract_modules_have_abstract_variables():
    source = from_nnx(nnx.eval_shape(Dropping))
    spec = source.variables["drop.rngs.key"]
    assert isinstance(spec, jax.ShapeDtypeStruct)
    assert (spec.shape, spec.dtype) == ((2,), jnp.uint32)
    outputs, _ = jax.eval_shape(lambda v, x: source.apply(v, x, True), source.variables, shape(4))
    assert outputs.shape == (4,)


class Tied(nnx.Module):
    """``(x · w) · w`` with one parameter at two places."""

    def __init__(self):
        self.first = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
        self.second = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
        self.second.kernel = self.first.kernel

    def __call__(self, x):
        return self.second(self.first(x))


def test_a_shared_parameter_is_one_variable():
    source = from_nnx(Tied())
    assert set(source.variables) == {"first.kernel"} == source.trainable

    def output(w):
        return source.apply({"first.kernel": w}, array([2.0]), True)[0].sum()

    # 2w² at w = 3: 18, with the derivative 4w = 12 through both places.
    value, slope = jax.jit(jax.value_and_grad(output))(array([3.0]))
    assert (value, slope[0, 0]) == (18, 12)


class Everything(nnx.Module):
    """State of every kind; each call adds to it."""

    def __init__(self):
        self.scale = param(2.0)
        self.steps = nnx.Param(jnp.asarray(3, jnp.int32))
        self.sums = nnx.Variable({"x": array(0.0), "deep": [array(1.0, 1.0)]})
        self.plain = array(5.0)
        self.number = nnx.Variable(7)
        self.nothing = nnx.Variable(None)
        self.reference = nnx.Variable(array(1.0), ref=True)
        self.parts = nnx.List([nnx.BatchStat(array(0.0))])
        self.untouched = nnx.BatchStat(array(9.0))

    def __call__(self, x):
        sums = self.sums.get_value()
        self.sums.set_value({"x": sums["x"] + x.sum(), "deep": [sums["deep"][0] * 2]})
        self.steps[...] += 1
        self.plain = self.plain + 1
        self.number.set_value(self.number.get_value() + 1)
        self.reference[...] += 1
        # A new variable in the place of the old one.
        self.parts[0] = nnx.BatchStat(x[:1])
        self.seen = nnx.Intermediate((x,))
        return x * self.scale[...]


def test_state_of_every_kind_comes_back():
    model = Everything()
    model.seen = nnx.Intermediate((array(1.0),))
    source = from_nnx(model)
    assert source.trainable == {"scale"}
    x = array(1.0, 2.0)
    outputs, after = called(source, x, True)
    np.testing.assert_array_equal(outputs, [2, 4])
    expected = {
        "steps": 4,
        "sums.x": 3,
        "sums.deep.0": [2, 2],
        "plain": 6,
        "number": 8,
        "reference": [2],
        "parts.0": [1],
        "untouched": [9],
    }
    assert {name: np.squeeze(v).tolist() for name, v in after.items()} == {
        name: np.squeeze(v).tolist() for name, v in expected.items()
    }
    _, before = called(source, x)
    assert {name: np.asarray(v).tolist() for name, v in before.items()} == {
        name: np.asarray(source.variables[name]).tolist() for name in expected
    }


class Growing(nnx.Module):
    def __init__(self):
        self.seen = nnx.Cache(None)

    def __call__(self, x):
        self.seen.set_value(x)
        return x


class Named(nnx.Module):
    def __init__(self, value):
        self.value = nnx.Variable(value)

    def __call__(self, x):
        return x


def test_state_that_is_no_array_is_refused():
    with pytest.raises(SourceError, match="variable 'value' is a str; expected an array"):
        from_nnx(Named("text"))
    with pytest.raises(SourceError, match=r"two variables are called 'value\.a\.b'; rename"):
        from_nnx(Named({"a.b": array(1.0), "a": {"b": array(2.0)}}))


def test_state_that_changes_its_structure_is_refused():
    class Both(Growing):
        def __init__(self):
            super().__init__()
            self.pair: nnx.BatchStat = nnx.BatchStat((array(1.0),))

        def __call__(self, x):
            self.pair.set_value((x, x))
            return super().__call__(x)

    with pytest.raises(SourceError, match=r"variable 'pair' is .* after a call in training"):
        called(from_nnx(Both()), array(1.0), True)


class Asked(nnx.Module):
    """Is told the mode when it is called; two inputs, and outputs of a structure."""

    def __init__(self):
        self.weight = param(3.0)

    def __call__(self, x, y, *, train):
        return {"sum": x * self.weight[...] + y, "mode": (jnp.asarray(train),)}


def test_several_inputs_a_structure_of_outputs_and_a_keyword_for_the_mode():
    source = from_nnx(Asked())
    for train in (False, True):
        outputs, _ = called(source, (array(2.0), array(1.0)), train)
        assert outputs["sum"] == 7 and outputs["mode"][0] == train


def test_deep_networks_are_traced_without_looking_for_shardings(monkeypatch):
    """Under a trace Flax asks both arrays of an assignment for one, at a cost that is quadratic."""
    source = from_nnx(made(lambda rngs: nnx.BatchNorm(4, rngs=rngs)))

    def refuse(tracer):
        raise AssertionError("somebody asked a traced array for its sharding")

    monkeypatch.setattr(Tracer, "sharding", property(refuse))
    _, after = jax.eval_shape(lambda v, x: source.apply(v, x, True), source.variables, shape(2, 4))
    assert sorted(after) == ["mean", "var"]
