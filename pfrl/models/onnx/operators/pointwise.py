"""Operators that work place by place."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx

from pfrl.models.onnx.laid import Laid, Value, pointwise
from pfrl.models.onnx.operators.base import operator, unsupported

_UNARY: dict[str, Callable[[Any], Any]] = {
    "Relu": jax.nn.relu,
    "Sigmoid": jax.nn.sigmoid,
    "Tanh": jnp.tanh,
    "Softsign": jax.nn.soft_sign,
    "Softplus": jax.nn.softplus,
    "Mish": lambda x: x * jnp.tanh(jax.nn.softplus(x)),
    "HardSwish": lambda x: x * jnp.clip(x / 6 + 0.5, 0.0, 1.0),
    "Exp": jnp.exp,
    "Log": jnp.log,
    "Sqrt": jnp.sqrt,
    "Reciprocal": lambda x: 1 / x,
    "Neg": jnp.negative,
    "Abs": jnp.abs,
    "Sign": jnp.sign,
    "Floor": jnp.floor,
    "Ceil": jnp.ceil,
    "Round": jnp.round,
    "Erf": jax.lax.erf,
    "Sin": jnp.sin,
    "Cos": jnp.cos,
    "Tan": jnp.tan,
    "Atan": jnp.arctan,
    "Not": jnp.logical_not,
    "IsNaN": jnp.isnan,
    "IsInf": jnp.isinf,
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": jnp.add,
    "Sub": jnp.subtract,
    "Mul": jnp.multiply,
    "Equal": jnp.equal,
    "Greater": jnp.greater,
    "GreaterOrEqual": jnp.greater_equal,
    "Less": jnp.less,
    "LessOrEqual": jnp.less_equal,
    "And": jnp.logical_and,
    "Or": jnp.logical_or,
    "Xor": jnp.logical_xor,
}
_SEVERAL: dict[str, Callable[[Any, Any], Any]] = {
    "Sum": jnp.add,
    "Max": jnp.maximum,
    "Min": jnp.minimum,
}


@operator(*_UNARY)
def _unary(run, node, x):
    return pointwise(_UNARY[node.op], x)


@operator(*_BINARY)
def _binary(run, node, a, b):
    for value, other in ((a, b), (b, a)):
        if (
            isinstance(other, Laid)
            and other.origin is None
            and len(other.shape) == len(value.shape)
        ):
            run.store(value, other.layout)
    return pointwise(_BINARY[node.op], a, b)


@operator(*_SEVERAL)
def _several(run, node, *values):
    return functools.reduce(lambda a, b: pointwise(_SEVERAL[node.op], a, b), values)


@operator("Mean")
def _mean(run, node, *values):
    total = functools.reduce(lambda a, b: pointwise(jnp.add, a, b), values)
    return pointwise(lambda x: x / len(values), total)


@operator("Div")
def _div(run, node, a, b):
    """Whole numbers are cut towards zero."""

    def divide(a, b):
        if jnp.issubdtype(jnp.result_type(a, b), jnp.integer):
            return jax.lax.div(*jnp.broadcast_arrays(a, b))
        return a / b

    return pointwise(divide, a, b)


@operator("Mod")
def _mod(run, node, a, b):
    return pointwise(jnp.fmod if node.attributes.get("fmod", 0) else jnp.mod, a, b)


@operator("Pow")
def _pow(run, node, a, b):
    exponent = float(b.reshape(())) if isinstance(b, np.ndarray) and b.size == 1 else None
    if exponent is not None and exponent == int(exponent) and isinstance(a, Laid):
        return pointwise(lambda x: jax.lax.integer_pow(x, int(exponent)), a)
    return pointwise(jnp.power, a, b)


@operator("Where")
def _where(run, node, condition, a, b):
    return pointwise(jnp.where, condition, a, b)


@operator("Clip")
def _clip(run, node, x, low=None, high=None):
    bounds = []
    for value, key in ((low, "min"), (high, "max")):
        if value is not None:
            value = run.known(node, value, "a bound").reshape(())
        else:
            value = node.attributes.get(key)
        bounds.append(None if value is None else float(value))
    low, high = bounds
    if low is not None and low > -1e38:
        x = pointwise(lambda x: jnp.maximum(x, jnp.asarray(low, x.dtype)), x)
    if high is not None and high < 1e38:
        x = pointwise(lambda x: jnp.minimum(x, jnp.asarray(high, x.dtype)), x)
    return x


@operator("Identity", "Dropout")
def _identity(run, node, x, *others):
    """Dropout too, in both modes: what is exported for inference has none."""
    if len(node.outputs) > 1 and node.outputs[1]:
        raise unsupported(node, "hands out its mask, as only training does")
    return [x] + [None] * (len(node.outputs) - 1)


@operator("Cast", "CastLike")
def _cast(run, node, x, like=None):
    if like is not None:
        return pointwise(lambda x: x.astype(getattr(like, "dtype", jnp.float32)), x)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(node.attributes["to"])
    if dtype.kind not in "fiub":
        raise unsupported(node, f"makes numbers of the type {dtype}")
    if dtype.kind == "f":
        dtype = np.dtype(np.float32)
        if x.array.dtype == dtype:
            return x  # variables stay what they are
    narrow = {np.dtype(np.int64): np.int32, np.dtype(np.uint64): np.uint32}
    return pointwise(lambda x: x.astype(narrow.get(dtype, dtype)), x)


@operator("LeakyRelu")
def _leaky_relu(run, node, x):
    slope = node.attributes.get("alpha", 0.01)
    return pointwise(lambda x: jax.nn.leaky_relu(x, slope), x)


@operator("ThresholdedRelu")
def _thresholded_relu(run, node, x):
    least = node.attributes.get("alpha", 1.0)
    return pointwise(lambda x: jnp.where(x > least, x, 0.0), x)


@operator("PRelu")
def _prelu(run, node, x, slope):
    run.claim(node, slope, "slope")
    return pointwise(lambda x, slope: jnp.where(x >= 0, x, slope * x), x, slope)


@operator("Elu")
def _elu(run, node, x):
    alpha = node.attributes.get("alpha", 1.0)
    return pointwise(lambda x: jax.nn.elu(x, alpha), x)


@operator("Celu")
def _celu(run, node, x):
    alpha = node.attributes.get("alpha", 1.0)
    return pointwise(lambda x: jax.nn.celu(x, alpha), x)


@operator("Selu")
def _selu(run, node, x):
    alpha = node.attributes.get("alpha", 1.67326319217681884765625)
    gamma = node.attributes.get("gamma", 1.05070102214813232421875)
    return pointwise(lambda x: gamma * jax.nn.elu(x, alpha), x)


@operator("HardSigmoid")
def _hard_sigmoid(run, node, x):
    slope, start = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return pointwise(lambda x: jnp.clip(slope * x + start, 0.0, 1.0), x)


@operator("Swish")
def _swish(run, node, x):
    alpha = node.attributes.get("alpha", 1.0)
    return pointwise(lambda x: x * jax.nn.sigmoid(alpha * x), x)


@operator("Gelu")
def _gelu(run, node, x):
    tanh = node.attributes.get("approximate", "none") == "tanh"
    return pointwise(lambda x: gelu(x, tanh), x)


def gelu(x: jax.Array, tanh: bool) -> jax.Array:
    """Arxiv 1606.08415, written with erf as exporters know it."""
    if tanh:
        return jax.nn.gelu(x, approximate=True)
    return x * (0.5 * (1.0 + jax.lax.erf(x * np.float32(np.sqrt(0.5)))))


def scaled(value: Value, factor: float) -> Value:
    """``value * factor``; as it is for 1."""
    return value if factor == 1 else pointwise(lambda x: x * factor, value)
