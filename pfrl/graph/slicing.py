"""Running a labelled program with some atoms removed: the same equations on smaller arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph.atoms import Label
from pfrl.graph.labels import ELEMENTWISE, Labelled, is_uniform
from pfrl.graph.program import Constant, Equation

OnLayer = Callable[[int, Any, Any], tuple[Any, Any]]
"""``(equation number, activation, kernel) -> (activation, kernel)``: where quantization enters."""


def run(
    labelled: Labelled,
    arguments: Sequence[Any],
    removed: np.ndarray | None = None,
    on_layer: OnLayer | None = None,
) -> list[Any]:
    """Evaluate a program; jits and differentiates like the function that it was traced from.

    Args:
      labelled: the program.
      arguments: one array an input, without the removed indices.
      removed: bool by atom, or None to run the whole program.
      on_layer: called with the operands of every layer, and returns those to use.
    """
    program = labelled.program
    values: list[Any] = list(arguments)

    def read(operand: int | Constant) -> Any:
        return operand.value if isinstance(operand, Constant) else values[operand]

    for number, equation in enumerate(program.equations):
        operands = [read(operand) for operand in equation.inputs]
        if on_layer is not None and number in labelled.kernels:
            place = equation.inputs.index(labelled.kernels[number])
            activation, kernel = on_layer(number, operands[1 - place], operands[place])
            operands = [kernel, activation] if place == 0 else [activation, kernel]
        if number in labelled.tangents:
            results = _run_custom_jvp(
                labelled.bodies[number], labelled.tangents[number], operands, removed
            )
        else:
            params = equation.params
            if removed is not None:
                params = _adjusted(equation, labelled, removed)
                operands = _spread_constants(equation, operands, labelled, removed)
            results = equation.primitive.bind(*operands, **params)
        values.extend(results if equation.primitive.multiple_results else [results])
    return [read(output) for output in program.outputs]


def kept(label: Label, removed: np.ndarray) -> np.ndarray | None:
    """Which indices of an axis remain, bool ``[size]``; None for an unlabelled axis."""
    return None if label is None else ~removed[label]


def kept_shape(labels: Sequence[Label], shape: tuple, removed: np.ndarray) -> tuple:
    """A value's shape after the removal."""
    return tuple(
        size if label is None else int((~removed[label]).sum())
        for label, size in zip(labels, shape, strict=True)
    )


def _adjusted(equation: Equation, labelled: Labelled, removed: np.ndarray) -> dict[str, Any]:
    """The equation's parameters with the shapes that they name reduced."""
    params, name = equation.params, equation.name
    if name not in ("broadcast_in_dim", "reshape", "pad", "slice", "conv_general_dilated"):
        return params
    source = labelled.of(equation.inputs[0])
    target = labelled.labels[equation.outputs[0]]
    shape = kept_shape(target, equation.shapes[1][0], removed)
    if name == "broadcast_in_dim":
        return {**params, "shape": shape}
    if name == "reshape":
        return {**params, "new_sizes": shape}
    if name == "pad":
        config = []
        for label, (low, high, interior) in zip(target, params["padding_config"], strict=True):
            if label is not None:
                present = ~removed[label]
                high = int(present[len(present) - high :].sum()) if high else 0
                low = int(present[:low].sum())
            config.append((low, high, interior))
        return {**params, "padding_config": tuple(config)}
    if name == "slice":
        starts, limits = list(params["start_indices"]), list(params["limit_indices"])
        for axis, label in enumerate(source):
            if target[axis] is not None:
                present = kept(label, removed)
                assert present is not None
                starts[axis], limits[axis] = (
                    int(present[: starts[axis]].sum()),
                    int(present[: limits[axis]].sum()),
                )
            # A strided axis is frozen: its places stay where they are.
        return {**params, "start_indices": tuple(starts), "limit_indices": tuple(limits)}
    groups = params["feature_group_count"]
    if groups > 1:
        features = params["dimension_numbers"].lhs_spec[1]
        lhs_shape = kept_shape(source, equation.shapes[0][0], removed)
        kernel_inner = equation.shapes[0][1][params["dimension_numbers"].rhs_spec[1]]
        groups = lhs_shape[features] // kernel_inner
    return {**params, "feature_group_count": groups}


def _spread_constants(
    equation: Equation, operands: list[Any], labelled: Labelled, removed: np.ndarray
) -> list[Any]:
    """Captured arrays of equal elements take the reduced shape of what they meet."""
    if equation.name not in ELEMENTWISE or not any(map(is_uniform, equation.inputs)):
        return operands
    target = labelled.labels[equation.outputs[0]]
    shape = kept_shape(target, equation.shapes[1][0], removed)
    return [
        jnp.full(shape, np.asarray(value).flat[0], np.asarray(value).dtype)
        if is_uniform(operand) and np.shape(value) == equation.shapes[1][0]
        else value
        for operand, value in zip(equation.inputs, operands, strict=True)
    ]


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
