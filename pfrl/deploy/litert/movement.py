"""LiteRT's operators for what moves values about: reshape, transpose, slice, pad, join, look up."""

from collections.abc import Mapping, Sequence

import numpy as np

from pfrl.deploy.litert.emit import OFFSET, Emitter, any_images, emits, stored
from pfrl.deploy.operators.graph import Node
from pfrl.deploy.operators.quantized import Grid


@emits("Reshape", "Identity")
def _reshape(emitter: Emitter, node: Node) -> None:
    sizes = any_images(emitter.graph.shapes[node.output])
    inputs = [emitter.moved(node.inputs[0], node), emitter.sizes(sizes)]
    emitter.operator("RESHAPE", inputs, node, "ReshapeOptions", newShape=sizes)


@emits("Transpose")
def _transpose(emitter: Emitter, node: Node) -> None:
    inputs = [emitter.moved(node.inputs[0], node), emitter.axes(node.attributes["perm"])]
    emitter.operator("TRANSPOSE", inputs, node, "TransposeOptions")


@emits("Expand")
def _expand(emitter: Emitter, node: Node) -> None:
    """Repeats along axes of size 1; how often does not depend on the number of images."""
    before, after = emitter.shape(node.inputs[0]), emitter.shape(node.output)
    before = (1,) * (len(after) - len(before)) + before
    number = emitter.moved(node.inputs[0], node)
    if len(before) != len(emitter.shape(node.inputs[0])):
        longer = emitter.temporary(before, emitter.grids.get(node.output))
        emitter.model.operator(
            "RESHAPE", [number, emitter.sizes(before)], [longer], "ReshapeOptions"
        )
        number = longer
    times = [size // old for size, old in zip(after, before, strict=True)]
    emitter.operator("TILE", [number, emitter.sizes(times)], node, "TileOptions")


@emits("Slice")
def _slice(emitter: Emitter, node: Node) -> None:
    keys = ("axes", "starts", "ends", "steps")
    ranges = {
        axis: (start, end, step)
        for axis, start, end, step in zip(*(node.attributes[key] for key in keys), strict=True)
    }
    number, shape = emitter.moved(node.inputs[0], node), emitter.shape(node.inputs[0])
    cut(emitter, number, shape, ranges, emitter.result(node))


def cut(
    emitter: Emitter,
    number: int,
    shape: Sequence[int],
    ranges: Mapping[int, tuple[int, int, int]],
    result: int,
) -> None:
    """Appends the operator that takes ``(start, end, step)`` of some axes of a tensor.

    The other axes are taken whole by a mask, so that the images may be more than one; SLICE would
    refuse it.
    """
    whole = sum(1 << axis for axis in range(len(shape)) if axis not in ranges)
    places = [ranges.get(axis, (0, size, 1)) for axis, size in enumerate(shape)]
    inputs = [number, *(emitter.sizes(each) for each in zip(*places, strict=True))]
    options = {"beginMask": whole, "endMask": whole}
    version = emitter.version("STRIDED_SLICE")
    emitter.model.operator(
        "STRIDED_SLICE", inputs, [result], "StridedSliceOptions", version, **options
    )


@emits("Pad")
def _pad(emitter: Emitter, node: Node) -> None:
    pads = np.reshape(node.attributes["pads"], (2, -1)).T.tolist()
    number, shape = emitter.moved(node.inputs[0], node), emitter.shape(node.inputs[0])
    pad(emitter, number, shape, pads, node.attributes["value"], result=emitter.result(node))


def pad(
    emitter: Emitter,
    number: int,
    shape: Sequence[int],
    pads: Sequence[Sequence[int]],
    value: float = 0.0,
    *,
    node: Node | None = None,
    result: int | None = None,
) -> int:
    """The number of a tensor padded by ``[low, high]`` of each axis; itself if there are none.

    Args:
      number, shape: of the tensor, for one image.
      pads: of each axis.
      value: what it is padded with; what stands for 0 among codes.
      node: that reads it, if the result is one of its input's grid.
      result: number of the padded tensor; None makes one.
    """
    if result is None and not np.any(pads):
        return number
    grid = _grid_read(emitter, node)
    if result is None:
        sizes = [size + low + high for size, (low, high) in zip(shape, pads, strict=True)]
        result = emitter.temporary(sizes, grid)
    inputs = [number, emitter.model.constant("pads", np.array(pads, np.int32))]
    if value:
        inputs.append(_filling(emitter, value, grid))
    op, options = ("PADV2", "PadV2Options") if value else ("PAD", "PadOptions")
    emitter.model.operator(op, inputs, [result], options, emitter.version(op))
    return result


def _filling(emitter: Emitter, value: float, grid: Grid | None) -> int:
    """The number of a constant to pad with, in codes if a grid is given."""
    if grid is None:
        return emitter.constant("value", np.array(value))
    code = np.array(grid.code(value) - OFFSET, np.int8)
    return emitter.model.constant("value", code, stored(grid))


def _grid_read(emitter: Emitter, node: Node | None) -> Grid | None:
    if node is None or not emitter.integer:
        return None
    return emitter.grids[node.output if node.op == "MaxPool" else node.inputs[0]]


@emits("Concat")
def _concat(emitter: Emitter, node: Node) -> None:
    inputs = [emitter.moved(name, node) for name in node.inputs]
    axis = node.attributes["axis"]
    emitter.operator("CONCATENATION", inputs, node, "ConcatenationOptions", axis=axis)


@emits("Gather")
def _gather(emitter: Emitter, node: Node) -> None:
    indices = emitter.graph.constants[node.inputs[1]]
    inputs = [emitter.moved(node.inputs[0], node), emitter.sizes(indices.tolist())]
    emitter.operator("GATHER", inputs, node, "GatherOptions", axis=node.attributes["axis"])
