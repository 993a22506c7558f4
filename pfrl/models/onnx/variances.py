"""How variances of normalisations over channels are computed.

As the mean of squares less the square of the mean, as Flax does: channels that are removed are
zeros in both, and would not be zeros less their mean. A file may spell a normalisation out by
differences, for its operator is as young as opset 17. Around a large mean squares lose the digits
of a small variance; such a network keeps its differences, and its channels.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pfrl.models.onnx.reader import Node, OnnxFile


def with_variances(file: OnnxFile) -> list[Node]:
    """The file's nodes, with ``Variance`` of ``x`` in place of ``mean((x - mean(x))**2)``."""
    made = {name: node for node in file.nodes for name in node.outputs}
    return [_variance(node, made, file.arrays) or node for node in file.nodes]


def by_differences(file: OnnxFile) -> list[Node]:
    """The file's nodes, normalisations marked to be computed by differences from the mean."""
    return [each._replace(attributes={**each.attributes, DIFFERENCES: 1}) for each in file.nodes]


DIFFERENCES = "by_differences"
"""The mark, an attribute."""


def _variance(
    mean: Node, made: Mapping[str, Node], arrays: Mapping[str, np.ndarray]
) -> Node | None:
    """What a mean is, if its values are squares of differences from the mean over the same axes."""
    square = made.get(mean.inputs[0]) if mean.op == "ReduceMean" else None
    difference = made.get(_squared(square, arrays)) if square else None
    if difference is None or difference.op != "Sub":
        return None
    x, subtracted = difference.inputs
    own = made.get(subtracted)
    if own is None or own.op != "ReduceMean" or own.inputs[0] != x or x in arrays:
        return None
    if not own.attributes.get("keepdims", 1) or _axes(own, arrays) != _axes(mean, arrays):
        return None
    return mean._replace(op="Variance", inputs=(x, *mean.inputs[1:]))


def _squared(node: Node, arrays: Mapping[str, np.ndarray]) -> str:
    """The value that a node squares; an empty name if it does not."""
    first, *rest = node.inputs
    if node.op == "Mul" and rest == [first]:
        return first
    power = arrays.get(rest[0]) if node.op == "Pow" and rest else None
    return first if power is not None and power.size == 1 and float(power.ravel()[0]) == 2 else ""


def _axes(node: Node, arrays: Mapping[str, np.ndarray]) -> Sequence[int] | str | None:
    """Of a mean: numbers where they are known, else the name of what says them."""
    if len(node.inputs) < 2 or not node.inputs[1]:
        return node.attributes.get("axes")
    known = arrays.get(node.inputs[1])
    return node.inputs[1] if known is None else known.ravel().tolist()
