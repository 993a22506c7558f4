"""A function with its convolutions in the forms that XLA's CPU backend is fast at.

What is rewritten is the program that is about to be compiled, gradients
included, so it serves any network in any framework on JAX, needs no derivative
rules and is never seen by who traces the network.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import jax

from pfrl.cpu.convolution import convolve
from pfrl.graph.labelled.program import Equation, evaluate, trace_program


def fast(function: Callable) -> Callable:
    """``function(*arguments)``, with faster convolutions if the backend is the CPU.

    To be jitted: ``jax.jit(fast(step))``. The results are the same up to the
    order of the sums (float32, relative 1e-6); other types are left alone. It
    belongs around a whole train step, not inside of what is differentiated:
    there the gradient's convolutions would be out of its sight.
    """

    @wraps(function)
    def rewritten(*arguments: Any) -> Any:
        if jax.default_backend() != "cpu":
            return function(*arguments)
        program, tree = trace_program(function, *arguments, derivatives=False)
        return jax.tree.unflatten(tree, evaluate(program, jax.tree.leaves(arguments), _step))

    return rewritten


def _step(number: int, equation: Equation, operands: list[Any]) -> Sequence[Any]:
    if equation.name == "conv_general_dilated":
        return [convolve(operands[0], operands[1], equation.params)]
    return equation.bind(operands)
