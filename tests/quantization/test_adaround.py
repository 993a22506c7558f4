"""Rounding that looks at a layer's inputs: AdaRound."""

import jax
import numpy as np
import pytest

from pfrl.compression.calibration import gather_statistics
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe, RecipeError
from pfrl.compression.sliced import compress
from pfrl.graph import trace
from pfrl.methods.quantization.adaround import learned
from pfrl.methods.quantization.uniform import largest_steps
from tests.support.tiny import TwoConvs, made, shape


def error(change, moments):
    return float((change * (moments @ change)).sum())


def test_two_inputs_that_are_always_equal_are_rounded_to_opposite_sides():
    """0.45 + 0.35 is nearer to 1 + 0 than to 0 + 0; a third, independent input is left alone."""
    weights = np.array([[[0.45], [0.35], [0.3], [7.0]]], np.float32)
    moments = np.eye(4, dtype=np.float32)[None]
    moments[0, :2, :2] = 1
    found = np.asarray(learned(weights, np.ones_like(weights), np.float32(7), moments))[0, :, 0]
    assert sorted(found[:2]) == [0, 1] and found[2] == 0 and found[3] == 7


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_weight_goes_to_a_neighbour_and_the_outputs_change_less(bits):
    rng = np.random.default_rng(bits)
    weights = rng.normal(size=(1, 24, 6)).astype(np.float32)
    x = rng.normal(size=(200, 8)).astype(np.float32) @ rng.normal(size=(8, 24)).astype(np.float32)
    moments = (x.T @ x)[None] / len(x)
    steps = np.broadcast_to(largest_steps(weights[0], bits), weights.shape)
    levels = np.float32(2 ** (bits - 1) - 1)
    found = np.asarray(learned(weights, steps, levels, moments))
    nearest = np.clip(np.round(weights / steps), -levels, levels) * steps
    assert (np.abs(found - weights) <= steps * 1.0001).all()
    whole = found / steps
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-3)
    assert error(found - weights, moments) < 0.7 * error(nearest - weights, moments)


def test_a_network_is_rounded_to_what_was_learned():
    """The grid of the rounded kernel is the one that it was rounded on."""
    graph = trace(made(TwoConvs), shape(4, 8, 8, 1))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    policy = Policy.uniform(graph, 1.0, 3, 8)
    smalls = []
    for rounding in ("nearest", "adaround"):
        recipe = Recipe(rounding=rounding)
        seen = gather_statistics(graph, recipe, [(x, np.zeros(4, int))], quantized=True)
        smalls.append(compress(graph.source, policy, graph=graph, statistics=seen))
    nearest, found = smalls
    rounding = found.rounding(found.variables)
    kernel = found.variables["conv2.kernel"]
    np.testing.assert_allclose(rounding.kernel("conv2", kernel), kernel, rtol=1e-6)
    exact = graph.source.apply(graph.source.variables, x, False)[0]
    far, near = (float(np.abs(jax.jit(s)(x) - exact).mean()) for s in (nearest, found))
    assert near < far


def test_it_goes_with_grids_that_it_knows():
    with pytest.raises(RecipeError, match="goes with weights by lsq or minmax, got 'mse'"):
        Recipe(rounding="adaround", weights="mse").checked()
