"""A function with its convolutions in the forms that XLA's CPU backend is fast at.

What is rewritten is the program that is about to be compiled, gradients
included, so it serves any network in any framework on JAX, needs no derivative
rules and is never seen by who traces the network.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import jax
from jax.extend import core as jex

from pfrl.cpu.convolution import convolve

CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr"}
"""Calls that are nothing but their body, and the parameter that holds it."""


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
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = _run(closed.jaxpr, closed.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return rewritten


def _run(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Evaluate a jaxpr, its convolutions by ``convolve``."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jex.Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        primitive, params = equation.primitive, equation.params
        if primitive.name in CALLS:
            body = params[CALLS[primitive.name]]
            results = _run(body.jaxpr, body.consts, operands)
        elif primitive.name == "conv_general_dilated":
            results = [convolve(operands[0], operands[1], params)]
        else:
            results = primitive.bind(*operands, **primitive.get_bind_params(params))
            results = results if primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
