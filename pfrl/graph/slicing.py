"""Running a labelled program with some atoms removed: the same equations on smaller arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph.labelled.atoms import Label
from pfrl.graph.labelled.elementwise import GENERATORS
from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.labelled.program import FUSED, Constant, Equation, evaluate
from pfrl.graph.labelled.shuffle import NAME as SHUFFLE

OnLayer = Callable[[int, Any, Any], tuple[Any, Any]]
"""``(equation number, activation, kernel) -> (activation, kernel)``: where kernels are rounded."""
OnValue = Callable[[int, Any], Any]
"""``(number of a value, the value) -> value``: where activations are rounded."""


def run(
    labelled: Labelled,
    arguments: Sequence[Any],
    removed: np.ndarray | None = None,
    on_layer: OnLayer | None = None,
    on_value: OnValue | None = None,
) -> list[Any]:
    """Evaluate a program; jits and differentiates like the function that it was traced from.

    Args:
      labelled: the program.
      arguments: one array an input, without the removed indices.
      removed: bool by atom, or None to run the whole program.
      on_layer: called with the operands of every layer, and returns those to use.
      on_value: called with the inputs and the results of all equations, and returns what
        everything after them reads.
    """

    def step(number: int, equation: Equation, operands: list[Any]) -> Sequence[Any]:
        if equation.name == FUSED:
            return [None] * len(equation.outputs)
        results = results_of(number, equation, operands)
        if on_value is None:
            return results
        return [on_value(x, value) for x, value in zip(equation.outputs, results, strict=True)]

    def results_of(number: int, equation: Equation, operands: list[Any]) -> Sequence[Any]:
        if removed is not None:
            for place, operand in enumerate(equation.inputs):
                if isinstance(operand, Constant) and np.ndim(operand.value):
                    labels = labelled.constants[number, place]
                    operands[place] = cut(operands[place], labels, removed)
        if on_layer is not None and number in labelled.kernels:
            place = labelled.kernels[number]
            activation, kernel = on_layer(number, operands[1 - place], operands[place])
            operands = [kernel, activation] if place == 0 else [activation, kernel]
        if number in labelled.tangents:
            body, tangent = labelled.bodies[number], labelled.tangents[number]
            return _run_custom_jvp(body, tangent, operands, removed)
        if removed is None or not _shrinks(labelled, equation, removed):
            return equation.bind(operands)
        bind = SLICED.get(equation.name, _bind)
        results = bind(labelled, number, equation, operands, removed)
        return results if equation.primitive.multiple_results else [results]

    if on_value is not None:
        arguments = [on_value(number, value) for number, value in enumerate(arguments)]
    return evaluate(labelled.program, arguments, step)


def kept(label: Label, removed: np.ndarray) -> np.ndarray | None:
    """Which indices of an axis remain, bool ``[size]``; None for an unlabelled axis."""
    return None if label is None else ~removed[label]


def kept_shape(labels: Sequence[Label], shape: tuple, removed: np.ndarray) -> tuple:
    """A value's shape after the removal."""
    return tuple(
        size if label is None else int((~removed[label]).sum())
        for label, size in zip(labels, shape, strict=True)
    )


def cut(value: Any, labels: Sequence[Label], removed: np.ndarray) -> Any:
    """A whole array without the removed indices."""
    for axis, label in enumerate(labels):
        if label is not None and removed[label].any():
            index = (slice(None),) * axis + (np.flatnonzero(~removed[label]),)
            value = value[index] if isinstance(value, np.ndarray) else _take(value, index[-1], axis)
    return value


def _take(value: Any, indices: np.ndarray, axis: int) -> Any:
    """``value`` at fixed indices of an axis; a plain slice where they are evenly spaced."""
    steps = np.diff(indices)
    if len(indices) and (steps == steps[:1]).all() and (len(steps) == 0 or steps[0] > 0):
        step = int(steps[0]) if len(steps) else 1
        return jax.lax.slice_in_dim(value, int(indices[0]), int(indices[-1]) + 1, step, axis)
    return jnp.take(value, indices, axis, mode="clip")


def _shrinks(labelled: Labelled, equation: Equation, removed: np.ndarray) -> bool:
    """Whether any operand or result loses an index."""
    values = [*(x for x in equation.inputs if isinstance(x, int)), *equation.outputs]
    return any(
        label is not None and bool(removed[label].any())
        for value in values
        for label in labelled.values[value].labels
    )


def _result_shape(labelled: Labelled, equation: Equation, removed: np.ndarray) -> tuple:
    labels = labelled.values[equation.outputs[0]].labels
    return kept_shape(labels, equation.shapes[1][0], removed)


def _bind(
    labelled: Labelled, number: int, equation: Equation, operands: list, removed: np.ndarray
) -> Any:
    """An operation whose parameters name no shape."""
    return equation.primitive.bind(*operands, **equation.params)


def _shaped(parameter: str) -> Callable:
    """An operation with its result's shape among its parameters."""

    def bind(
        labelled: Labelled, number: int, equation: Equation, operands: list, removed: np.ndarray
    ) -> Any:
        shape = _result_shape(labelled, equation, removed)
        return equation.primitive.bind(*operands, **{**equation.params, parameter: shape})

    return bind


def _generator(
    labelled: Labelled, number: int, equation: Equation, operands: list, removed: np.ndarray
) -> Any:
    """Made whole and cut, so that what remains is what it was."""
    result = equation.primitive.bind(*operands, **equation.params)
    return cut(result, labelled.values[equation.outputs[0]].labels, removed)


def _pad(
    labelled: Labelled, number: int, equation: Equation, operands: list, removed: np.ndarray
) -> Any:
    config = []
    labels = labelled.values[equation.outputs[0]].labels
    for label, (low, high, interior) in zip(labels, equation.params["padding_config"], strict=True):
        if label is not None:
            present = ~removed[label]
            high = int(present[len(present) - high :].sum()) if high else 0
            low = int(present[:low].sum()) if low else 0
        config.append((low, high, interior))
    return equation.primitive.bind(*operands, padding_config=tuple(config))


def _slice(
    labelled: Labelled, number: int, equation: Equation, operands: list, removed: np.ndarray
) -> Any:
    """The kept ones of the places that the slice takes."""
    params, value = equation.params, operands[0]
    strides = params["strides"] or (1,) * len(params["start_indices"])
    cuts = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    for axis, (label, limits) in enumerate(zip(labelled.of(equation.inputs[0]), cuts, strict=True)):
        size = equation.shapes[0][0][axis]
        if label is None and limits == (0, size, 1):
            continue  # all of it, which may be a batch of any size
        wanted = np.zeros(size, bool)
        wanted[slice(*limits)] = True
        if label is not None:
            wanted = wanted[~removed[label]]
        if not wanted.all():
            value = _take(value, np.flatnonzero(wanted), axis)
    return value


def _split(
    labelled: Labelled, number: int, equation: Equation, operands: list, removed: np.ndarray
) -> Any:
    axis = equation.params["axis"]
    sizes = []
    for output, shape in zip(equation.outputs, equation.shapes[1], strict=True):
        sizes.append(kept_shape(labelled.values[output].labels, shape, removed)[axis])
    return equation.primitive.bind(*operands, sizes=tuple(sizes), axis=axis)


def _gather(
    labelled: Labelled, number: int, equation: Equation, operands: list, removed: np.ndarray
) -> Any:
    """Axes that are taken whole have their new length; a fixed list of places is made anew."""
    params, numbers = equation.params, equation.params["dimension_numbers"]
    labels = labelled.of(equation.inputs[0])
    sizes = list(params["slice_sizes"])
    for axis, label in enumerate(labels):
        if label is not None and sizes[axis] == equation.shapes[0][0][axis]:
            sizes[axis] = int((~removed[label]).sum())
    if number in labelled.gathered:
        (axis,) = numbers.start_index_map
        label = labels[axis]
        assert label is not None
        taken, stays = labelled.gathered[number], ~removed[label]
        renumbered = np.cumsum(stays) - 1
        indices = renumbered[taken[stays[taken]]][:, None]
        operands = [operands[0], jnp.asarray(indices, operands[1].dtype)]
    return equation.primitive.bind(*operands, **{**params, "slice_sizes": tuple(sizes)})


def _conv(
    labelled: Labelled, number: int, equation: Equation, operands: list, removed: np.ndarray
) -> Any:
    params = dict(equation.params)
    groups = labelled.conv_groups.get(number)
    if groups is not None:
        params["feature_group_count"] = int((~removed[groups]).sum())
    return equation.primitive.bind(*operands, **params)


def _shuffle(
    labelled: Labelled, number: int, equation: Equation, operands: list, removed: np.ndarray
) -> Any:
    label = labelled.of(equation.inputs[0])[equation.primitive.axis]
    if label is None or not removed[label].any():
        label = np.zeros(equation.shapes[0][0][equation.primitive.axis], int)
    return equation.primitive.bind_kept(operands[0], ~removed[label])


SLICED: dict[str, Callable] = {
    SHUFFLE: _shuffle,
    "broadcast_in_dim": _shaped("shape"),
    "reshape": _shaped("new_sizes"),
    **dict.fromkeys(GENERATORS, _generator),
    "pad": _pad,
    "slice": _slice,
    "split": _split,
    "dynamic_slice": _shaped("slice_sizes"),
    "gather": _gather,
    "conv_general_dilated": _conv,
}
"""How the operations run whose parameters name shapes or places; all others run as they are."""


def _run_custom_jvp(
    body: Labelled, tangent: Labelled, operands: list[Any], removed: np.ndarray | None
) -> list[Any]:
    """A function with its own derivative, both run without the removed indices."""

    @jax.custom_jvp
    def function(*primals):
        return run(body, primals, removed)

    @function.defjvp
    def rule(primals, tangents):
        results = run(tangent, [*primals, *tangents], removed)
        outputs, rates = results[: len(results) // 2], results[len(results) // 2 :]
        rates = [
            jnp.zeros_like(y) if dy is None else dy for y, dy in zip(outputs, rates, strict=True)
        ]
        return outputs, rates

    return function(*operands)
