"""A network as the operations that depend on its input; everything constant is evaluated."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph.labelled.program import (
    BATCH,
    Equation,
    Program,
    depends_on_batch,
    evaluate,
    trace_program,
)

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


class Computed(NamedTuple):
    """An array that depends on the input; the batch size in ``shape`` is ``BATCH``."""

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype


class Operation(NamedTuple):
    """``outputs = primitive(*inputs, **params)``; inputs are ``Computed`` or constants.

    A constant's batch axis has size 1 (it broadcasts).
    """

    primitive: str
    inputs: tuple[Any, ...]
    outputs: tuple[Computed, ...]
    params: dict[str, Any]


class Operations(NamedTuple):
    """Operations in the order of execution, without those that no output needs."""

    input: Computed
    steps: list[Operation]
    outputs: tuple[Computed, ...]
    names: tuple[str, ...] = ()
    """Of the outputs, where the function gives several by name."""


def operations_of(function: Callable[[jax.Array], Any], input_shape: Sequence[int]) -> Operations:
    """The operations of ``function``, a function of one float32 array ``[N, *input_shape]``.

    Raises:
      ExportError: if the function returns an array that is not of floats or does not depend on
        its input, or needs a constant as large as the batch.
    """
    spec = jax.ShapeDtypeStruct((BATCH, *map(int, input_shape)), jnp.float32)
    # A fresh function: JAX remembers traces by function, and the parameters of a module may change.
    program, tree = trace_program(lambda x: function(x), spec, derivatives=False)
    source, steps = _computed(program, 0), []

    def step(number: int, equation: Equation, operands: list[Any]) -> Sequence[Any]:
        operands = [each if isinstance(each, Computed) else _constant(each) for each in operands]
        if not any(isinstance(each, Computed) for each in operands):
            return _evaluated(equation, operands)
        if equation.name == "select_n" and (chosen := _chosen(equation, operands)) is not None:
            return [chosen]
        outputs = tuple(_computed(program, value) for value in equation.outputs)
        steps.append(Operation(equation.name, tuple(operands), outputs, equation.params))
        return outputs

    outputs = tuple(evaluate(program, [source], step))
    if not outputs or not all(isinstance(each, Computed) for each in outputs):
        raise ExportError(
            "a result of the function does not depend on its input; return what does alone"
        )
    for number, each in enumerate(outputs):
        if each.dtype.kind in "biu":
            raise ExportError(
                f"output {number} of the function is of {each.dtype}; return floats alone"
            )
    return Operations(source, _needed(steps, outputs), outputs, _names(tree))


def _names(tree: Any) -> tuple[str, ...]:
    """Where outputs are in dictionaries, such as ``boxes/0``; none if one is in no dictionary."""
    found = jax.tree.unflatten(tree, range(tree.num_leaves))
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(found)[0]]
    if not all(path and isinstance(path[0], jax.tree_util.DictKey) for path in paths):
        return ()
    return tuple(jax.tree_util.keystr(path, simple=True, separator="/") for path in paths)


def _computed(program: Program, value: int) -> Computed:
    return Computed(value, program.shapes[value], np.dtype(program.types[value]))


def _needed(steps: list[Operation], outputs: Sequence[Computed]) -> list[Operation]:
    alive, kept = {output.index for output in outputs}, []
    for operation in reversed(steps):
        if any(each.index in alive for each in operation.outputs):
            alive |= {each.index for each in operation.inputs if isinstance(each, Computed)}
            kept.append(operation)
    return kept[::-1]


def _chosen(equation: Equation, arguments: list[Any]) -> Computed | None:
    """The case that a constant chooses everywhere, as a bit width of 32 chooses what is exact."""
    which, *cases = arguments
    if isinstance(which, Computed) or which.size == 0 or (which != which.flat[0]).any():
        return None
    case = cases[int(which.flat[0])]
    fits = isinstance(case, Computed) and case.shape == equation.shapes[1][0]
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


def _evaluated(equation: Equation, arguments: list[Any]) -> list[Any]:
    """What an equation on constants yields."""
    name, params = equation.name, equation.params
    shape = tuple(1 if depends_on_batch(size) else size for size in equation.shapes[1][0])
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
    shapes = [*equation.shapes[0], *equation.shapes[1]]
    if any(depends_on_batch(size) for each in shapes for size in each):
        return _of_one_image(equation, arguments)
    return [_constant(result) for result in equation.bind(arguments)]


def _of_one_image(equation: Equation, arguments: list[Any]) -> list[Any]:
    """What an equation on constants yields that are the same for every image of the batch.

    Raises:
      ExportError: if images could differ, for it works along the batch or mixes it with others.
    """
    params, (taken, made) = equation.params, equation.shapes
    wanted = [tuple(1 if size == BATCH else size for size in shape) for shape in made]
    axes = _axes(params)
    mixed = any(
        depends_on_batch(size) and (size != BATCH or axis in axes or shape.count(size) > 1)
        for shape in (*taken, *made)
        for axis, size in enumerate(shape)
    )
    # A result without the axis was summed over it.
    summed = any(BATCH in shape for shape in taken) and any(BATCH not in shape for shape in made)
    if not mixed and not summed:
        one = replace(equation, params={key: _for_one(value) for key, value in params.items()})
        results = [np.asarray(result) for result in one.bind(arguments)]
        if [result.shape for result in results] == wanted:
            return results
    raise ExportError(
        f"'{equation.name}' makes a constant as large as the batch; make it of batch size 1"
    )


def _axes(params: dict[str, Any]) -> set[int]:
    """The axes that an equation works along, as parameters name them."""
    named = [params.get(key, ()) for key in ("axis", "dimension", "axes", "dimensions")]
    return {axis for each in named for axis in (each if isinstance(each, tuple) else (each,))}


def _for_one(value: Any) -> Any:
    """A parameter of an equation for a batch of one."""
    if isinstance(value, tuple):
        parts = map(_for_one, value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return 1 if isinstance(value, int) and value == BATCH else value
