"""Where to clip: ranges of activations and scales of kernels, from data that is seen once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph import Graph, Variables
from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.layers import find_layers
from pfrl.graph.slicing import run
from pfrl.methods.quantization.base import Calibration, WeightQuantizer
from pfrl.methods.quantization.histogram import (
    Histogram,
    Range,
    entropy_range,
    mse_range,
    percentile_range,
)
from pfrl.methods.quantization.uniform import (
    FLOAT_BITS,
    SHORTEST,
    fake_quantize_weights,
    weight_levels,
    widened,
)
from pfrl.registry import register

BINS = 8192
"""Of the histograms: a clip at a thirtieth of the range still has a bin for each of 8 bits."""
CLIPS = np.geomspace(1, 0.1, 80, dtype=np.float32)
"""Shares of the largest magnitude that kernels are tried to be clipped at, 3 % apart."""
PERCENTILE = 99.99
"""Of the calibration by percentiles."""


class CalibrationError(ValueError):
    """Nothing to look at, or an unknown method; the message says what is expected."""


class Observation(NamedTuple):
    """What a layer reads, of the channels that are there.

    Attributes:
      low, high: extremes of a batch, as mean over the batches: a single outlier moves
        them less than the extremes of all.
      histogram: of all batches.
      mean: over the examples, and the positions of a dense layer, whose axes have length
        1: the input that makes the layer put out its mean output.
    """

    low: float
    high: float
    histogram: Histogram
    mean: np.ndarray


Observations = dict[str, Observation]
"""By layer."""


def observe(
    graph: Graph,
    variables: Variables,
    batches: Iterable[Any],
    kept: Mapping[str, np.ndarray] | None = None,
    bins: int = BINS,
) -> Observations:
    """Look at the inputs of all layers in evaluation mode, unquantized.

    The batches are run twice, for the extremes and for the histograms between them.

    Args:
      graph: of the network.
      variables: its arrays; after a removal they may be sliced, or masked and of full size.
      batches: normalised inputs ``[N, ...]`` as the network takes them, best all of one
        shape: every other one compiles again. Only ``N`` may differ.
      kept: by group, the channels that remain; others are not counted. All by default.
      bins: of the histograms.

    Raises:
      CalibrationError: if there is no batch, or a layer reads what is not finite.
    """
    batches = list(batches)
    if not batches:
        raise CalibrationError("expected at least one batch of inputs to look at, got none")
    leaves = [jnp.asarray(variables[name]) for name in sorted(graph.source.variables)]
    arguments = [[*leaves, *map(jnp.asarray, jax.tree.leaves(x))] for x in batches]
    programs = [graph.program(x, False)[0] for x in batches]
    passes = {
        key: _passes(graph, labelled, kept, leaves, bins)
        for key, labelled in {id(labelled): labelled for labelled in programs}.items()
    }
    runs = [(*passes[id(p)], each) for p, each in zip(programs, arguments, strict=True)]
    seen = [jax.device_get(glance(each)) for glance, _, each in runs]
    examples = [each[len(leaves)].shape[0] for each in arguments]
    found = {name: _merged(name, [each[name] for each in seen], examples) for name in seen[0]}
    ends = {name: (layer.histogram.start, layer.histogram.stop) for name, layer in found.items()}
    counts = {name: np.zeros(bins, np.int64) for name in found}
    for _, place, each in runs:
        # Counted by NumPy: on a CPU, XLA adds to a histogram value by value.
        for name, places in jax.device_get(place(each, ends)).items():
            counts[name] += np.bincount(places, minlength=bins + 1)[:bins]
    return {
        name: layer._replace(histogram=layer.histogram._replace(counts=counts[name]))
        for name, layer in found.items()
    }


def ranges(
    observations: Observations, calibration: Calibration, act_bits: Mapping[str, int]
) -> dict[str, Range]:
    """``(low, high)`` of every layer's input at its width.

    Args:
      observations: from ``observe``.
      calibration: finds the ranges of layers of 2 to 8 bits; those with 32 get their
        extremes, which nobody uses.
      act_bits: of every layer.

    Raises:
      CalibrationError: if a layer has no width.
    """
    missing = observations.keys() - act_bits.keys()
    if missing:
        raise CalibrationError(
            f"expected the bits of every layer that was observed; '{min(missing)}' has none"
        )
    return {
        name: extremes(layer, bits)
        if (bits := act_bits[name]) >= FLOAT_BITS or layer.histogram.start == layer.histogram.stop
        else calibration.range(layer, bits)
        for name, layer in observations.items()
    }


def extremes(layer: Observation, bits: int) -> Range:
    """The mean extremes of a batch."""
    return layer.low, layer.high


_HISTOGRAMS = frozenset({"inputs", "histograms"})
register("calibration", "minmax", Calibration(extremes))
register(
    "calibration",
    "percentile",
    Calibration(lambda layer, bits: percentile_range(layer.histogram, PERCENTILE), _HISTOGRAMS),
)
register(
    "calibration",
    "mse",
    Calibration(lambda layer, bits: mse_range(layer.histogram, bits), _HISTOGRAMS),
)
register(
    "calibration",
    "entropy",
    Calibration(lambda layer, bits: entropy_range(layer.histogram, bits), _HISTOGRAMS),
)


@jax.jit
def best_steps(kernel: jax.Array, bits: jax.Array, alive: jax.Array | None = None) -> jax.Array:
    """The step of every output channel's grid with the least squared error.

    It is one of ``CLIPS`` of the step at which nothing is clipped. Compiled once for a
    kernel's shape.

    Args:
      kernel: ``[..., O]``.
      bits: scalar, 2 to 8 or 32, may be traced.
      alive: 0 and 1, broadcastable to the kernel: the weights that are there.

    Returns:
      float32 ``[O]``, above zero; a channel of zeros has the grid of ``[-1, 1]``.
    """
    kernel = widened(kernel) if alive is None else widened(kernel) * alive
    others = tuple(range(kernel.ndim - 1))
    largest = jnp.max(jnp.abs(kernel), axis=others)
    widest = jnp.where(largest > SHORTEST, largest, 1.0) / weight_levels(bits)

    def better(best: tuple, share: jax.Array) -> tuple[tuple, None]:
        error, scale = best
        tried = widest * share
        change = fake_quantize_weights(kernel, bits, tried) - kernel
        new = jnp.square(change).sum(others)
        return (jnp.minimum(new, error), jnp.where(new < error, tried, scale)), None

    start = jnp.full_like(widest, jnp.inf), widest
    return jax.lax.scan(better, start, jnp.asarray(CLIPS))[0][1]


register(
    "weight_quantizer",
    "mse",
    WeightQuantizer(
        lambda kernel, own, bits, alive: fake_quantize_weights(kernel, bits, own["step"]),
        start=lambda kernel, bits, alive: {"step": best_steps(kernel, bits, alive)},
        cut={"step": "outputs"},
        steps=lambda kernel, own, bits: np.asarray(own["step"], np.float32),
        restored=lambda kernel, steps, bits: {"step": steps},
    ),
)


def _passes(
    graph: Graph,
    labelled: Labelled,
    kept: Mapping[str, np.ndarray] | None,
    leaves: list[jax.Array],
    bins: int,
) -> tuple[Callable, Callable]:
    """``arguments -> (low, high, mean)`` and ``(arguments, ends) -> bins``, by layer."""
    layers = find_layers(labelled, sorted(graph.source.variables))
    removed = None if kept is None else graph.removed_atoms(labelled, kept)
    whole = all(leaf.shape == s for leaf, s in zip(leaves, labelled.program.shapes, strict=False))
    cut, masked = (None, removed) if whole else (removed, None)

    def read(arguments: list[jax.Array]) -> dict[int, jax.Array]:
        found = {}

        def on_layer(number: int, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
            found[number] = x.astype(jnp.float32)
            return x, kernel

        run(labelled, arguments, cut, on_layer)
        return found

    @jax.jit
    def glance(arguments: list[jax.Array]) -> dict[str, tuple[jax.Array, ...]]:
        return {
            layers[n]: _summary(x, _alive(labelled, n, masked), _example_axes(labelled, n))
            for n, x in read(arguments).items()
        }

    @jax.jit
    def place(arguments: list[jax.Array], ends: dict[str, Any]) -> dict[str, jax.Array]:
        return {
            layers[n]: _places(x, _alive(labelled, n, masked), ends[layers[n]], bins)
            for n, x in read(arguments).items()
        }

    return glance, place


def _summary(x: jax.Array, alive: np.ndarray, axes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """Extremes of what is there, and its mean over ``axes``, whose lengths become 1."""
    low, high = jnp.where(alive, x, jnp.inf).min(), jnp.where(alive, x, -jnp.inf).max()
    there = jnp.broadcast_to(alive, x.shape)
    total = jnp.where(there, x, 0).sum(axes, keepdims=True)
    return low, high, total / jnp.maximum(there.sum(axes, keepdims=True), 1)


def _places(x: jax.Array, alive: np.ndarray, ends: tuple[Any, Any], bins: int) -> jax.Array:
    """uint16, the bin of every value between the ends; ``bins`` for what is not there."""
    start, stop = ends
    width = jnp.where(stop > start, stop - start, 1.0) / bins
    place = jnp.clip((x - start) / width, 0, bins - 1)
    return jnp.where(alive, place, bins).astype(jnp.uint16).ravel()


def _alive(labelled: Labelled, number: int, removed: np.ndarray | None) -> np.ndarray:
    """bool, broadcastable to what a layer reads: what of it is there; all for None."""
    equation = labelled.program.equations[number]
    labels = labelled.of(equation.inputs[1 - labelled.kernels[number]])
    alive = np.ones([1] * len(labels), bool)
    for axis, label in enumerate(labels):
        if label is not None and removed is not None:
            shape = [-1 if a == axis else 1 for a in range(len(labels))]
            alive = alive & ~removed[label].reshape(shape)
    return alive


def _example_axes(labelled: Labelled, number: int) -> tuple[int, ...]:
    """The axes of a layer's input along which it reads one place after the other, all alike."""
    equation = labelled.program.equations[number]
    numbers = equation.params["dimension_numbers"]
    if equation.name == "conv_general_dilated":
        return (numbers.lhs_spec[0],)
    other = 1 - labelled.kernels[number]
    rank = len(equation.shapes[0][other])
    return tuple(
        a for a in range(rank) if a not in numbers[0][other] and a not in numbers[1][other]
    )


def _merged(name: str, seen: list[tuple], examples: list[int]) -> Observation:
    """What several batches have shown of a layer, yet without the histogram."""
    lows, highs, means = zip(*seen, strict=True)
    start, stop = float(min(lows)), float(max(highs))
    if not np.isfinite([start, stop]).all():
        raise CalibrationError(
            f"layer '{name}' reads values from {start} to {stop}, expected finite ones;"
            " check the network's weights and the inputs"
        )
    mean = np.average(means, axis=0, weights=examples).astype(np.float32)
    low, high = float(np.mean(lows)), float(np.mean(highs))
    return Observation(low, high, Histogram(start, stop, np.zeros(0, np.int64)), mean)
