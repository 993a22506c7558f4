"""Building blocks of the model zoo: batch normalisation whose CPU cost is a matrix product."""

import jax
import jax.numpy as jnp
from flax import nnx


def _column_mean(x: jax.Array) -> jax.Array:
    """Mean over the rows of ``x`` ``[M, C]`` as a product with a row of ones.

    XLA's CPU reductions over rows run far below memory speed; its matrix
    products do not.
    """
    rows = x.shape[0]
    return (jnp.ones((1, rows), x.dtype) @ x)[0] / rows


@jax.custom_jvp
def _normalize(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float):
    """Batch normalisation of ``x`` ``[M, C]``, and the batch's mean and variance ``[C]``."""
    mean, variance, inverse = _moments(x, epsilon)
    slope = scale * inverse
    return x * slope + (bias - mean * slope), mean, variance


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
    x, scale, bias, epsilon = primals
    dx, dscale, dbias, _ = tangents
    mean, variance, inverse = _moments(x, epsilon)
    slope = scale * inverse
    dmean = _column_mean(dx)
    covariance = _column_mean(dx * x) - mean * dmean
    curve = inverse * (dscale - slope * inverse * covariance)
    dy = dx * slope + x * curve + (dbias - slope * dmean - mean * curve)
    outputs = x * slope + (bias - mean * slope), mean, variance
    return outputs, (dy, dmean, 2 * covariance)


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
        features = x.shape[-1]
        y, mean, variance = _normalize(x.reshape(-1, features), scale, bias, self.epsilon)
        self.mean[...] = self.momentum * self.mean[...] + (1 - self.momentum) * mean
        self.var[...] = self.momentum * self.var[...] + (1 - self.momentum) * variance
        return y.reshape(x.shape)


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1, *, rngs: nnx.Rngs) -> nnx.Conv:
    """A convolution without bias that pads ``kernel // 2`` on every side, as in CIFAR ResNets."""
    return nnx.Conv(
        c_in,
        c_out,
        (kernel, kernel),
        strides=(stride, stride),
        padding=kernel // 2,
        use_bias=False,
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        rngs=rngs,
    )
