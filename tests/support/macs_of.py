"""Multiply-accumulates of a program, counted in its jaxpr and nowhere in the code under test."""

import math
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx


def macs_of(function: Any, *arguments: Any) -> int:
    """Multiply-accumulates of convolutions and matrix products in ``function(*arguments)``.

    Arguments may be ``jax.ShapeDtypeStruct``. The convention is that of
    torchvision's table: products of weights and products of activations count,
    taps on padding count, and biases, normalisations, activations and pooling
    do not. A transposed convolution counts every input place once for every
    tap, so the zeros between the inputs count for nothing.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def model_macs(model: nnx.Module, *inputs: Any) -> int:
    """``macs_of`` a network in evaluation mode; its variables may be shapes only."""
    graph, state = nnx.split(model)

    def apply(state: Any, *inputs: Any) -> Any:
        merged = nnx.merge(graph, state)
        merged.eval()
        return merged(*inputs)  # pyright: ignore[reportCallIssue]

    return macs_of(apply, state, *inputs)


def _count(jaxpr: Any) -> int:
    total = 0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "conv_general_dilated":
            total += _convolution(eqn)
        elif name == "dot_general":
            total += _product(eqn)
        elif name == "cond":
            total += max(_count(branch.jaxpr) for branch in eqn.params["branches"])
        elif name == "while" and any(map(_count, _bodies(eqn.params))):
            raise ValueError("a while loop with products in it has no fixed number of MACs")
        else:
            repeats = eqn.params["length"] if name == "scan" else 1
            total += repeats * sum(map(_count, _bodies(eqn.params)))
    return total


def _bodies(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs, closed or open, among an equation's parameters."""
    for value in params.values():
        value = getattr(value, "jaxpr", value)
        if hasattr(value, "eqns"):
            yield value


def _convolution(eqn: Any) -> int:
    x, kernel = (atom.aval for atom in eqn.invars)
    numbers = eqn.params["dimension_numbers"]
    out = eqn.outvars[0].aval
    # Of the kernel [H, W, I / groups, O], every output sees one O.
    taps = kernel.size // kernel.shape[numbers.rhs_spec[0]]
    if all(step == 1 for step in eqn.params["lhs_dilation"]):
        return out.size * taps
    places = math.prod(x.shape[axis] for axis in numbers.lhs_spec[2:])
    return x.shape[numbers.lhs_spec[0]] * places * kernel.size


def _product(eqn: Any) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    x = eqn.invars[0].aval
    return eqn.outvars[0].aval.size * math.prod(x.shape[axis] for axis in contracted)
