"""A convolution that is XLA's to everybody but the CPU's compiler, which calls oneDNN for it."""

import hashlib
from functools import partial
from math import prod
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from pfrl.cpu.foreign import Function, register
from pfrl.cpu.kernels import Array, Geometry, of_dilated_image, of_image, of_kernel, on_threads
from pfrl.cpu.processor import has_matrix_units

XLA = lax.conv_general_dilated_p
WORTH_PARTS, WORTH_PARTS_BY_AMX = 1e8, 5e8
"""See ``worth_parts``."""

convolution_p = Primitive("cpu_convolution")
"""``conv_general_dilated`` with its parameters, and ``threads`` that work on it on a CPU.

Derivatives and batches of it are those of ``conv_general_dilated``.
"""


def _plain(x: Any, kernel: Any, *, threads: int, **params: Any) -> jax.Array:
    return XLA.bind(x, kernel, **params)


def _jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
    return jax.jvp(partial(_plain, **params), tuple(primals), tuple(tangents))


def _batched(operands: Any, axes: Any, **params: Any) -> Any:
    return jax.vmap(partial(_plain, **params), axes)(*operands), 0


def _lowered(context: Any, x: Any, kernel: Any, **params: Any) -> Any:
    """A call of oneDNN; of what it does not compute, XLA's own convolution."""
    image, taps = context.avals_in
    function = chosen(image, taps, context.avals_out[0], **params)
    if function is None:
        return mlir.lower_fun(partial(_plain, **params), multiple_results=False)(context, x, kernel)
    meaning = repr((*context.avals_in, sorted(params.items())))
    name = f"pfrl_convolution_{hashlib.sha256(meaning.encode()).hexdigest()[:20]}"
    register(name, function)
    return jax.ffi.ffi_lowering(name)(context, x, kernel)


def _abstract(*avals: Any, threads: int, **params: Any) -> Any:
    return XLA.abstract_eval(*avals, **params)[0]


convolution_p.def_impl(lambda *operands, **params: jax.jit(partial(_plain, **params))(*operands))
convolution_p.def_abstract_eval(_abstract)
ad.primitive_jvps[convolution_p] = _jvp
batching.primitive_batchers[convolution_p] = _batched
mlir.register_lowering(convolution_p, mlir.lower_fun(_plain, multiple_results=False))
mlir.register_lowering(convolution_p, _lowered, platform="cpu")


def chosen(x: Any, kernel: Any, result: Any, *, threads: int, **params: Any) -> Function | None:
    """What computes a convolution of these parameters; None for XLA itself.

    Args:
      x, kernel, result: anything with ``shape`` and ``dtype``.
      threads: that work on it.
      params: of ``conv_general_dilated``.
    """
    axes = len(x.shape) - 2
    types = {np.dtype(each.dtype).name for each in (x, kernel, result)}
    sizes = (*x.shape, *kernel.shape, *result.shape)
    if types not in ({"float32"}, {"bfloat16"}) or axes not in (1, 2, 3) or 0 in sizes:
        return None
    numbers = params["dimension_numbers"]
    strides, padding = tuple(params["window_strides"]), tuple(params["padding"])
    widened, dilation = tuple(params["lhs_dilation"]), tuple(params["rhs_dilation"])
    groups, split = params["feature_group_count"], params["batch_group_count"]
    ones, function = (1,) * axes, None
    (kind,) = types
    if (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == _of_gradient(axes):
        if widened == ones and groups == 1:
            # What the equation calls images are channels; its kernel is a gradient ``[N, O, ...]``.
            order = (0, axes + 1, *range(1, axes + 1))
            images, gradient = Array(x.shape, order, kind), Array(kernel.shape, order, kind)
            found = Array(result.shape, (axes + 1, axes, *range(axes)), kind)
            how = Geometry(dilation, padding, strides, split)
            parts = 1
            if kind == "bfloat16":
                large = prod(kernel.shape) * prod(found.seen[1:]) >= worth_parts()
                parts, threads = threads if large else 1, 1
            function = of_kernel(images, gradient, found, how, parts)
    elif split == 1:
        images = Array(x.shape, tuple(numbers.lhs_spec), kind)
        weights = Array(kernel.shape, tuple(numbers.rhs_spec), kind)
        found = Array(result.shape, tuple(numbers.out_spec), kind)
        if widened == ones:
            how = Geometry(strides, padding, dilation, groups)
            function = of_image(images, weights, found, how)
        elif strides == ones:
            how = Geometry(widened, padding, dilation, groups)
            function = of_dilated_image(images, weights, found, how)
    return None if function is None else on_threads(function, threads)


def worth_parts() -> float:
    """Products of a kernel's gradient of bfloat16 from which threads of ours share its images out.

    oneDNN's own threads spin until all have come (AMX), so that a train step takes ten to thirty
    times as long where another process has one of two cores, and a twentieth less where none has.
    Smaller ones are computed by one thread, beside what XLA computes (docs/results/performance.md).
    """
    return WORTH_PARTS_BY_AMX if has_matrix_units() else WORTH_PARTS


def _of_gradient(axes: int) -> tuple[tuple[int, ...], ...]:
    """Dimension numbers of a convolution that yields the gradient of a kernel, channels last."""
    sides = tuple(range(1, axes + 1))
    turned = (axes + 1, 0, *sides)
    return turned, turned, (axes, axes + 1, *range(axes))
