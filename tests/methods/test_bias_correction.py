"""Bias correction: what is added behind each layer, and mean outputs that stay what they were."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pfrl.compression.calibration import gather_statistics
from pfrl.compression.policy import Policy
from pfrl.compression.prepare import Preparer
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import compress, run_graph
from pfrl.evaluation.compilations import compilations
from pfrl.graph import trace
from pfrl.graph.addends import find_addends
from pfrl.graph.masks import slice_variables
from pfrl.methods.quantization.ranges import mean_inputs
from pfrl.methods.quantization.uniform import fake_quantize_weights
from pfrl.methods.repair.bias_correction import BiasCorrection, BiasCorrectionError
from pfrl.models.zoo.layers import BatchNorm
from tests.support.conformance import random_source
from tests.support.tiny import Branches, Shared, TwoConvs, shape

rounded = jax.jit(fake_quantize_weights)


def normal(*size, seed=0):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def means_of(graph, variables, batches):
    return {n: seen.mean for n, seen in mean_inputs(graph, variables, batches).items()}


class EveryKind(nnx.Module):
    """Layers with each kind of addend; [N, 8, 8, 2] to all their normalised outputs."""

    def __init__(self, rngs):
        self.ours = nnx.Conv(2, 6, (3, 3), use_bias=False, rngs=rngs)
        self.norm1 = BatchNorm(6)
        self.depth = nnx.Conv(6, 6, (3, 3), feature_group_count=6, use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(6, rngs=rngs)
        self.strided = nnx.Conv(6, 5, (3, 3), strides=2, padding=2, rngs=rngs)
        self.heads = nnx.LinearGeneral(5, (2, 3), rngs=rngs)
        self.out = nnx.Linear(6, 4, use_bias=False, rngs=rngs)

    def __call__(self, x):
        a = self.norm1(self.ours(x))
        b = self.norm2(self.depth(jax.nn.relu(a)))
        c = 2 * self.strided(jax.nn.relu(b))
        d = self.heads(jax.nn.relu(c).mean(axis=(1, 2)))
        return {
            "ours": a,
            "depth": b,
            "strided": c,
            "heads": d,
            "out": self.out(jax.nn.relu(d).reshape(x.shape[0], -1)),
        }


def test_what_is_added_behind_the_layers_of_a_network():
    graph = trace(random_source(EveryKind), shape(2, 8, 8, 2))
    names = sorted(graph.source.variables)
    labelled, _ = graph.program(graph.inputs[0], False)
    found = find_addends(labelled, names)
    # Subtracted before it is scaled; multiplied by a slope before the bias comes; the last has none
    assert [(a.variable, a.scale, len(a.factors)) for a in found.values()] == [
        ("norm1.bias", 1, 1),
        ("norm2.mean", -1, 0),
        ("strided.bias", 1, 0),
        ("heads.bias", 1, 0),
    ]


def test_a_layers_own_bias_comes_before_that_of_its_normalisation():
    graph = trace(random_source(Branches), shape(2, 6, 6, 2))
    labelled, _ = graph.program(graph.inputs[0], False)
    found = find_addends(labelled, sorted(graph.source.variables)).values()
    names = ["left.bias", "right.bias", "mix.bias", "depth.bias", "out.bias"]
    assert [addend.variable for addend in found] == names


def test_every_mean_output_is_what_it_was():
    source = random_source(EveryKind)
    graph = trace(source, shape(2, 8, 8, 2))
    variables = {n: np.asarray(v) for n, v in source.variables.items()}
    x = normal(40, 8, 8, 2) + 0.5
    means = means_of(graph, variables, [x[:20], x[20:]])
    correction = BiasCorrection(graph)

    @jax.jit
    def outputs(variables):
        found = run_graph(graph, variables, x, False)[0]
        return {
            name: y.mean(tuple(range(y.ndim - (2 if name == "heads" else 1))))
            for name, y in found.items()
        }

    before, compiled = outputs(variables), []
    for layer in graph.layers:
        kernel = {layer.kernel: np.asarray(rounded(variables[layer.kernel], np.int32(2)))}
        counted = compilations()
        correct = correction(variables, kernel, means)
        compiled.append(compilations() - counted)
        spoilt = outputs({**variables, **kernel})[layer.name]
        assert np.abs(spoilt - before[layer.name]).max() > 0.02, layer.name
        changed = [n for n, v in variables.items() if not np.array_equal(correct[n], v)]
        if layer.name == "out":
            assert not changed
            continue
        mended = outputs({**correct, **kernel})[layer.name]
        np.testing.assert_allclose(mended, before[layer.name], atol=1e-4, err_msg=layer.name)
        assert len(changed) == 1 and correct[changed[0]].dtype == np.float32
    # Whatever is rounded, the correction of a network is compiled once.
    assert compiled[1:] == [0] * 4


def test_all_kernels_at_once_and_the_shift_by_hand():
    source = random_source(lambda rngs: nnx.Linear(3, 4, rngs=rngs))
    graph = trace(source, shape(2, 3))
    variables = {n: np.asarray(v) for n, v in source.variables.items()}
    x = normal(50, 3) + 1
    kernel = np.asarray(rounded(variables["kernel"], np.int32(2)))
    found = BiasCorrection(graph)(variables, {"kernel": kernel}, means_of(graph, variables, [x]))
    shift = (x @ (kernel - variables["kernel"])).mean(0)
    np.testing.assert_allclose(found["bias"], variables["bias"] - shift, atol=1e-5)
    assert found["kernel"] is variables["kernel"]


def over_tokens(p, x):
    """Tokens ``[N, T, C]`` to ``[N, U, C]``, as a mixer does it."""
    return jnp.swapaxes(jnp.swapaxes(x, 1, 2) @ p["kernel"] + p["bias"], 1, 2)


def from_the_left(p, x):
    """As ``over_tokens``, over examples and channels at once, the kernel as left operand."""
    rows = jnp.swapaxes(x, 0, 1).reshape(x.shape[1], -1)
    return p["kernel"].T @ rows + p["bias"][:, None]


def moved(p, x):
    """As ``over_tokens``, but what the product makes is transposed before the bias comes."""
    return jnp.swapaxes(jnp.swapaxes(x, 1, 2) @ p["kernel"], 1, 2) + p["bias"][:, None]


@pytest.mark.parametrize("network", [over_tokens, from_the_left, moved])
def test_layers_over_tokens(network):
    p = {"kernel": normal(5, 4), "bias": normal(4, seed=1)}
    graph = trace(network, shape(2, 5, 3), variables=p)
    x = normal(30, 5, 3, seed=2) + 1
    kernel = np.asarray(rounded(p["kernel"], np.int32(2)))
    found = BiasCorrection(graph)(p, {"kernel": kernel}, means_of(graph, p, [x]))
    shift = np.einsum("ntc,tu->nuc", x, kernel - p["kernel"]).mean((0, 2))
    expected = p["bias"] if network is moved else p["bias"] - shift
    np.testing.assert_allclose(found["bias"], expected, atol=1e-5)


def test_a_bias_behind_two_layers_goes_halfway_to_both():
    source = random_source(Shared)
    graph = trace(source, shape(2, 6, 6, 2))
    variables = {n: np.asarray(v) for n, v in source.variables.items()}
    x = normal(20, 6, 6, 2)
    means = means_of(graph, variables, [x])
    kernel = np.asarray(rounded(variables["shared.kernel"], np.int32(2)))
    found = BiasCorrection(graph)(variables, {"shared.kernel": kernel}, means)
    change = jnp.asarray(kernel - variables["shared.kernel"])
    convolve = jax.jit(
        lambda x: jax.lax.conv_general_dilated(
            x, change, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )
    shifts = [np.mean(convolve(means[name]), (0, 1, 2)) for name in ("shared", "shared#2")]
    expected = variables["shared.bias"] - np.mean(shifts, axis=0)
    np.testing.assert_allclose(found["shared.bias"], expected, atol=1e-5)


def elsewhere(p, x):
    """A bias that is used again, and layers whose outputs meet before anything is added."""
    hidden = jax.nn.relu(x @ p["a"] + p["twice"])
    hidden = jax.nn.relu(hidden @ p["b"] + hidden @ p["c"] + p["both"])
    return hidden @ p["d"] + p["twice"].sum() + p["scalar"]


def test_what_is_no_bias_of_one_layer_is_left_alone():
    p = {name: normal(4, 4, seed=i) for i, name in enumerate("abcd")}
    p |= {"twice": normal(4, seed=7), "both": normal(4, seed=8), "scalar": normal(1, seed=9)}
    graph = trace(elsewhere, shape(2, 4), variables=p)
    kernels = {name: np.asarray(rounded(p[name], np.int32(2))) for name in "abcd"}
    found = BiasCorrection(graph)(p, kernels, means_of(graph, p, [normal(20, 4)]))
    assert all(found[name] is value for name, value in p.items())


def test_what_does_not_fit_is_said():
    graph = trace(random_source(Branches), shape(2, 6, 6, 2))
    means = {layer.name: np.zeros(1) for layer in graph.layers}
    with pytest.raises(BiasCorrectionError, match=r"rounded kernels of layers by name, got 'bn\.b"):
        BiasCorrection(graph)(graph.source.variables, {"bn.bias": np.zeros(8)}, means)
    with pytest.raises(BiasCorrectionError, match="got none for 'mix'"):
        del means["mix"]
        BiasCorrection(graph)(graph.source.variables, {}, means)


def test_a_recipe_corrects_what_its_policy_rounds():
    """Means of all layers are nearer to the unrounded network's; masks and slices start alike."""
    graph = trace(random_source(TwoConvs), shape(2, 8, 8, 1))
    x = normal(40, 8, 8, 1) + 0.5
    policy = Policy.uniform(graph, 0.5, weight_bits=2)
    errors, mended = {}, {}
    for corrected in (False, True):
        recipe = Recipe(bias_correction=corrected, images=40)
        seen = gather_statistics(graph, recipe, [(x, None)])
        small = compress(graph.source, policy, graph=graph, statistics=seen)
        whole = compress(
            graph.source,
            replace(policy, weight_bits=dict.fromkeys(policy.weight_bits, 32)),
            graph=graph,
            statistics=seen,
        )
        mended[corrected] = small.variables
        errors[corrected] = np.abs((small(x) - whole(x)).mean(0)).max()
        prepared = Preparer(seen)(policy)
        sliced = slice_variables(graph, prepared.variables, prepared.kept)
        for name, value in sliced.items():
            np.testing.assert_array_equal(value, small.variables[name])
    changed = {n for n, v in mended[True].items() if not np.array_equal(v, mended[False][n])}
    assert changed == {"bn1.mean", "bn2.mean", "linear.bias"} or changed == {
        "bn1.bias",
        "bn2.bias",
        "linear.bias",
    }
    assert errors[True] < 0.5 * errors[False]
