"""Operators that normalise: over a batch, a group, a layer, or to probabilities."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.models.onnx.laid import Laid, laid, plain, pointwise, relaid
from pfrl.models.onnx.operators.base import BATCH, counts, operator, unsupported
from pfrl.models.onnx.operators.contract import last
from pfrl.models.onnx.operators.pool import moments
from pfrl.models.onnx.reader import Node
from pfrl.models.onnx.variances import DIFFERENCES
from pfrl.models.zoo.layers import batch_normalize


@operator("BatchNormalization")
def _batch_norm(run, node, x, scale, bias, mean, var):
    """Arxiv 1502.03167; in training by the batch, whose statistics the running ones follow."""
    attributes, rank = node.attributes, len(x.shape)
    if attributes.get("training_mode", 0) or any(node.outputs[1:]):
        if run.examples == BATCH and any(map(counts, x.shape)):
            raise unsupported(node, "was exported in training mode; export after model.eval()")
        # No images but a kernel, standardised whenever it is used (arXiv 1903.10520).
        array = relaid(x, last(rank))
        y = _standardised(node, array, tuple(range(rank - 1)))
        return Laid(y * plain(scale) + plain(bias), last(rank))
    for value, role in ((scale, "scale"), (bias, "bias"), (mean, "mean"), (var, "var")):
        run.claim(node, value, role)
    epsilon, momentum = attributes.get("epsilon", 1e-5), attributes.get("momentum", 0.9)
    layout = last(rank) if rank > 1 else (0,)
    array = relaid(x, layout)
    running = [mean.origin, var.origin] if isinstance(mean, Laid) and isinstance(var, Laid) else []
    if run.watch and all(running):
        axes = tuple(range(rank - 1)) if rank > 1 else (0,)
        run.statistics[running[0]] = array.mean(axes)
        run.statistics[running[1]] = array.var(axes)
    if not all(running):
        # No images but a kernel, standardised by a mean and a variance that the file computes.
        slope = plain(scale) * jax.lax.rsqrt(plain(var) + np.float32(epsilon))
        return Laid((array - plain(mean)) * slope + plain(bias), layout)
    if not run.train:
        slope = plain(scale) * jax.lax.rsqrt(plain(var) + np.float32(epsilon))
        return Laid(array * slope + (plain(bias) - plain(mean) * slope), layout)
    y, *found = batch_normalize(array, plain(scale), plain(bias), epsilon)
    for value, new in zip((mean, var), found, strict=True):
        old = run.statistics.get(value.origin, value.array)
        run.statistics[value.origin] = momentum * old + (1 - momentum) * new
    return Laid(y, layout)


def _standardised(node: Node, x: jax.Array, axes: Any) -> jax.Array:
    mean, variance = moments(x, axes)
    if node.attributes.get(DIFFERENCES):
        variance = jnp.square(x - mean).mean(axes, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + np.float32(node.attributes.get("epsilon", 1e-5)))


@operator("LayerNormalization")
def _layer_norm(run, node, x, scale, bias=None):
    """Arxiv 1607.06450."""
    if any(node.outputs[1:]):
        raise unsupported(node, "hands out its mean, as only training does")
    run.claim(node, scale, "scale")
    run.claim(node, bias, "bias")
    axis = node.attributes.get("axis", -1) % len(x.shape)
    axes = tuple(range(axis, len(x.shape)))
    y = laid(_standardised(node, plain(x), axes))
    y = pointwise(jnp.multiply, y, scale)
    return y if bias is None else pointwise(jnp.add, y, bias)


@operator("RMSNormalization")
def _rms_norm(run, node, x, scale):
    """Arxiv 1910.07467."""
    run.claim(node, scale, "scale")
    axis = node.attributes.get("axis", -1) % len(x.shape)
    array, axes = plain(x), tuple(range(axis, len(x.shape)))
    square = (array * array).mean(axes, keepdims=True)
    epsilon = np.float32(node.attributes.get("epsilon", 1e-5))
    return pointwise(jnp.multiply, laid(array * jax.lax.rsqrt(square + epsilon)), scale)


@operator("InstanceNormalization")
def _instance_norm(run, node, x, scale, bias):
    """Arxiv 1607.08022."""
    run.claim(node, scale, "scale")
    run.claim(node, bias, "bias")
    rank = len(x.shape)
    array = relaid(x, last(rank))
    if x.before is None or x.before.shape[1] == x.shape[1]:
        # Over places, of which none is removed; else over channels too: a normalisation of groups.
        node = node._replace(attributes={**node.attributes, DIFFERENCES: 1})
    y = _standardised(node, array, tuple(range(1, rank - 1)))
    return Laid(y * plain(scale) + plain(bias), last(rank))


@operator("GroupNormalization")
def _group_norm(run, node, x, scale, bias):
    """Arxiv 1803.08494; up to opset 20 there is a scale a group, then one a channel."""
    run.claim(node, scale, "scale")
    run.claim(node, bias, "bias")
    rank, groups = len(x.shape), node.attributes["num_groups"]
    array = relaid(x, last(rank))
    channels = array.shape[-1]
    grouped = array.reshape(*array.shape[:-1], groups, channels // groups)
    axes = (*range(1, rank - 1), rank)
    y = _standardised(node, grouped, axes).reshape(array.shape)
    scale, bias = plain(scale), plain(bias)
    if scale.shape[0] != channels:
        scale, bias = (jnp.repeat(each, channels // groups) for each in (scale, bias))
    return Laid(y * scale + bias, last(rank))


@operator("LpNormalization")
def _lp_norm(run, node, x):
    axis, order = node.attributes.get("axis", -1) % len(x.shape), node.attributes.get("p", 2)
    place = x.layout.index(axis)
    power = jnp.abs(x.array) if order == 1 else x.array * x.array
    norm = power.sum(place, keepdims=True)
    return Laid(x.array / (norm if order == 1 else jnp.sqrt(norm)), x.layout)


@operator("LRN")
def _local_response(run, node, x):
    """AlexNet's, over neighbouring channels."""
    attributes, rank = node.attributes, len(x.shape)
    size = attributes["size"]
    array = relaid(x, last(rank))
    pads = ((0, 0),) * (rank - 1) + (((size - 1) // 2, size - 1 - (size - 1) // 2),)
    window = (1,) * (rank - 1) + (size,)
    total = jax.lax.reduce_window(
        array * array, 0.0, jax.lax.add, window, (1,) * rank, padding=pads
    )
    alpha, beta = attributes.get("alpha", 1e-4), attributes.get("beta", 0.75)
    base = attributes.get("bias", 1.0) + np.float32(alpha / size) * total
    return Laid(array / base**beta, last(rank))


@operator("Softmax", "LogSoftmax")
def _softmax(run, node, x):
    function = jax.nn.softmax if node.op == "Softmax" else jax.nn.log_softmax
    if run.opset >= 13:
        axis = node.attributes.get("axis", -1) % len(x.shape)
        return Laid(function(x.array, axis=x.layout.index(axis)), x.layout)
    # Before, all axes from this one on were one.
    axis = node.attributes.get("axis", 1) % len(x.shape)
    return laid(function(plain(x), axis=tuple(range(axis, len(x.shape)))))
