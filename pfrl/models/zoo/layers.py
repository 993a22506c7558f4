"""Building blocks of the model zoo, among them a batch normalisation that is fast on CPUs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

Factory = Callable[[int, tuple[int, int, int], nnx.Rngs], nnx.Module]
"""Makes a network: ``(num_classes, (H, W, C), rngs)``."""

Function = Callable[[jax.Array], jax.Array]
"""An activation, a pooling or a module."""

SMALL_IMAGE = 64
"""Below this many pixels a side, networks for ImageNet keep the resolution in their stems."""


def _column_mean(x: jax.Array) -> jax.Array:
    """Mean over the rows of ``x`` ``[M, C]``."""
    return x.sum(0) / x.shape[0]


@jax.custom_jvp
def _normalize(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float):
    """Batch normalisation of ``x`` ``[..., C]``, and the batch's mean and variance ``[C]``."""
    rows = _rows(x)
    mean, variance, inverse = _moments(rows, epsilon)
    slope = scale * inverse
    return (rows * slope + (bias - mean * slope)).reshape(x.shape), mean, variance


def _rows(x: jax.Array) -> jax.Array:
    """``[M, C]`` of ``[..., C]``: XLA's CPU sums over several axes at once are slow."""
    return x.reshape(-1, x.shape[-1])


def _moments(x: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean = _column_mean(x)
    variance = jnp.maximum(_column_mean(x * x) - mean * mean, 0.0)
    return mean, variance, jax.lax.rsqrt(variance + epsilon)


@_normalize.defjvp
def _normalize_jvp(primals, tangents):
    """The derivative in closed form (arXiv 1502.03167, section 3), linear in the tangents.

    Two column means and one multiply-add per element; its transpose, which is
    the backward pass, costs the same.
    """
    shape, (x, scale, bias, epsilon) = primals[0].shape, (_rows(primals[0]), *primals[1:])
    dx, dscale, dbias = _rows(tangents[0]), *tangents[1:3]
    mean, variance, inverse = _moments(x, epsilon)
    slope = scale * inverse
    dmean = _column_mean(dx)
    covariance = _column_mean(dx * x) - mean * dmean
    curve = inverse * (dscale - slope * inverse * covariance)
    dy = dx * slope + x * curve + (dbias - slope * dmean - mean * curve)
    y = x * slope + (bias - mean * slope)
    return (y.reshape(shape), mean, variance), (dy.reshape(shape), dmean, 2 * covariance)


# Jitted, so that a deep network traces it once for every shape.
batch_normalize = jax.jit(_normalize)
"""``(x [..., C], scale, bias [C], epsilon) -> (y, mean, variance)``: fast on CPUs, gradient too."""


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last (arXiv 1502.03167).

    Same parameters and statistics as ``nnx.BatchNorm`` (``scale``, ``bias``,
    ``mean``, ``var``, each ``[C]``) and the same ``use_running_average``
    switch, so ``model.train()`` and ``model.eval()`` work on it.
    """

    def __init__(self, features: int, *, momentum: float = 0.9, epsilon: float = 1e-5):
        self.scale = nnx.Param(jnp.ones((features,)))
        self.bias = nnx.Param(jnp.zeros((features,)))
        self.mean = nnx.BatchStat(jnp.zeros((features,)))
        self.var = nnx.BatchStat(jnp.ones((features,)))
        self.momentum = momentum
        self.epsilon = epsilon
        self.use_running_average = False

    def __call__(self, x: jax.Array) -> jax.Array:
        scale, bias = self.scale[...], self.bias[...]
        if self.use_running_average:
            slope = scale * jax.lax.rsqrt(self.var[...] + self.epsilon)
            return x * slope + (bias - self.mean[...] * slope)
        y, mean, variance = batch_normalize(x, scale, bias, self.epsilon)
        self.mean[...] = self.momentum * self.mean[...] + (1 - self.momentum) * mean
        self.var[...] = self.momentum * self.var[...] + (1 - self.momentum) * variance
        return y


class Stack(nnx.List[Function]):
    """Layers and functions one after another: ``stack(x)``.

    As ``nnx.Sequential``, but with PyTorch's names: ``features.0.kernel``
    where that has ``features.layers.0.kernel``.
    """

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self:
            x = layer(x)
        return x


def conv(
    c_in: int,
    c_out: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    bias: bool = False,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A convolution that pads ``kernel // 2`` on every side, without bias unless told.

    Weights start as in arXiv 1502.01852, equation 14: variance ``2 / fan_out``,
    with the outputs that one input really reaches.
    """
    return nnx.Conv(
        c_in,
        c_out,
        (kernel, kernel),
        strides=(stride, stride),
        padding=kernel // 2,
        feature_group_count=groups,
        use_bias=bias,
        # The initialiser takes all c_out outputs for the fan-out; an input reaches c_out / groups.
        kernel_init=nnx.initializers.variance_scaling(2.0 * groups, "fan_out", "normal"),
        rngs=rngs,
    )


def conv_bn_act(
    c_in: int,
    c_out: int,
    kernel: int = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: Function = jax.nn.relu,
    epsilon: float = 1e-5,
    rngs: nnx.Rngs,
) -> Stack:
    """``conv``, batch normalisation and an activation."""
    convolution = conv(c_in, c_out, kernel, stride, groups=groups, rngs=rngs)
    return Stack([convolution, BatchNorm(c_out, epsilon=epsilon), activation])


def max_pool_ceil(x: jax.Array, window: int, stride: int = 2) -> jax.Array:
    """Max pooling whose last window may reach over the edge, as PyTorch's with ``ceil_mode``.

    ``[N, H, W, C]`` to ``[N, ceil((H - window) / stride) + 1, ..., C]``, one
    pixel at least: no image is too small.
    """
    pads = []
    for side in x.shape[1:3]:
        steps = max(-((window - side) // stride), 0)
        pads.append((0, steps * stride + window - side))
    # Flax takes pairs of integers too, which its annotation leaves out.
    return nnx.max_pool(x, (window, window), strides=(stride, stride), padding=pads)  # pyright: ignore[reportArgumentType]


def scaled(channels: int, width: float, divisor: int = 1) -> int:
    """``channels * width`` as the nearest multiple of ``divisor`` that is no 10 % too small.

    The rule of the MobileNets' released code; ``divisor`` at least.
    """
    target = channels * width
    rounded = max(divisor, int(target + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * target else rounded + divisor


def for_images(network: Callable[..., nnx.Module]) -> Factory:
    """A factory of ``network(num_classes, in_channels, small_images=..., rngs=...)``."""

    def make(num_classes: int, image_shape: tuple[int, int, int], rngs: nnx.Rngs) -> nnx.Module:
        height, width, channels = image_shape
        small = min(height, width) < SMALL_IMAGE
        return network(num_classes, channels, small_images=small, rngs=rngs)

    return make
