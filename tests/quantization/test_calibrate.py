"""Calibration: histograms of what layers read, and clips against values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pfrl.evaluation.compilations import compilations
from pfrl.graph import trace
from pfrl.methods.quantization.base import CALIBRATIONS
from pfrl.methods.quantization.histogram import (
    CLIPS,
    SMOOTHING,
    Histogram,
    entropy_range,
    mse_range,
    percentile_range,
)
from pfrl.methods.quantization.ranges import (
    CalibrationError,
    Observation,
    best_steps,
    mean_inputs,
    observe,
    ranges,
)
from pfrl.methods.quantization.uniform import (
    fake_quantize_activations,
    fake_quantize_weights,
    largest_steps,
)
from tests.support.tiny import Dense, TwoConvs, made, shape

activations = jax.jit(fake_quantize_activations)
weights = jax.jit(fake_quantize_weights)


def normal(*size, seed=0):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def counted(values, bins):
    """The histogram of values."""
    counts, edges = np.histogram(values, bins)
    return Histogram(float(edges[0]), float(edges[-1]), counts)


def observed(histogram):
    """What a site would have shown in one batch."""
    return Observation(histogram.start, histogram.stop, histogram)


def test_what_the_layers_read():
    model = made(Dense)
    graph = trace(model, shape(2, 3))
    variables = {n: np.asarray(v) for n, v in graph.source.variables.items()}
    batches = [normal(20, 3), 2 * normal(20, 3, seed=1), normal(10, 3, seed=2)]
    found = observe(graph, variables, batches, bins=50)
    means = mean_inputs(graph, variables, batches)
    assert list(found) == list(means) == ["a", "b"]
    inputs = {
        "a": batches,
        "b": [np.maximum(x @ variables["a.kernel"] + variables["a.bias"], 0) for x in batches],
    }
    for name, read in inputs.items():
        layer, every = found[name], np.concatenate(read)
        # Means over the batches of their extremes, which is what 'minmax' gives.
        low, high = np.mean([x.min() for x in read]), np.mean([x.max() for x in read])
        assert np.allclose([layer.low, layer.high], [low, high], atol=1e-5)
        assert np.allclose(means[name].mean, every.mean(0, keepdims=True), atol=1e-5)
        start, stop, counts = layer.histogram
        assert np.allclose([start, stop], [every.min(), every.max()], atol=1e-5)
        expected, _ = np.histogram(every, 50, (start, stop))
        # A value at the edge of a bin may be in the next one.
        assert counts.sum() == every.size and np.abs(counts - expected).sum() <= 4
    got = ranges(found, CALIBRATIONS["minmax"], {"a": 8, "b": 2})
    assert got == {name: (layer.low, layer.high) for name, layer in found.items()}


def test_of_many_values_a_part_of_every_channel_is_counted(monkeypatch):
    monkeypatch.setattr("pfrl.methods.quantization.ranges.COUNTED", 100)
    kernel = np.eye(12, 5, dtype=np.float32)
    graph = trace(lambda p, x: x @ p["a"], shape(64, 12), variables={"a": kernel})
    # Every channel has a value of its own, so every channel has a bin.
    values = np.tile(np.arange(12, dtype=np.float32), (64, 1))
    counts = observe(graph, graph.source.variables, [values], bins=12)["a"].histogram.counts
    # 768 values, every eleventh: the next stride that shares no factor with them.
    assert counts.sum() == 70 and (counts >= 5).all()


def test_a_convolution_has_a_mean_input_at_every_position():
    graph = trace(made(TwoConvs), shape(2, 8, 8, 1))
    x = normal(6, 8, 8, 1)
    found = mean_inputs(graph, graph.source.variables, [x[:4], x[4:]])
    assert found["conv2"].mean.shape == (1, 8, 8, 8)
    assert np.allclose(found["conv1"].mean, x.mean(0, keepdims=True), atol=1e-6)


def test_percentiles_by_hand():
    histogram = Histogram(0.0, 10.0, np.asarray([90, 5, 0, 0, 0, 0, 0, 0, 0, 5]))
    # 95 of 100 values are below 2, and 95 above 1 - 85 / 90.
    assert np.allclose(percentile_range(histogram, 95), (1 - 85 / 90, 2))
    # 99: 4 of the 5 in the last bin; from above, 89 of the 90 in the first.
    assert np.allclose(percentile_range(histogram, 99), (1 - 89 / 90, 9 + 4 / 5))
    assert np.allclose(percentile_range(histogram, 100), (0, 10))
    two_sided = Histogram(-2.0, 2.0, np.asarray([1, 49, 49, 1]))
    assert np.allclose(percentile_range(two_sided, 99), (-1, 1))


def by_hand(histogram, bits):
    """The ranges that are tried, each with its squared error and divergence, bin by bin."""
    centres, shares = histogram.centres.astype(float), histogram.counts / histogram.counts.sum()
    largest, levels = max(abs(histogram.start), abs(histogram.stop)), 2**bits - 1
    for share in CLIPS.astype(float):
        low, high = max(histogram.start, -share * largest), min(histogram.stop, share * largest)
        bottom, top = min(low, 0), max(high, 0)
        scale = (top - bottom) / levels
        zero = np.round(-bottom / scale)
        integers = np.round(centres / scale) + zero
        error = (shares * (np.clip(integers, 0, levels) - zero - centres / scale) ** 2).sum()
        yield low, high, error * scale**2, divergence(shares, integers, levels)


def divergence(shares, integers, levels):
    """``KL(P ‖ Q)``, bin by bin."""
    inside = [i for i, k in enumerate(integers) if 0 <= k <= levels]
    if len(inside) <= levels:
        return np.inf
    p, q = {i: shares[i] for i in inside}, dict.fromkeys(inside, 0.0)
    p[inside[0]] += shares[: inside[0]].sum()
    p[inside[-1]] += shares[inside[-1] + 1 :].sum()
    for k in range(levels + 1):
        bucket = [i for i in inside if integers[i] == k and shares[i] > 0]
        for i in bucket:
            q[i] = sum(shares[j] for j in bucket) / len(bucket)
    total = sum(q.values())
    q = {i: (1 - SMOOTHING) * v / total + SMOOTHING / len(inside) for i, v in q.items()}
    return sum(p[i] * np.log(p[i] / q[i]) for i in inside if p[i] > 0)


# Two-sided and one-sided; bin 0 holds no zeros to leave out in the first, and few in the second.
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("values", [normal(4000), 0.01 + np.abs(normal(4000)) ** 2])
def test_errors_and_divergences_are_those_of_the_definitions(values, bits):
    histogram = counted(values, 200)
    best = min(by_hand(histogram, bits), key=lambda tried: tried[2])
    assert np.allclose(mse_range(histogram, bits), best[:2], rtol=1e-5)
    # The bin of zero counts as the next one.
    zero = int(-histogram.start / histogram.width) if histogram.start < 0 else None
    if zero is not None:
        histogram.counts[zero] = histogram.counts[zero + (1 if zero < 100 else -1)]
    tried = list(by_hand(histogram, bits))
    chosen = entropy_range(histogram, bits)
    (loss,) = (each[3] for each in tried if np.allclose(chosen, each[:2], rtol=1e-5))
    assert loss <= min(each[3] for each in tried) + 1e-5


def test_what_the_grid_can_say_is_not_clipped():
    # Four bins of equal size, and four values: neither of them loses anything without a clip.
    histogram = Histogram(0.0, 3.0, np.asarray([9] * 400))
    assert entropy_range(histogram, 2) == (0.0, 3.0)
    low, high = mse_range(Histogram(0.0, 3.0, np.bincount([0, 100, 200, 299], minlength=300)), 2)
    assert low == 0 and high == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize("bits", [3, 4])
def test_one_outlier_is_worst_for_the_extremes(bits):
    values = np.abs(normal(40_000))
    values[7] = 80.0
    layer = observed(counted(values, 8192))
    errors = {}
    for method, calibration in CALIBRATIONS.items():
        low, high = ranges({"a": layer}, calibration, {"a": bits})["a"]
        rounded = np.asarray(activations(values, np.int32(bits), low, high))
        # Of all others: the outlier itself is lost to whoever clips it.
        errors[method] = np.delete(np.square(rounded - values), 7).mean()
        if method != "minmax":
            assert high < 20, method
    worst = max(errors, key=errors.__getitem__)
    assert worst == "minmax"
    assert all(errors["minmax"] > 5 * errors[name] for name in CALIBRATIONS if name != "minmax")


def test_fewer_bits_clip_more():
    layer = observed(counted(normal(50_000), 8192))
    highs = [ranges({"a": layer}, CALIBRATIONS["mse"], {"a": bits})["a"][1] for bits in (2, 4, 8)]
    assert highs[0] < 0.7 * highs[1] < highs[1] < highs[2]


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_layers_that_read_a_constant_or_are_not_quantized(method):
    constant = observed(Histogram(2.0, 2.0, np.asarray([5, 0, 0])))
    layers = {"a": constant, "b": observed(counted(normal(100), 10))}
    found = ranges(layers, CALIBRATIONS[method], {"a": 4, "b": 32})
    assert found == {"a": (2.0, 2.0), "b": (layers["b"].low, layers["b"].high)}


def mixing(p, x):
    """Tokens ``[N, T, C]`` to hidden channels, which a layer over the tokens sums up."""
    hidden = jax.nn.sigmoid(x @ p["a"])
    return jnp.einsum("nth,tu->nuh", hidden, p["b"]).sum(1) @ p["c"]


def test_means_are_over_examples_and_positions():
    p = {"a": normal(3, 4), "b": normal(5, 6, seed=1), "c": normal(4, 2, seed=2)}
    graph = trace(mixing, shape(2, 5, 3), variables=p)
    x = normal(8, 5, 3, seed=3)
    found = mean_inputs(graph, p, [x])["b"]
    hidden = 1 / (1 + np.exp(-x @ p["a"]))
    assert found.mean.size == 5
    assert np.allclose(found.mean.ravel(), hidden.mean((0, 2)), atol=1e-5)
    assert np.allclose(found.magnitude, found.mean)


def test_scales_of_kernels():
    # Many ones and a single 4: at 2 bits (integers -1, 0, 1) the one that costs least is near 1.
    column = np.asarray([1.0] * 99 + [4.0], np.float32)
    kernel = np.stack([column, np.zeros(100, np.float32), 10 * column], axis=1)
    assert np.allclose(largest_steps(kernel, 2), [4, 1, 40])
    found = np.asarray(best_steps(kernel, np.int32(2)))
    # Of all s, 99·(s - 1)² + (4 - s)² is least at (99 + 4) / 100; the tried ones are 3 % apart.
    assert np.allclose(found[[0, 2]], [1.03, 10.3], rtol=0.03)
    assert 0 < found[1] <= 1


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_scale_of_least_error_is_never_worse_than_the_largest_value(bits):
    kernel = normal(3, 3, 16, 8) * np.exp(normal(8, seed=1))
    errors = {}
    scales = {"minmax": largest_steps(kernel, bits), "mse": best_steps(kernel, np.int32(bits))}
    for method, scale in scales.items():
        rounded = weights(kernel, np.int32(bits), scale=scale)
        errors[method] = np.square(rounded - kernel).sum((0, 1, 2))
    assert (errors["mse"] <= errors["minmax"] * 1.0001).all()
    if bits < 8:
        assert errors["mse"].sum() < 0.9 * errors["minmax"].sum()


def test_scales_of_masked_kernels_are_those_of_sliced_ones():
    kernel, alive = normal(3, 6, 4), np.zeros((1, 6, 1), bool)
    alive[:, [0, 2, 5]] = True
    small = best_steps(kernel[:, [0, 2, 5]], np.int32(3))
    assert np.allclose(best_steps(kernel, np.int32(3), alive), small, rtol=1e-6)


def test_scales_compile_once_for_all_widths():
    kernel = normal(5, 4)
    best_steps(kernel, np.int32(2))
    before = compilations()
    for bits in (3, 4, 8, 32):
        assert (np.asarray(best_steps(kernel, np.int32(bits))) > 0).all()
    assert compilations() == before


def test_what_is_missing_is_said():
    graph = trace(made(Dense), shape(2, 3))
    with pytest.raises(CalibrationError, match="at least one batch"):
        observe(graph, graph.source.variables, [])
    broken = {**graph.source.variables, "a.bias": np.full(4, np.nan, np.float32)}
    with pytest.raises(CalibrationError, match="layer 'b' reads or makes goes from nan"):
        observe(graph, broken, [normal(4, 3)])
    layer = observed(counted(normal(100), 10))
    with pytest.raises(CalibrationError, match="'b' has none"):
        ranges({"a": layer, "b": layer}, CALIBRATIONS["mse"], {"a": 8})
