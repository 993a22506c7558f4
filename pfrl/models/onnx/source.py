"""``from_onnx``: a network of an ONNX file, to be traced, trained and compressed like any other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from pfrl.graph.source import Source, Variables, as_inputs
from pfrl.models.onnx.check import check
from pfrl.models.onnx.names import renamed_roles, variable_names
from pfrl.models.onnx.program import OnnxProgram
from pfrl.models.onnx.reader import OnnxError, OnnxFile, read

FREE = 64
"""Size that stands for a free one while a file is checked."""


def from_onnx(
    path: str | Path, *shapes: Sequence[int], channels_last: bool = False
) -> Source:
    """A network of an ONNX file; nothing of the file is executed as code.

    Float arrays that are computed with are trainable, kernels as ``[H, W, I, O]`` and ``[I, O]``;
    means and variances of ``BatchNormalization`` are statistics, and work in training.

    Args:
      path: of the file; arrays in other files are read if they lie in the same folder.
      shapes: of an example of every input, in the file's order of axes, where the file leaves
        sizes free.
      channels_last: whether images (inputs and outputs with two axes of space) have their
        channels last, however the file has them.

    Raises:
      OnnxError: if the file cannot be read, has an operator that is unknown, or gives other
        outputs than in ONNX Runtime (1e-4 of the largest).
    """
    return load(read(Path(path)), list(map(tuple, shapes)), channels_last)


def load(file: OnnxFile, shapes: list[tuple[int, ...]], channels_last: bool) -> Source:
    """See ``from_onnx``; of a file that was read."""
    shapes = [
        _example(file, number, shapes[number] if number < len(shapes) else None)
        for number in range(len(file.inputs))
    ]
    program = OnnxProgram(file, [(1, *shape) for shape in shapes])
    source = _source(program, turned=False)
    check(file, source, shapes)
    turned = channels_last and channel_axis(file, program) == 1
    return _source(program, turned) if turned else source


def _example(file: OnnxFile, number: int, given: tuple[int, ...] | None) -> tuple[int, ...]:
    each = file.inputs[number]
    if not each.shape:
        raise OnnxError(
            f"the input '{each.name}' of {file.path} has no axes; its first is that of the examples"
        )
    free = [size for size in each.shape[1:]]
    if given is not None and len(given) == len(free):
        return tuple(
            int(size) if size is not None else int(own)
            for size, own in zip(free, given, strict=True)
        )
    return tuple(3 if size is None and i == 0 and len(free) == 3 else size or FREE
                 for i, size in enumerate(free))  # fmt: skip


def _source(program: OnnxProgram, turned: bool) -> Source:
    """The program as a function of named variables.

    Args:
      program: the file's.
      turned: whether images come, and go, with their channels last.
    """
    names = variable_names(program)
    originals = {new: old for old, new in names.items()}
    statistics = renamed_roles(program, names)
    variables: Variables = {
        names[name]: np.ascontiguousarray(
            array.transpose(program.layout(name)), np.float32
        )
        for name, array in program.weights.items()
    }

    def apply(variables: Variables, x: Any, train: bool) -> tuple[Any, Variables]:
        weights = {originals[name]: array for name, array in variables.items()}
        inputs = [jnp.asarray(each) for each in as_inputs(x)]
        if turned:
            inputs = [jnp.moveaxis(each, -1, 1) if each.ndim == 4 else each for each in inputs]
        outputs, updated = program(weights, inputs, train)
        if turned:
            outputs = [jnp.moveaxis(each, 1, -1) if each.ndim == 4 else each for each in outputs]
        after = {
            name: updated.get(originals[name], variables[name]) for name in statistics
        }
        return outputs[0] if len(outputs) == 1 else tuple(outputs), after

    trainable = frozenset(variables) - statistics
    return Source(apply, {name: jnp.asarray(v) for name, v in variables.items()}, trainable)


def channel_axis(file: OnnxFile, program: OnnxProgram) -> int:
    """Where the channels of the first input are, by the first convolution that it meets: 1 or 3."""
    order = {file.inputs[0].name: list(range(len(file.inputs[0].shape)))}
    for node in program.nodes:
        axes = order.get(node.inputs[0]) if node.inputs else None
        if axes is None:
            axes = next((order[name] for name in node.inputs if name in order), None)
        if axes is None:
            continue
        if node.op == "Transpose":
            axes = [axes[place] for place in node.attributes.get("perm", range(len(axes))[::-1])]
        if node.op in ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool"):
            return axes[1]
        for name in node.outputs:
            order[name] = axes
    shape = file.inputs[0].shape
    few = [axis for axis in (1, 3) if len(shape) == 4 and shape[axis] in (1, 3, 4)]
    return few[0] if len(few) == 1 else 1
