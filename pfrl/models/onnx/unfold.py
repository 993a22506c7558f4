"""Normalisations that an exporter has folded into the convolutions, put back.

Exporters fold batch normalisation into the convolution before it. The file computes the same, but
what is trained of it has lost its footing: pruned channels shift what all later layers read, and
nothing re-estimates a mean; at the learning rates of a normalised network its training diverges.
So every convolution that an activation, an addition, a pooling or another convolution follows gets
a normalisation again, with the statistics that the network itself has on training images, and with
the scale and bias that undo it: in evaluation mode the network is what it was.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from pfrl.cpu.backend import compiled
from pfrl.models.onnx.reader import Node, OnnxFile

EPSILON = 1e-5
FOLLOWERS = frozenset(
    "Relu LeakyRelu PRelu Elu Selu Clip HardSwish HardSigmoid Sigmoid Softplus Mish Mul Add Concat"
    " MaxPool AveragePool GlobalAveragePool ReduceMean Conv Resize Upsample".split()
)
"""What follows a convolution whose normalisation was folded."""
NORMALISATIONS = frozenset(
    "BatchNormalization InstanceNormalization LayerNormalization GroupNormalization".split()
)
POOLED = frozenset({"GlobalAveragePool", "GlobalMaxPool", "ReduceMean"})
"""Behind these there is one place in every image: too few for statistics of a batch."""

Watched = Callable[[dict[str, Any], Any], dict[str, Any]]
"""``watched(weights, x) -> statistics`` of one batch that every normalisation reads."""


def unfolded(file: OnnxFile) -> OnnxFile:
    """The file with a normalisation behind each convolution that has lost one, changing nothing.

    A file in which there is any normalisation is left as it is: it was exported with them, or
    never had those of batches.
    """
    if any(node.op in NORMALISATIONS for node in file.nodes):
        return file
    readers: dict[str, list[Node]] = {}
    for node in file.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    small = _of_one_place(file)
    arrays, nodes = dict(file.arrays), []
    for node in file.nodes:
        nodes.append(node)
        if node.op != "Conv" or node.outputs[0] in file.outputs or node.outputs[0] in small:
            continue
        after = readers.get(node.outputs[0], [])
        kernel, bias = arrays.get(node.inputs[1]), (*node.inputs[2:], "")[0]
        if kernel is None or kernel.dtype != np.float32 or (bias and bias not in arrays):
            continue
        if not after or any(each.op not in FOLLOWERS for each in after):
            continue
        nodes[-1:] = _normalised(node, kernel.shape[0], arrays, bias)
    return file._replace(nodes=tuple(nodes), arrays=arrays)


def _normalised(
    node: Node, channels: int, arrays: dict[str, np.ndarray], bias: str
) -> tuple[Node, Node]:
    """A convolution without a bias, and the normalisation that has it; adds its arrays."""
    place = node.name.rpartition("/")[0] or node.name
    stem = f"onnx::{node.outputs[0]}"
    values = {
        "scale": np.full(channels, np.sqrt(1 + EPSILON), np.float32),
        "bias": arrays[bias] if bias else np.zeros(channels, np.float32),
        "mean": np.zeros(channels, np.float32),
        "var": np.ones(channels, np.float32),
    }
    names = {role: f"{stem}.norm.{role}" for role in values}
    arrays.update({names[role]: np.array(value) for role, value in values.items()})
    raw = f"{node.outputs[0]}.raw"
    norm = Node(
        "BatchNormalization",
        f"{place}/norm/BatchNormalization",
        (raw, *names.values()),
        node.outputs,
        {"epsilon": EPSILON},
        node.proto,
    )
    return node._replace(inputs=node.inputs[:2], outputs=(raw,)), norm


def _of_one_place(file: OnnxFile) -> set[str]:
    """Values behind a global pooling, up to the next one that has places again."""
    found: set[str] = set()
    for node in file.nodes:
        behind = [name in found for name in node.inputs if name and name not in file.arrays]
        # What one place is multiplied with, as in squeeze-and-excite, has all places.
        if node.op in POOLED or (behind and all(behind)):
            found.update(node.outputs)
    return found


def settled(
    weights: dict[str, np.ndarray], watched: Watched, batches: Iterable[Any]
) -> dict[str, np.ndarray]:
    """The arrays of all normalisations at the statistics of their inputs, which changes nothing.

    Args:
      weights: by the names of a file that was ``unfolded``, of normalisations that do nothing.
      watched: see ``Watched``.
      batches: of training images, of one size.
    """
    watched, count = compiled(watched), 0
    means: dict[str, Any] = {}
    for x in batches:
        batch = watched(weights, jnp.asarray(x))
        # Variances of batches miss the variance between them.
        squares = {
            name: value + batch[_mean(name)] ** 2 if name.endswith(".var") else value
            for name, value in batch.items()
        }
        means = {name: means.get(name, 0.0) + np.asarray(v) for name, v in squares.items()}
        count += 1
    result: dict[str, np.ndarray] = {}
    for name in [name for name in means if name.endswith(".norm.var")]:
        stem = name.removesuffix("var")
        mean = means[_mean(name)] / count
        var = np.maximum(means[name] / count - mean**2, 0.0)
        scale = np.sqrt(var + EPSILON)
        change = {"mean": mean, "var": var, "scale": scale, "bias": weights[f"{stem}bias"] + mean}
        result.update({f"{stem}{role}": value.astype(np.float32) for role, value in change.items()})
    return result


def _mean(variance: str) -> str:
    return variance.removesuffix("var") + "mean"
