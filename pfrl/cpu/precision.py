"""Products at another precision: convolutions and products of matrices, gradients included.

GPUs and TPUs multiply float32 numbers with fewer digits unless they are told not to: by
TensorFloat-32 (10 of 23 bits after the point) or bfloat16 (7 bits). What is rewritten is a program
that is about to be compiled, as in ``pfrl.cpu.rewrite``, so that it is never seen by what is
traced, saved or exported.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pfrl.cpu.processor import multiplies_bfloat16
from pfrl.cpu.rewrite import products
from pfrl.graph.labelled.program import Equation, evaluate, trace_program

PRODUCTS = ("conv_general_dilated", "dot_general")
DIGITS = {"float32": lax.Precision.HIGHEST, "tensorfloat32": lax.Precision.HIGH}
"""What float32 operands are multiplied with."""
WORTH_ROUNDING = 40
"""Products of a convolution per number that it reads or writes from which a CPU is faster with
bfloat16: with fewer, such as 1×1 taps or one channel a group, the rounding costs more than it
saves. Tried with six networks on two cores with AMX (docs/results/performance.md)."""


def at_precision(function: Callable, precision: str) -> Callable:
    """``function(*arguments)``, whose products of float32 arrays have a precision.

    - 'float32': all digits;
    - 'tensorfloat32': as many as a GPU's TensorFloat-32 has, where it has it;
    - 'bfloat16': operands are rounded to bfloat16, and a convolution's result too, as
      ``torch.autocast`` does; sums are of float32, and so is everything that is no product;
    - 'auto': the one with which this machine trains fastest without a loss of accuracy.

    A CPU has no TensorFloat-32, and the first two leave its program alone. 'bfloat16' is for its
    larger convolutions alone (``WORTH_ROUNDING``), and faster where the processor multiplies such
    matrices (``fastest``); elsewhere it may be slower. To be used within
    ``jax.jit``, around what is differentiated, not inside of it. What is within a loop or a branch
    of the function is left alone.

    Raises:
      ValueError: if there is no such precision.
    """
    if precision == "auto":
        fast = fastest()
        return function if fast is None else at_precision(function, fast)
    if precision not in (*DIGITS, "bfloat16"):
        known = ", ".join((*DIGITS, "bfloat16", "auto"))
        raise ValueError(f"precision is one of {known}; got '{precision}'")

    @wraps(function)
    def rewritten(*arguments: Any) -> Any:
        if precision in DIGITS and jax.default_backend() == "cpu":
            return function(*arguments)

        def step(number: int, equation: Equation, operands: list[Any]) -> Sequence[Any]:
            if equation.name not in PRODUCTS or {_type(each) for each in operands} != {"float32"}:
                return equation.bind(operands)
            if jax.default_backend() == "cpu" and not _pays(equation):
                return equation.bind(operands)
            return [_product(equation, operands, precision)]

        program, tree = trace_program(function, *arguments, derivatives=False)
        return jax.tree.unflatten(tree, evaluate(program, jax.tree.leaves(arguments), step))

    return rewritten


def fastest() -> str | None:
    """The precision with which this machine trains fastest without a loss of accuracy.

    bfloat16 on a CPU that multiplies it faster (``multiplies_bfloat16``). None is whatever the
    backend does by itself: TensorFloat-32 on GPUs and bfloat16 on TPUs.
    """
    rounds = jax.default_backend() == "cpu" and multiplies_bfloat16()
    return "bfloat16" if rounds else None


def _pays(equation: Equation) -> bool:
    """Whether a CPU computes it faster with bfloat16."""
    operands, (result,) = equation.shapes
    moved = prod(result) + sum(map(prod, operands))
    return products(equation) >= WORTH_ROUNDING * moved


def _product(equation: Equation, operands: Sequence[Any], precision: str) -> jax.Array:
    params = dict(equation.params)
    if precision in DIGITS:
        return equation.primitive.bind(
            *operands, **params | {"precision": (DIGITS[precision],) * 2}
        )
    # Libraries have no convolutions of bfloat16 to float32.
    kind = jnp.float32 if equation.name == "dot_general" else None
    changed = {"precision": None, "preferred_element_type": kind}
    short = [lax.convert_element_type(each, jnp.bfloat16) for each in operands]
    result = equation.primitive.bind(*short, **params | changed)
    return lax.convert_element_type(result, jnp.float32)


def _type(array: Any) -> str:
    return np.dtype(jnp.result_type(array)).name
