"""A JAX function as a flat list of operations on its input, everything constant evaluated."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

BATCH = 8191
"""The batch size that functions are traced with: a prime that no other dimension is a multiple of.

A dimension depends on the batch size if and only if it is a multiple of
``BATCH``. Unlike a symbolic dimension this asks nothing of the function.
"""

_CALLS = {"jit", "call", "closed_call", "remat2", "custom_jvp_call", "custom_vjp_call"}

# Small constants are evaluated in numpy: an eager JAX operation compiles once for every new shape,
# and in compressed networks every shape is new.
_NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "rsqrt": lambda x: (1 / np.sqrt(x)).astype(x.dtype),
    "square": np.square,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "stop_gradient": lambda x: x,
    "copy": lambda x: x,
}


class ExportError(ValueError):
    """A function that cannot be exported; the message says what to change in it."""


class Variable(NamedTuple):
    """An array that depends on the input; the batch size in ``shape`` is ``BATCH``."""

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype


class Operation(NamedTuple):
    """``outputs = primitive(*inputs, **params)``; inputs are variables or constants.

    A constant's batch axis has size 1 (it broadcasts).
    """

    primitive: str
    inputs: tuple[Any, ...]
    outputs: tuple[Variable, ...]
    params: dict[str, Any]


class Program(NamedTuple):
    """Operations in the order of execution, without those that ``output`` does not need."""

    input: Variable
    operations: list[Operation]
    output: Variable


def depends_on_batch(dimension: int) -> bool:
    return dimension > 0 and dimension % BATCH == 0


def trace(function: Callable[[jax.Array], Any], input_shape: Sequence[int]) -> Program:
    """The flat program of ``function``, a function of one float32 array ``[N, *input_shape]``.

    Raises:
      ExportError: if the function returns more than one array, or one that does
        not depend on its input, or needs a constant as large as the batch.
    """
    shape = (BATCH, *map(int, input_shape))
    # A fresh function: JAX remembers traces by function, and the parameters of a module may change.
    closed = jax.make_jaxpr(lambda x: function(x))(jax.ShapeDtypeStruct(shape, jnp.float32))
    if len(closed.out_avals) != 1:
        raise ExportError(
            f"the function returns {len(closed.out_avals)} arrays, expected one; "
            "return the logits only"
        )
    flattener = _Flattener()
    source = flattener.variable(closed.in_avals[0])
    (output,) = flattener.run(closed.jaxpr, closed.consts, [source])
    if not isinstance(output, Variable):
        raise ExportError("the function's result does not depend on its input; nothing to export")
    return Program(source, _needed(flattener.operations, output), output)


def _needed(operations: list[Operation], output: Variable) -> list[Operation]:
    alive, kept = {output.index}, []
    for operation in reversed(operations):
        if any(variable.index in alive for variable in operation.outputs):
            alive |= {value.index for value in operation.inputs if isinstance(value, Variable)}
            kept.append(operation)
    return kept[::-1]


class _Flattener:
    """Runs jaxprs on variables and constants and writes down what it could not evaluate."""

    def __init__(self):
        self.operations: list[Operation] = []
        self.variables = 0

    def variable(self, aval: Any) -> Variable:
        self.variables += 1
        return Variable(self.variables, tuple(aval.shape), np.dtype(aval.dtype))

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        values = dict(zip(jaxpr.constvars, map(_constant, consts), strict=True))
        values |= dict(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Any:
            if isinstance(atom, Literal):
                aval: Any = atom.aval
                return np.asarray(atom.val, aval.dtype)
            return values[atom]

        for equation in jaxpr.eqns:
            arguments = [read(atom) for atom in equation.invars]
            values |= zip(equation.outvars, self._equation(equation, arguments), strict=True)
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, arguments: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if name in _CALLS:
            inner = equation.params.get("call_jaxpr", equation.params.get("jaxpr"))
            if isinstance(inner, ClosedJaxpr):
                return self.run(inner.jaxpr, inner.consts, arguments)
            return self.run(inner, (), arguments)
        if not any(isinstance(value, Variable) for value in arguments):
            return _evaluate(equation, arguments)
        if name == "select_n" and (chosen := _chosen(equation, arguments)) is not None:
            return [chosen]
        outputs = tuple(self.variable(out.aval) for out in equation.outvars)
        self.operations.append(Operation(name, tuple(arguments), outputs, equation.params))
        return list(outputs)


def _chosen(equation: Any, arguments: list[Any]) -> Variable | None:
    """The case that a constant chooses everywhere, as a bit width of 32 chooses what is exact."""
    which, *cases = arguments
    if isinstance(which, Variable) or which.size == 0 or (which != which.flat[0]).any():
        return None
    case = cases[int(which.flat[0])]
    fits = isinstance(case, Variable) and case.shape == tuple(equation.outvars[0].aval.shape)
    return case if fits else None


def _constant(value: Any) -> Any:
    """An array in numpy, its batch axis cut to size 1; random keys stay what they are."""
    if jnp.issubdtype(getattr(value, "dtype", np.float32), jax.dtypes.extended):
        return value
    array = np.asarray(value)
    for axis, size in enumerate(array.shape):
        if depends_on_batch(size):
            first = array.take([0], axis)
            if not (array == first).all():
                raise ExportError(
                    "a constant of the function differs from image to image of a batch"
                )
            array = first
    return array


def _evaluate(equation: Any, arguments: list[Any]) -> list[Any]:
    """What an equation on constants yields."""
    name, params = equation.primitive.name, equation.params
    out = equation.outvars[0].aval
    shape = tuple(1 if depends_on_batch(size) else size for size in getattr(out, "shape", ()))
    first = arguments[0] if arguments else None
    if isinstance(first, np.ndarray):
        if name in _NUMPY:
            with np.errstate(all="ignore"):
                return [np.asarray(_NUMPY[name](*arguments))]
        if name == "div" and first.dtype.kind == "f":
            with np.errstate(all="ignore"):
                return [np.asarray(first / arguments[1])]
        if name in ("reshape", "squeeze", "expand_dims") and first.size == math.prod(shape):
            return [first.reshape(shape)]
        if name == "broadcast_in_dim":
            unit = [1] * len(shape)
            for axis, size in zip(params["broadcast_dimensions"], first.shape, strict=True):
                unit[axis] = size
            return [np.broadcast_to(first.reshape(unit), shape)]
        if name == "convert_element_type":
            return [first.astype(params["new_dtype"])]
        if name == "transpose":
            return [first.transpose(params["permutation"])]
    avals = [atom.aval for atom in (*equation.invars, *equation.outvars)]
    if any(depends_on_batch(size) for aval in avals for size in getattr(aval, "shape", ())):
        raise ExportError(
            f"'{name}' makes a constant as large as the batch; make it of batch size 1"
        )
    results = equation.primitive.bind(*arguments, **params)
    results = results if equation.primitive.multiple_results else [results]
    return [_constant(result) for result in results]
