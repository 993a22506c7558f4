"""How each element-wise JAX primitive is said in operators, and the register of all lowerings.

One small function a primitive (``layout`` has those that move values
about, ``contract`` the convolutions, products and reductions).

A function gets the graph, the operation and its inputs (``Tensor`` for what
depends on the images, ``numpy`` arrays for constants) and returns its result.
Nothing is moved in memory to please JAX: element-wise operations, reductions,
slices, pads and transpositions work in the layout that their input has, and
only convolutions, pools and matrix products ask for one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pfrl.deploy.operators.graph import OperatorGraph, Tensor
from pfrl.deploy.operators.program import ExportError, Operation
from pfrl.graph.labelled.program import depends_on_batch

SITE, LAYER = "pfrl site ", "pfrl layer "
"""How the name of a marked value starts: a site's, and that of what a layer makes."""
Value = Tensor | np.ndarray
Lowering = Callable[[OperatorGraph, Operation, Sequence[Any]], Value | list[Value]]
LOWERINGS: dict[str, Lowering] = {}


def lowers(*primitives: str) -> Callable[[Lowering], Lowering]:
    """Registers a function as the lowering of the primitives of these names."""

    def register(lowering: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(primitives, lowering))
        return lowering

    return register


def lower(graph: OperatorGraph, operation: Operation, inputs: Sequence[Value]) -> list[Value]:
    """The results of one operation.

    Raises:
      ExportError: if the operation has no counterpart here.
    """
    name = operation.primitive
    if name not in LOWERINGS:
        raise unsupported(operation, "has no counterpart in the exporters")
    for output in operation.outputs:
        if output.dtype not in (np.float32, np.bool_):
            raise unsupported(
                operation, f"yields {output.dtype}; only float32 networks are exported"
            )
    result = LOWERINGS[name](graph, operation, inputs)
    return result if isinstance(result, list) else [result]


def unsupported(operation: Operation, reason: str) -> ExportError:
    return ExportError(
        f"the JAX primitive '{operation.primitive}' {reason}; write the network without it, "
        "or add a lowering to pfrl/deploy/operators/ops.py"
    )


def pointwise(
    graph: OperatorGraph, op: str, inputs: Sequence[Value], shape: Sequence[int]
) -> Tensor:
    """``op`` on operands that broadcast to JAX's ``shape``, in the layout that one of them has.

    Of images that is the one that convolutions want, of sequences the one that products do.
    """
    rank = len(shape)
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    layouts = [value.layout for value in tensors if len(value.layout) == rank]
    identity = tuple(range(rank))
    layout = next((each for each in layouts if each != identity), identity)
    if rank == 3 and identity in layouts and depends_on_batch(shape[0]):
        layout = identity
    covered = any(value.shape == tuple(shape) for value in tensors)
    names = [
        graph.relay(value, layout if len(value.layout) == rank else value.layout).name
        if isinstance(value, Tensor)
        else graph.constant(_arranged(value, layout, covered))
        for value in inputs
    ]
    return Tensor(
        graph.node(op, names, [shape[axis] for axis in layout]), tuple(shape), tuple(layout)
    )


def _arranged(array: np.ndarray, layout: Sequence[int], may_shrink: bool) -> np.ndarray:
    """A constant in ``layout``; axes along which nothing changes are cut to size 1."""
    if may_shrink:
        for axis in range(array.ndim):
            first = array.take([0], axis) if array.shape[axis] else array
            if np.array_equal(np.broadcast_to(first, array.shape), array):
                array = first
        if array.size == 1:
            return array.reshape(())
    return array.transpose(layout) if array.ndim == len(layout) else array


_UNARY = {
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "sqrt": "Sqrt",
    "erf": "Erf",
    "abs": "Abs",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "sin": "Sin",
    "cos": "Cos",
    "not": "Not",
}
_BINARY = {
    "add_any": "Add",
    "pow": "Pow",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "lt": "Less",
    "le": "LessOrEqual",
    "eq": "Equal",
    "and": "And",
    "or": "Or",
    "xor": "Xor",
}


@lowers(*_UNARY)
def _unary(graph, operation, inputs):
    return pointwise(graph, _UNARY[operation.primitive], inputs, operation.outputs[0].shape)


@lowers(*_BINARY)
def _binary(graph, operation, inputs):
    return pointwise(graph, _BINARY[operation.primitive], inputs, operation.outputs[0].shape)


@lowers("stop_gradient", "copy", "optimization_barrier", "reduce_precision")
def _identity(graph, operation, inputs):
    if operation.primitive == "reduce_precision" and operation.params["mantissa_bits"] < 23:
        raise unsupported(operation, "rounds to fewer bits than float32 has")
    return list(inputs)


@lowers("name")
def _name(graph, operation, inputs):
    """A mark (see ``marks``) says what a value is; other names say nothing."""
    (tensor,), text = inputs, operation.params["name"]
    if isinstance(tensor, Tensor) and text.startswith(SITE):
        graph.sites[graph.values[tensor.name]] = text.removeprefix(SITE)
    if isinstance(tensor, Tensor) and text.startswith(LAYER):
        by_output = {node.output: node for node in graph.nodes}
        node = by_output[tensor.name]
        while node.op in ("Reshape", "Transpose"):
            node = by_output[node.inputs[0]]
        node.layer = text.removeprefix(LAYER)
    return tensor


# Constants stand second, and subtraction and division of constants are additions and
# multiplications: then folding them into a kernel is a matter of two rules.


@lowers("add", "mul")
def _commutative(graph, operation, inputs):
    op = operation.primitive.capitalize()
    if not isinstance(inputs[0], Tensor):
        inputs = inputs[::-1]
    return pointwise(graph, op, inputs, operation.outputs[0].shape)


@lowers("sub")
def _sub(graph, operation, inputs):
    left, right = inputs
    shape = operation.outputs[0].shape
    if not isinstance(right, Tensor):
        return pointwise(graph, "Add", [left, -right.astype(np.float64)], shape)
    if not isinstance(left, Tensor):
        return pointwise(graph, "Add", [_times(graph, right, -1.0), left], shape)
    return pointwise(graph, "Sub", inputs, shape)


@lowers("div")
def _div(graph, operation, inputs):
    shape = operation.outputs[0].shape
    if isinstance(inputs[1], Tensor):
        return pointwise(graph, "Div", inputs, shape)
    with np.errstate(divide="ignore"):
        return pointwise(graph, "Mul", [inputs[0], 1 / inputs[1].astype(np.float64)], shape)


@lowers("neg")
def _neg(graph, operation, inputs):
    return _times(graph, inputs[0], -1.0)


def _times(graph: OperatorGraph, tensor: Tensor, factor: float) -> Tensor:
    return pointwise(graph, "Mul", [tensor, np.array(factor)], tensor.shape)


@lowers("square")
def _square(graph, operation, inputs):
    return pointwise(graph, "Mul", [inputs[0], inputs[0]], operation.outputs[0].shape)


@lowers("integer_pow")
def _integer_pow(graph, operation, inputs):
    exponent = operation.params["y"]
    if exponent == 2:
        return _square(graph, operation, inputs)
    if exponent == -1:
        return pointwise(graph, "Reciprocal", inputs, operation.outputs[0].shape)
    return pointwise(graph, "Pow", [inputs[0], np.array(float(exponent))], inputs[0].shape)


@lowers("rsqrt")
def _rsqrt(graph, operation, inputs):
    root = pointwise(graph, "Sqrt", inputs, inputs[0].shape)
    return pointwise(graph, "Reciprocal", [root], root.shape)


@lowers("erfc")
def _erfc(graph, operation, inputs):
    erf = pointwise(graph, "Erf", inputs, inputs[0].shape)
    return pointwise(graph, "Add", [_times(graph, erf, -1.0), np.array(1.0)], erf.shape)


@lowers("round")
def _round(graph, operation, inputs):
    if operation.params["rounding_method"].name != "TO_NEAREST_EVEN":
        raise unsupported(operation, "rounds halves away from zero; use jnp.round")
    return pointwise(graph, "Round", inputs, inputs[0].shape)


@lowers("max", "min")
def _bound(graph, operation, inputs):
    shape = operation.outputs[0].shape
    for tensor, other in (inputs, inputs[::-1]):
        if (
            isinstance(other, np.ndarray)
            and tensor.shape == shape
            and (other == other.flat[0]).all()
        ):
            return _clip(graph, tensor, **{operation.primitive: float(other.flat[0])})
    return pointwise(graph, operation.primitive.capitalize(), inputs, shape)


def _clip(graph: OperatorGraph, tensor: Tensor, **bounds: float) -> Tensor:
    """``max`` with a constant is a lower bound, ``min`` an upper one."""
    side = {"max": "min", "min": "max"}
    attributes = {side[key]: value for key, value in bounds.items()}
    shape = [tensor.shape[axis] for axis in tensor.layout]
    return tensor._replace(name=graph.node("Clip", [tensor.name], shape, **attributes))


@lowers("clamp")
def _clamp(graph, operation, inputs):
    low, tensor, high = inputs
    if isinstance(low, Tensor) or isinstance(high, Tensor) or low.size != 1 or high.size != 1:
        raise unsupported(
            operation, "has bounds that are no numbers; use jnp.maximum and jnp.minimum"
        )
    return _clip(graph, _clip(graph, tensor, max=low.item()), min=high.item())


@lowers("ne")
def _ne(graph, operation, inputs):
    equal = pointwise(graph, "Equal", inputs, operation.outputs[0].shape)
    return pointwise(graph, "Not", [equal], equal.shape)


@lowers("select_n")
def _select_n(graph, operation, inputs):
    if len(inputs) != 3:
        raise unsupported(operation, f"chooses among {len(inputs) - 1} arrays; use jnp.where")
    which, if_false, if_true = inputs
    if isinstance(which, np.ndarray) and which.dtype != np.bool_:
        which = which.astype(bool)
    return pointwise(graph, "Where", [which, if_true, if_false], operation.outputs[0].shape)


@lowers("convert_element_type")
def _convert(graph, operation, inputs):
    (before,), after = operation.inputs, operation.outputs[0]
    if before.dtype == after.dtype:
        return inputs[0]
    tensor = inputs[0]
    shape = [tensor.shape[axis] for axis in tensor.layout]
    return tensor._replace(name=graph.node("Cast", [tensor.name], shape, to=after.dtype.name))
