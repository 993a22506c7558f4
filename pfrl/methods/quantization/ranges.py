"""Where to clip: ranges of activations and scales of kernels, from data that is seen once."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph import Graph, Variables
from pfrl.graph.labelled.labels import Labelled
from pfrl.methods.inputs import LayerInput, Reducer, collect, listed
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
COUNTED = 2**21
"""Values of a site that a histogram counts of a batch, about; of 64 images of 32 pixels all."""
CLIPS = np.geomspace(1, 0.1, 80, dtype=np.float32)
"""Shares of the largest magnitude that kernels are tried to be clipped at, 3 % apart."""
PERCENTILE = 99.99
"""Of the calibration by percentiles."""


class CalibrationError(ValueError):
    """Nothing to look at, or an unknown method; the message says what is expected."""


class Observation(NamedTuple):
    """What a site holds.

    Attributes:
      low, high: extremes of a batch, as mean over the batches: a single outlier moves
        them less than the extremes of all.
      histogram: of all batches; without counts where no calibration needs them.
    """

    low: float
    high: float
    histogram: Histogram


class MeanInput(NamedTuple):
    """What a layer reads, as mean over the examples.

    Attributes:
      mean: over the examples, and the positions of a dense layer, whose axes have length
        1: the input that makes the layer put out its mean output.
      magnitude: likewise of absolute values, but as mean over the batches.
    """

    mean: np.ndarray
    magnitude: np.ndarray


Observations = dict[str, Observation]
"""By site."""
MeanInputs = dict[str, MeanInput]
"""By layer."""


def observe(
    graph: Graph, variables: Variables, batches: Iterable[Any], bins: int = BINS
) -> Observations:
    """Look at all sites in evaluation mode, unquantized.

    The batches are run twice, for the extremes and for the histograms between them.

    Args:
      graph: of the network.
      variables: its arrays, of full size.
      batches: normalised inputs ``[N, ...]`` as the network takes them, best all of one
        shape: every other one compiles again. Only ``N`` may differ.
      bins: of the histograms.

    Raises:
      CalibrationError: if there is no batch, or a site holds what is not finite.
    """
    batches = list(batches)
    (kept,) = collect(graph, variables, batches, [site_extremes(graph)])
    return with_histograms(graph, variables, batches, as_observations(kept), bins)


def mean_inputs(graph: Graph, variables: Variables, batches: Iterable[Any]) -> MeanInputs:
    """What all layers read, as mean over the examples of the batches; see ``observe``."""
    (kept,) = collect(graph, variables, batches, [means(graph)])
    return as_means(kept)


def site_extremes(graph: Graph) -> Reducer:
    """Keeps what ``as_observations`` takes."""

    def extremes_of(read: LayerInput, _: None) -> tuple[jax.Array, jax.Array]:
        x = read.value.astype(jnp.float32)
        return x.min(), x.max()

    return Reducer(extremes_of, lambda x: {site.name: None for site in graph.sites}, listed, True)


def means(graph: Graph) -> Reducer:
    """Keeps what ``as_means`` takes."""
    return Reducer(_means, lambda x: {layer.name: None for layer in graph.layers}, _added)


def as_observations(kept: Mapping[str, list[tuple]]) -> Observations:
    """What several batches have shown of every site, yet without the histogram.

    Raises:
      CalibrationError: if there was no batch, or a site holds what is not finite.
    """
    if not kept:
        raise CalibrationError("expected at least one batch of inputs to look at, got none")
    return {name: _merged(name, each) for name, each in kept.items()}


def as_means(kept: Mapping[str, "_Sums"]) -> MeanInputs:
    """What several batches have shown of every layer."""
    return {
        name: MeanInput(
            (seen.values / seen.rows).astype(np.float32),
            seen.magnitudes / np.float32(seen.batches),
        )
        for name, seen in kept.items()
    }


def with_histograms(
    graph: Graph,
    variables: Variables,
    batches: Iterable[Any],
    observations: Observations,
    bins: int = BINS,
) -> Observations:
    """Observations of the batches with the histograms between their extremes."""
    ends = {name: np.asarray(site.histogram[:2], np.float32) for name, site in observations.items()}

    def places(read: LayerInput, ends: jax.Array) -> jax.Array:
        """uint16, the bin of every value, or of so many of all channels."""
        start, stop = ends
        values = read.value.ravel()[:: _stride(read.value.size)].astype(jnp.float32)
        width = jnp.where(stop > start, stop - start, 1.0) / bins
        return jnp.clip((values - start) / width, 0, bins - 1).astype(jnp.uint16)

    def count(kept: np.ndarray | None, found: np.ndarray) -> np.ndarray:
        # Counted by NumPy: on a CPU, XLA adds to a histogram value by value.
        counts = np.bincount(found, minlength=bins)
        return counts if kept is None else kept + counts

    (counts,) = collect(graph, variables, batches, [Reducer(places, lambda x: ends, count, True)])
    return {
        name: site._replace(histogram=site.histogram._replace(counts=counts[name]))
        for name, site in observations.items()
    }


def ranges(
    observations: Observations, calibration: Calibration, bits: Mapping[str, int]
) -> dict[str, Range]:
    """``(low, high)`` of every site at its width.

    Args:
      observations: from ``observe``.
      calibration: finds the ranges of sites of 2 to 8 bits; those with 32 get their
        extremes, which nobody uses.
      bits: of every site.

    Raises:
      CalibrationError: if a site has no width.
    """
    missing = observations.keys() - bits.keys()
    if missing:
        raise CalibrationError(
            f"expected the bits of every site that was observed; '{min(missing)}' has none"
        )
    return {
        name: extremes(site, bits[name])
        if bits[name] >= FLOAT_BITS or site.histogram.start == site.histogram.stop
        else calibration.range(site, bits[name])
        for name, site in observations.items()
    }


def extremes(site: Observation, bits: int) -> Range:
    """The mean extremes of a batch."""
    return site.low, site.high


_HISTOGRAMS = frozenset({"sites", "histograms"})
register("calibration", "minmax", Calibration(extremes))
register(
    "calibration",
    "percentile",
    Calibration(lambda site, bits: percentile_range(site.histogram, PERCENTILE), _HISTOGRAMS),
)
register(
    "calibration",
    "mse",
    Calibration(lambda site, bits: mse_range(site.histogram, bits), _HISTOGRAMS),
)
register(
    "calibration",
    "entropy",
    Calibration(lambda site, bits: entropy_range(site.histogram, bits), _HISTOGRAMS),
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


class _Sums(NamedTuple):
    """Of several batches; none of them is kept.

    Attributes:
      values: float64, the means of the batches, each times its rows.
      magnitudes: float32, the means of the batches.
      rows: places that were read.
      batches: how many.
    """

    values: np.ndarray
    magnitudes: np.ndarray
    rows: int
    batches: int


def _means(read: LayerInput, _: None) -> tuple[jax.Array, jax.Array, int]:
    """Means of values and of magnitudes over the examples, and of how many rows."""
    x, axes = read.value.astype(jnp.float32), _example_axes(read.labelled, read.number)
    rows = math.prod(x.shape[axis] for axis in axes)
    return _mean(x, axes), _mean(jnp.abs(x), axes), rows


def _mean(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    if axes != (0,):
        return x.mean(axes, keepdims=True)
    # XLA's own sum over the examples takes a CPU eight times as long.
    return jnp.tensordot(jnp.full(len(x), 1 / len(x), x.dtype), x, 1, precision="highest")[None]


def _stride(size: int) -> int:
    """From one value that is counted to the next: it passes over no channel for good."""
    stride = -(-size // COUNTED)
    while math.gcd(stride, size) > 1:
        stride += 1
    return stride


def _added(kept: _Sums | None, found: Any) -> _Sums:
    mean, magnitude, rows = found[0], found[1], int(found[2])
    values = np.asarray(mean, np.float64) * rows
    if kept is None:
        return _Sums(values, np.asarray(magnitude), rows, 1)
    magnitudes = kept.magnitudes + magnitude
    return _Sums(kept.values + values, magnitudes, kept.rows + rows, kept.batches + 1)


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


def _merged(name: str, seen: list[tuple]) -> Observation:
    """What several batches have shown of a site, yet without the histogram."""
    lows, highs = zip(*seen, strict=True)
    start, stop = float(min(lows)), float(max(highs))
    if not np.isfinite([start, stop]).all():
        raise CalibrationError(
            f"what layer '{name}' reads or makes goes from {start} to {stop}, expected finite"
            " values; check the network's weights and the inputs"
        )
    low, high = float(np.mean(lows)), float(np.mean(highs))
    return Observation(low, high, Histogram(start, stop, np.zeros(0, np.int64)))
