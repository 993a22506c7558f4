"""LiteRT's operators for convolutions, products and pools.

LiteRT pads by a word: VALID does not, SAME so that a stride of 1 keeps the size, with the odd
pixel at the end. All other paddings are an operator of their own before, which XNNPACK makes part
of the convolution again.
"""

import math
from collections.abc import Sequence

import numpy as np

from pfrl.deploy.litert.emit import Emitter, emits
from pfrl.deploy.litert.flatbuffer import Quantization as Stored
from pfrl.deploy.litert.movement import cut, pad
from pfrl.deploy.operators.graph import Node
from pfrl.deploy.operators.program import ExportError
from pfrl.deploy.operators.quantized import Grid

SAME, VALID = 0, 1
_LOWEST = float(np.finfo(np.float32).min)


@emits("Conv")
def _conv(emitter: Emitter, node: Node) -> None:
    kernel = emitter.graph.constants[node.inputs[1]]
    attributes, channels = node.attributes, emitter.shape(node.inputs[0])[-1]
    _check_sides(node, kernel.ndim - 2)
    group = attributes["group"]
    depthwise = group == channels and group > 1
    # [O, I, H, W] as LiteRT wants it: [1, H, W, O] for single channels, else [O, H, W, I].
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    number, word = padded(emitter, node)
    axis = order.index(0)
    weight = emitter.kernel(node, lambda array: array.transpose(order), axis)
    more = {"depthMultiplier": len(kernel) // group} if depthwise else {}
    emitter.operator(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [number, weight, emitter.bias(node)],
        node,
        "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions",
        activates=True,
        padding=word,
        strideH=attributes["strides"][0],
        strideW=attributes["strides"][1],
        dilationHFactor=attributes["dilations"][0],
        dilationWFactor=attributes["dilations"][1],
        **more,
    )


@emits("ConvTranspose")
def _conv_transpose(emitter: Emitter, node: Node) -> None:
    """Every pixel becomes a block of pixels: a convolution whose channels are then spread.

    With stride ``s``, in one dimension, the result's pixel ``q s + r`` is a sum over ``t`` of the
    pixels ``q - t`` times the kernel's taps ``r + s t``: a convolution for each ``r``, as in arXiv
    1609.05158.
    """
    kernel, attributes = emitter.graph.constants[node.inputs[1]], node.attributes
    _check_sides(node, kernel.ndim - 2)
    strides = attributes["strides"]
    if attributes["dilations"] != [1, 1] or attributes["group"] != 1:
        raise ExportError(
            "a transposed convolution with a dilation or groups has no counterpart for LiteRT;"
            " write the network without it, or export to ONNX"
        )
    blocks = [-(-size // stride) for size, stride in zip(kernel.shape[2:], strides, strict=True)]
    before, after = emitter.shape(node.inputs[0]), emitter.shape(node.output)
    low = attributes["pads"][:2]
    pads, sizes = [[0, 0]], []
    for axis, taps in enumerate(blocks):
        needed = -(-(low[axis] + after[1 + axis]) // strides[axis])
        pads.append([taps - 1, max(taps - 1, needed - before[1 + axis])])
        sizes.append(before[1 + axis] + sum(pads[-1]) - taps + 1)
    number = pad(emitter, emitter.activation(node.inputs[0]), before, [*pads, [0, 0]], node=node)
    times = math.prod(strides)
    weight = emitter.kernel(node, lambda array: _by_phase(array, strides, blocks), 0, times)
    grid = emitter.grids.get(node.output)
    spread = emitter.temporary((1, *sizes, times * after[-1]), grid)
    emitter.model.operator(
        "CONV_2D",
        [number, weight, emitter.bias(node, times)],
        [spread],
        "Conv2DOptions",
        emitter.version("CONV_2D"),
        padding=VALID,
        strideH=1,
        strideW=1,
        fusedActivationFunction=emitter.active(node),
    )
    whole = (1, *(size * stride for size, stride in zip(sizes, strides, strict=True)), after[-1])
    result = emitter.result(node, activates=True)
    pixels = result if whole == after else emitter.temporary(whole, grid)
    _spread(emitter, spread, (*sizes, after[-1]), strides, pixels, grid)
    if whole != after:
        ranges = {1 + axis: (low[axis], low[axis] + after[1 + axis], 1) for axis in range(2)}
        cut(emitter, pixels, whole, ranges, result)


def _spread(
    emitter: Emitter,
    number: int,
    shape: Sequence[int],
    strides: Sequence[int],
    result: int,
    grid: Grid | None,
) -> None:
    """Blocks of pixels ``[N, H, W, S T O]`` as pixels ``[N, S H, T W, O]``."""
    (high, wide, outputs), (down, right) = shape, strides
    if down == right:
        options = "DepthToSpaceOptions"
        emitter.model.operator("DEPTH_TO_SPACE", [number], [result], options, blockSize=down)
        return
    parts = (high, wide, down, right, outputs)
    apart = emitter.temporary((1, *parts), grid)
    emitter.model.operator("RESHAPE", [number, emitter.sizes((-1, *parts))], [apart])
    order = (0, 1, 3, 2, 4, 5)
    moved = emitter.temporary((1, high, down, wide, right, outputs), grid)
    emitter.model.operator("TRANSPOSE", [apart, emitter.axes(order)], [moved])
    sizes = (-1, high * down, wide * right, outputs)
    emitter.model.operator("RESHAPE", [moved, emitter.sizes(sizes)], [result])


def _by_phase(kernel: np.ndarray, strides: Sequence[int], blocks: Sequence[int]) -> np.ndarray:
    """A kernel ``[I, O, H, W]`` as ``[S T O, H', W', I]``, its taps in reverse."""
    inputs, outputs, *taps = kernel.shape
    (high, wide), (down, right) = blocks, strides
    larger = np.zeros((inputs, outputs, high * down, wide * right))
    larger[:, :, : taps[0], : taps[1]] = kernel
    parts = larger.reshape(inputs, outputs, high, down, wide, right)
    phases = parts[:, :, ::-1, :, ::-1].transpose(3, 5, 1, 2, 4, 0)
    return phases.reshape(down * right * outputs, high, wide, inputs)


@emits("Gemm", "MatMul")
def _product(emitter: Emitter, node: Node) -> None:
    kernel = emitter.graph.constants.get(node.inputs[1])
    if kernel is None or kernel.ndim != 2 or node.inputs[0] in emitter.graph.constants:
        inputs = [emitter.activation(name) for name in node.inputs]
        return emitter.operator("BATCH_MATMUL", inputs, node, "BatchMatMulOptions")
    weight = emitter.kernel(node, lambda array: array.T, 0)
    return emitter.operator(
        "FULLY_CONNECTED",
        [emitter.activation(node.inputs[0]), weight, emitter.bias(node)],
        node,
        "FullyConnectedOptions",
        activates=True,
        keepNumDims=len(emitter.shape(node.output)) != 2,
    )


@emits("MaxPool", "AveragePool")
def _pool(emitter: Emitter, node: Node) -> None:
    attributes = node.attributes
    _check_sides(node, len(attributes["kernel_shape"]))
    mean = node.op == "AveragePool"
    if mean and emitter.integer:
        return _mean_of_codes(emitter, node)
    # What pads a mean counts; what pads a maximum is below everything.
    positive = not mean and _not_negative(emitter, node.inputs[0])
    number, word = padded(emitter, node, 0.0 if mean or positive else _LOWEST, same=not mean)
    emitter.operator(
        "AVERAGE_POOL_2D" if mean else "MAX_POOL_2D",
        [number],
        node,
        "Pool2DOptions",
        activates=True,
        padding=word,
        strideH=attributes["strides"][0],
        strideW=attributes["strides"][1],
        filterHeight=attributes["kernel_shape"][0],
        filterWidth=attributes["kernel_shape"][1],
    )


def _mean_of_codes(emitter: Emitter, node: Node) -> None:
    """A depthwise convolution with ones: LiteRT's own pool does not change the grid."""
    attributes, channels = node.attributes, emitter.shape(node.inputs[0])[-1]
    taps = attributes["kernel_shape"]
    share, grid = 1 / math.prod(taps), emitter.grids[node.inputs[0]]
    number, word = padded(emitter, node)
    ones = np.ones((1, *taps, channels), np.int8)
    stored = Stored([share] * channels, [0] * channels, 3)
    weight = emitter.model.constant(f"{node.output}.weight", ones, stored)
    stored = Stored([share * grid.scale] * channels, [0] * channels, 0)
    zeros = emitter.model.constant(f"{node.output}.bias", np.zeros(channels, np.int32), stored)
    emitter.operator(
        "DEPTHWISE_CONV_2D",
        [number, weight, zeros],
        node,
        "DepthwiseConv2DOptions",
        activates=True,
        depthMultiplier=1,
        padding=word,
        strideH=attributes["strides"][0],
        strideW=attributes["strides"][1],
        dilationHFactor=1,
        dilationWFactor=1,
    )


def _not_negative(emitter: Emitter, name: str) -> bool:
    if emitter.integer:
        # Zero is the least code, or larger: the codes that pad are above none but negative ones.
        return emitter.grids[name].zero_point <= emitter.grids[name].low
    maker = next((node for node in emitter.graph.nodes if node.output == name), None)
    if maker is None:
        return False
    return maker.op == "Relu" or maker.attributes.get("activation") in ("RELU", "RELU6")


def padded(emitter: Emitter, node: Node, value: float = 0.0, same: bool = True) -> tuple[int, int]:
    """The input of a convolution or a pool, and LiteRT's word for the padding left to do."""
    attributes, moves = node.attributes, node.op == "MaxPool"
    read = emitter.moved if moves else lambda name, node: emitter.activation(name)
    number = read(node.inputs[0], node)
    sides = np.reshape(attributes["pads"], (2, -1)).T
    if not sides.any():
        return number, VALID
    shape = emitter.shape(node.inputs[0])
    taps = _reach(attributes)
    if same and sides.tolist() == _same(shape[1:-1], taps, attributes["strides"]):
        return number, SAME
    pads = [[0, 0], *sides.tolist(), [0, 0]]
    return pad(emitter, number, shape, pads, value, node=node), VALID


def _reach(attributes: dict) -> list[int]:
    """How many pixels a kernel spans."""
    dilations = attributes.get("dilations") or [1] * len(attributes["kernel_shape"])
    return [
        (size - 1) * dilation + 1
        for size, dilation in zip(attributes["kernel_shape"], dilations, strict=True)
    ]


def _same(sizes: Sequence[int], taps: Sequence[int], strides: Sequence[int]) -> list[list[int]]:
    """``[low, high]`` of each axis by which LiteRT pads for SAME."""
    found = []
    for size, reach, stride in zip(sizes, taps, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        found.append([total // 2, total - total // 2])
    return found


def _check_sides(node: Node, spatial: int) -> None:
    if spatial != 2:
        raise ExportError(
            f"LiteRT has {node.op} for images only, this one has {spatial} axes; reshape to"
            " height and width, with a height of 1"
        )
