"""What every network has to pass: masked equals sliced, in values, gradients and sizes."""

import inspect
import os
import warnings
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from hypothesis import HealthCheck, Phase, assume, currently_in_test_context, settings

from pfrl.compression.policy import Policy
from pfrl.compression.saved import load, save
from pfrl.compression.sliced import compress, run_graph
from pfrl.graph import Source, trace
from pfrl.graph.frontends import as_source
from pfrl.graph.masks import Masks, slice_variables
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step
from tests.support.tiny import randomised

BATCH = 6
REMEMBER = optax.GradientTransformation(
    lambda params: params, lambda updates, state, params=None: (updates, updates)
)
"""Leaves gradients as they are and keeps them as its state."""
# Compiling is most of the time, and half as long without LLVM's optimisations.
QUICK = {"xla_backend_optimization_level": 0}


def examples(count):
    """Hypothesis's settings: ``count`` policies, none of them shrunk.

    The same ones every time, so that what they compiled is found in the cache; others each time
    where everything runs ('make test-all').
    """
    return settings(
        max_examples=count,
        derandomize=os.environ.get("PFRL_TESTS") != "as used",
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        database=None,
    )


def lively(variables, seed):
    """All arrays anew; biases lean upwards, so that few channels are dead behind a ReLU."""
    result = {
        name: value.astype(variables[name].dtype)
        for name, value in randomised(variables, seed).items()
    }
    for name in result:
        if name.endswith(".bias") and result[name].ndim == 1:
            result[name] = result[name] + result[name].dtype.type(0.5)
        elif name.endswith(".mean"):
            result[name] = result[name] * result[name].dtype.type(0.3)
    return result


@cache
def _abstract(constructor, precise) -> Source:
    """A network with the shapes of its arrays; their types depend on whether 64 bits are on."""
    if inspect.signature(constructor).parameters:
        return as_source(nnx.eval_shape(lambda: constructor(nnx.Rngs(0))))
    return constructor()


def random_source(constructor, seed=0, dtype=jnp.float32) -> Source:
    """A network with random arrays of its shapes, without its initialisers, which would compile.

    ``constructor`` takes ``rngs`` and makes an nnx module, or takes nothing and makes a source.
    """
    source = _abstract(constructor, jax.config.read("jax_enable_x64"))
    shapes = {
        name: jax.ShapeDtypeStruct(value.shape, dtype)
        if jnp.issubdtype(value.dtype, jnp.floating)
        else value
        for name, value in source.variables.items()
    }
    return source._replace(variables=lively(shapes, seed))


def pooled(outputs):
    """Logits ``[N, K]`` of outputs ``[N, ..., K]``."""
    return outputs.reshape(outputs.shape[0], -1, outputs.shape[-1]).mean(axis=1)


def everything(apply, trainable):
    """One function of all that must agree, so that it compiles once.

    ``(variables, x, labels, *extras)`` to outputs in both modes, and the updated
    statistics, the gradients and the parameters after one step of training.
    """
    optimizer = optax.chain(REMEMBER, sgd(0.1, 0.01))

    def classify(variables, x, train, *extras):
        outputs, statistics = apply(variables, x, train, *extras)
        return pooled(outputs), {**statistics, "outputs": outputs}

    step = make_train_step(classify, optimizer)

    def run(variables, x, labels, *extras):
        parameters = {k: v for k, v in variables.items() if k in trainable}
        statistics = {k: v for k, v in variables.items() if k not in trainable}
        state, _ = step(
            TrainState(parameters, statistics, optimizer.init(parameters)), x, labels, None, *extras
        )
        trained = state.statistics.pop("outputs")
        return {
            "evaluated": apply(variables, x, False, *extras)[0],
            "trained": trained,
            "statistics": state.statistics,
            "gradients": state.optimizer[0],
            "parameters": state.parameters,
        }

    return jax.jit(run, compiler_options=QUICK)


def random_inputs(rng, x):
    """An array of the shape of ``x``: normal numbers, or small whole ones."""
    if np.issubdtype(x.dtype, np.integer):
        return rng.integers(0, 5, x.shape).astype(x.dtype)
    return rng.normal(size=x.shape).astype(x.dtype)


def masked_network(constructor, image, dtype=jnp.float32):
    """A network with random variables, its graph, and ``everything`` of it with a mask."""
    return _masked_network(constructor, image, dtype)


def forget_networks():
    """Those of ``masked_network``, which are large at full width."""
    _masked_network.cache_clear()


@cache
def _masked_network(constructor, image, dtype):
    precise = jnp.float64 if dtype == jnp.float64 else jnp.float32
    source = random_source(constructor, dtype=precise)
    graph = trace(source, jax.ShapeDtypeStruct((BATCH, *image), dtype))
    masks = Masks(graph)

    def apply(variables, x, train, mask):
        return run_graph(graph, masks.apply(variables, mask), x, train)

    return graph, masks, everything(apply, graph.source.trainable)


def assert_close(masked, sliced, name, largest=0.0):
    """Equal to 1e-4 of the largest value, here or (times ten) in arrays of the same kind.

    In float64 to 1e-10 of it.

    The gradient of a bias before a normalisation is zero, and what is computed
    is rounding alone: it is measured against the other gradients.
    """
    masked, sliced = np.asarray(masked), np.asarray(sliced)
    assert masked.shape == sliced.shape, name
    scale = max(np.abs(sliced).max(), largest / 10)
    relative = 1e-10 if sliced.dtype == np.float64 else 1e-4
    assert np.abs(masked - sliced).max() <= relative * scale, (name, np.abs(masked - sliced).max())


def random_policy(graph, seed):
    """A policy of random shares, of which one at least removes channels."""
    rng = np.random.default_rng(seed)
    keep = {group: rng.uniform(0.3, 1) for group in graph.groups}
    keep[rng.choice(list(graph.groups))] = 0.5
    return replace(Policy.uniform(graph), keep=keep).checked(graph)


def compressed(constructor, image, seed, dtype=jnp.float32):
    """A network under a random policy, and an input."""
    graph, _, _ = masked_network(constructor, image, dtype)
    variables = lively(graph.source.variables, seed)
    policy = random_policy(graph, seed)
    small = compress(graph.source, policy, graph=graph, variables=variables)
    return small, random_inputs(np.random.default_rng(seed), graph.inputs[0])


def check(constructor, image, seed, dtype=jnp.float32):
    """Masked equals sliced for a random policy; returns the compressed network and an input."""
    graph, masks, run_masked = masked_network(constructor, image, dtype)
    small, x = compressed(constructor, image, seed, dtype)
    counts = small.policy.counts(graph)
    assert {name: len(channels) for name, channels in small.kept.items()} == counts

    rng = np.random.default_rng(seed)
    variables = lively(graph.source.variables, seed)
    outputs = jax.eval_shape(lambda v: small.apply(v, x, False)[0], small.variables)
    labels = rng.integers(0, outputs.shape[-1], BATCH)
    masked = run_masked(variables, x, labels, masks.vector(small.kept))
    assert np.abs(masked["evaluated"]).max() > 0.01
    # A few random channels may all be dead behind their ReLU; such a network tells nothing.
    telling = np.ptp(masked["evaluated"], axis=0).max() > 0.001 * np.abs(masked["evaluated"]).max()
    if currently_in_test_context():
        assume(telling)
    assert telling
    run_sliced = everything(small.apply, graph.source.trainable)
    sliced = run_sliced(small.variables, x, labels)
    for mode in ("evaluated", "trained"):
        assert_close(masked[mode], sliced[mode], mode)
    for what in ("statistics", "gradients", "parameters"):
        full = variables | masked[what]
        kept = slice_variables(graph, full, small.kept)
        assert set(sliced[what]) == set(masked[what])
        floats = [np.abs(v).max() for v in sliced[what].values() if np.size(v)]
        largest = max(floats, default=0)
        for key, value in sliced[what].items():
            assert_close(kept[key], value, f"{what} of {key}", largest)
    assert_sizes(graph, counts, small)
    return small, x


def check_precisely(constructor, image, seed):
    """Everything in float64, and the outputs in evaluation mode in float32 too.

    Through a deep network of random arrays the rounding of float32 grows to some
    per mille in the gradients, of the masked and of the sliced network alike.
    """
    with jax.enable_x64(True):
        check(constructor, image, seed, jnp.float64)
    graph, masks, _ = masked_network(constructor, image)
    small, x = compressed(constructor, image, seed)
    variables = lively(graph.source.variables, seed)

    def masked(variables, mask):
        return run_graph(graph, masks.apply(variables, mask), x, False)[0]

    expected = jax.jit(masked, compiler_options=QUICK)(variables, masks.vector(small.kept))
    assert expected.dtype == jnp.float32
    got = jax.jit(lambda v: small.apply(v, x, False)[0], compiler_options=QUICK)(small.variables)
    assert_close(expected, got, "evaluated in float32")


def check_saved(small, x, directory):
    """What ``pfrl.load`` reads gives the same outputs, statistics and gradients in both modes."""
    loaded = load(save(small, directory))

    def both_modes(network):
        def run(variables):
            return [network.apply(variables, x, train) for train in (False, True)]

        return jax.jit(run, compiler_options=QUICK)(network.variables)

    for train, ours, theirs in zip(
        (False, True), both_modes(small), both_modes(loaded), strict=True
    ):
        (outputs, statistics), (again, others) = ours, theirs
        assert_close(again, outputs, f"outputs, train={train}")
        assert set(others) == set(statistics)
        for name, value in statistics.items():
            assert_close(others[name], value, name)


def assert_sizes(graph, counts, small):
    """MACs and parameters counted in the sliced arrays are those that the graph predicts."""
    arrays = small.variables
    assert small.params == graph.params_at(counts)
    for name, counted in graph.axes.items():
        assert arrays[name].shape == tuple(count.at(counts) for count in counted), name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counted = trace(Source(small.apply, arrays, graph.source.trainable), *graph.inputs).macs
    assert small.macs == graph.macs_at(counts) == counted
    assert counted < graph.macs
