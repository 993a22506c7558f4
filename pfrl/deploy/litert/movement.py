"""LiteRT's operators for what moves values about: reshape, transpose, slice, pad, join, look up."""

from collections.abc import Mapping, Sequence

import numpy as np

from pfrl.deploy.litert.emit import Emitter, any_images, emits
from pfrl.deploy.operators.graph import Node


@emits("Reshape", "Identity")
def _reshape(emitter: Emitter, node: Node) -> None:
    sizes = any_images(emitter.graph.shapes[node.output])
    inputs = [emitter.activation(node.inputs[0]), emitter.integers(sizes)]
    emitter.operator("RESHAPE", inputs, node, "ReshapeOptions", newShape=sizes)


@emits("Transpose")
def _transpose(emitter: Emitter, node: Node) -> None:
    inputs = [emitter.activation(node.inputs[0]), emitter.integers(node.attributes["perm"])]
    emitter.operator("TRANSPOSE", inputs, node, "TransposeOptions")


@emits("Expand")
def _expand(emitter: Emitter, node: Node) -> None:
    """Repeats along axes of size 1; how often does not depend on the number of images."""
    before, after = emitter.shape(node.inputs[0]), emitter.shape(node.output)
    before = (1,) * (len(after) - len(before)) + before
    number = emitter.activation(node.inputs[0])
    if len(before) != len(emitter.shape(node.inputs[0])):
        longer = emitter.temporary(before)
        emitter.model.operator(
            "RESHAPE", [number, emitter.integers(before)], [longer], "ReshapeOptions"
        )
        number = longer
    times = [size // old for size, old in zip(after, before, strict=True)]
    emitter.operator("TILE", [number, emitter.integers(times)], node, "TileOptions")


@emits("Slice")
def _slice(emitter: Emitter, node: Node) -> None:
    keys = ("axes", "starts", "ends", "steps")
    ranges = {
        axis: (start, end, step)
        for axis, start, end, step in zip(*(node.attributes[key] for key in keys), strict=True)
    }
    number, shape = emitter.activation(node.inputs[0]), emitter.shape(node.inputs[0])
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
    inputs = [number, *(emitter.integers(each) for each in zip(*places, strict=True))]
    options = {"beginMask": whole, "endMask": whole}
    emitter.model.operator("STRIDED_SLICE", inputs, [result], "StridedSliceOptions", **options)


@emits("Pad")
def _pad(emitter: Emitter, node: Node) -> None:
    pads = np.reshape(node.attributes["pads"], (2, -1)).T.tolist()
    number, shape = emitter.activation(node.inputs[0]), emitter.shape(node.inputs[0])
    pad(emitter, number, shape, pads, node.attributes["value"], emitter.result(node))


def pad(
    emitter: Emitter,
    number: int,
    shape: Sequence[int],
    pads: Sequence[Sequence[int]],
    value: float = 0.0,
    result: int | None = None,
) -> int:
    """The number of a tensor padded by ``[low, high]`` of each axis; itself if there are none.

    Args:
      number, shape: of the tensor, for one image.
      pads: of each axis.
      value: what it is padded with.
      result: number of the padded tensor; None makes one.
    """
    if result is None and not np.any(pads):
        return number
    if result is None:
        sizes = zip(shape, pads, strict=True)
        result = emitter.temporary([size + low + high for size, (low, high) in sizes])
    inputs = [number, emitter.model.constant("pads", np.array(pads, np.int32))]
    if value:
        inputs.append(emitter.constant("value", np.array(value)))
    op, options = ("PADV2", "PadV2Options") if value else ("PAD", "PadOptions")
    emitter.model.operator(op, inputs, [result], options)
    return result


@emits("Concat")
def _concat(emitter: Emitter, node: Node) -> None:
    inputs = [emitter.activation(name) for name in node.inputs]
    axis = node.attributes["axis"]
    emitter.operator("CONCATENATION", inputs, node, "ConcatenationOptions", axis=axis)


@emits("Gather")
def _gather(emitter: Emitter, node: Node) -> None:
    indices = emitter.graph.constants[node.inputs[1]]
    inputs = [emitter.activation(node.inputs[0]), emitter.integers(indices.tolist())]
    emitter.operator("GATHER", inputs, node, "GatherOptions", axis=node.attributes["axis"])
