"""Histograms of what layers read, and where to clip it: pure functions of counts and bits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.methods.quantization.uniform import activation_grid, fake_quantize_activations

CLIPS = np.geomspace(1, 1 / 256, 128, dtype=np.float32)
"""Shares of the largest magnitude that clips are tried at, 4 % apart."""
SMOOTHING = 1e-4
"""Share of the uniform distribution in a rounded one, so that divergences are finite."""

Range = tuple[float, float]
"""``(low, high)``."""


class Histogram(NamedTuple):
    """How many values there are in each of ``B`` equal bins.

    Attributes:
      start, stop: the smallest and the largest value, the ends of the bins.
      counts: int64 ``[B]``.
    """

    start: float
    stop: float
    counts: np.ndarray

    @property
    def width(self) -> float:
        """Of a bin."""
        return (self.stop - self.start) / len(self.counts)

    @property
    def centres(self) -> np.ndarray:
        """Of the bins, float32 ``[B]``."""
        centres = self.start + self.width * (np.arange(len(self.counts)) + 0.5)
        return centres.astype(np.float32)

    @property
    def shares(self) -> np.ndarray:
        """The counts over their sum, float32 ``[B]``."""
        return (self.counts / self.counts.sum()).astype(np.float32)


def percentile_range(histogram: Histogram, percentile: float) -> Range:
    """The percentile, and as much below: with 99.99, at most 0.01 % lie outside at either end."""
    share = percentile / 100
    low = histogram.stop - histogram.width * _quantile(histogram.counts[::-1], share)
    return float(low), float(histogram.start + histogram.width * _quantile(histogram.counts, share))


def mse_range(histogram: Histogram, bits: int) -> Range:
    """The clip ``[-t, t]`` of the extremes whose rounding and clipping has the least squared error.

    Every bin counts as its centre.
    """
    lows, highs = _clipped_ranges(histogram)
    errors = _squared_errors(histogram.centres, histogram.shares, np.int32(bits), lows, highs)
    best = np.argmin(errors)
    return float(lows[best]), float(highs[best])


def entropy_range(histogram: Histogram, bits: int) -> Range:
    """The clip ``[-t, t]`` of the extremes that loses the least information.

    The divergence ``KL(P ‖ Q)`` of the histogram ``P``, clipped, so that its end bins hold
    all beyond them, from ``Q``, the bins within the clip, rounded to the integers of the
    grid and spread evenly over those bins of an integer that are not empty (Migacz 2017,
    *8-bit inference with TensorRT*, GTC). Other than there, the clips are ``CLIPS``
    of the largest magnitude, the grid may be affine, and ``Q`` is smoothed. Zeros, of which
    a ReLU makes many, are always on the grid and lose nothing: their bin counts as the next.
    """
    lows, highs = _clipped_ranges(histogram)
    shares = _without_zeros(histogram).shares
    losses = _divergences(histogram.centres, shares, np.int32(bits), lows, highs)
    best = np.argmin(losses)
    return float(lows[best]), float(highs[best])


def _without_zeros(histogram: Histogram) -> Histogram:
    """With as many values in the bin of 0 as in the next one, away from the nearer end."""
    bins = len(histogram.counts)
    zero = int(np.floor(-histogram.start / histogram.width))
    if bins < 2 or not 0 <= zero <= bins:
        return histogram
    zero = min(zero, bins - 1)
    counts = histogram.counts.copy()
    counts[zero] = counts[zero + 1 if zero < bins // 2 else zero - 1]
    return histogram._replace(counts=counts)


def _quantile(counts: np.ndarray, share: float) -> float:
    """How many bins from the first one hold that share of the values; the last one in part."""
    wanted, cumulative = share * counts.sum(), np.cumsum(counts)
    bin = min(int(np.searchsorted(cumulative, wanted)), len(counts) - 1)
    before = cumulative[bin] - counts[bin]
    return bin + (wanted - before) / max(counts[bin], 1)


def _clipped_ranges(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """The ends of all ranges that are tried: the extremes, clipped to ``[-t, t]``."""
    limits = max(abs(histogram.start), abs(histogram.stop)) * CLIPS
    return np.maximum(histogram.start, -limits), np.minimum(histogram.stop, limits)


@jax.jit
def _squared_errors(
    centres: jax.Array, shares: jax.Array, bits: jax.Array, lows: jax.Array, highs: jax.Array
) -> jax.Array:
    """Mean squared change of a histogram's values on the grids of several ranges."""

    def error(low: jax.Array, high: jax.Array) -> jax.Array:
        change = fake_quantize_activations(centres, bits, low, high) - centres
        return jnp.sum(shares * jnp.square(change))

    return jax.vmap(error)(lows, highs)


@jax.jit
def _divergences(
    centres: jax.Array, shares: jax.Array, bits: jax.Array, lows: jax.Array, highs: jax.Array
) -> jax.Array:
    """``KL(P ‖ Q)`` of ``entropy_range``; infinite where there are fewer bins than integers."""

    def divergence(low: jax.Array, high: jax.Array) -> jax.Array:
        grid = activation_grid(bits, low, high)
        integers = jnp.round(centres / grid.scale) + grid.zero_point
        below, above = integers < 0, integers > grid.levels
        inside = ~(below | above)
        buckets = jnp.clip(integers, 0, grid.levels).astype(jnp.int32)
        filled = inside & (shares > 0)
        mass = jax.ops.segment_sum(jnp.where(inside, shares, 0), buckets, 256)
        places = jax.ops.segment_sum(filled.astype(jnp.float32), buckets, 256)
        rounded = jnp.where(filled, (mass / jnp.maximum(places, 1))[buckets], 0)
        rounded = rounded / jnp.maximum(rounded.sum(), 1e-30)
        q = (1 - SMOOTHING) * rounded + SMOOTHING / jnp.maximum(inside.sum(), 1)
        ends = jnp.argmax(inside), len(centres) - 1 - jnp.argmax(inside[::-1])
        p = jnp.where(inside, shares, 0)
        p = p.at[ends[0]].add(jnp.where(below, shares, 0).sum())
        p = p.at[ends[1]].add(jnp.where(above, shares, 0).sum())
        loss = jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1) / q), 0))
        return jnp.where(inside.sum() > grid.levels, loss, jnp.inf)

    return jax.vmap(divergence)(lows, highs)
