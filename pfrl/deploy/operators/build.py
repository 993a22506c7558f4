"""From a JAX function to its graph of fused operations."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from pfrl.deploy.operators import contract, layout  # noqa: F401  (they register their lowerings)
from pfrl.deploy.operators.fuse import fuse
from pfrl.deploy.operators.graph import Channels, OperatorGraph, Tensor
from pfrl.deploy.operators.ops import Value, lower
from pfrl.deploy.operators.program import Computed, Operations, operations_of


def build(
    function: Callable[[jax.Array], Any],
    input_shape: Sequence[int],
    channels: Channels = "first",
) -> OperatorGraph:
    """The operations of ``function``, as few as a graph written by hand would have.

    Normalisations and biases are inside the convolutions, an activation is one Relu or Clip, a
    mean over all places is GlobalAveragePool.

    Args:
      function: ``function(images) -> outputs`` with its parameters closed over, in evaluation
        mode; ``images`` is float32 ``[N, *input_shape]``.
      input_shape: shape of one image, ``(H, W, C)``.
      channels: what convolutions and pools read and write: ``[N, C, ...]`` with 'first',
        ``[N, ..., C]`` with 'last'.

    Raises:
      ExportError: if an operation of the function has no counterpart here.
    """
    return build_from(operations_of(function, input_shape), channels)


def build_from(operations: Operations, channels: Channels = "first") -> OperatorGraph:
    """``build`` of operations that were found before."""
    graph = OperatorGraph(channels)
    shape = operations.input.shape
    images = Tensor("images", shape, tuple(range(len(shape))))
    graph.source = images.name
    graph.shapes[images.name] = shape
    graph.values[images.name] = operations.input.index
    values: dict[int, Value] = {
        operations.input.index: graph.relay(images, _first_layout(graph, operations))
    }
    for operation in operations.steps:
        inputs = [
            values[value.index] if isinstance(value, Computed) else value
            for value in operation.inputs
        ]
        results = lower(graph, operation, inputs)
        for computed, result in zip(operation.outputs, results, strict=True):
            values[computed.index] = result
            if isinstance(result, Tensor):
                # A tensor that several values share, being renamed or cast, is the first of them.
                graph.values.setdefault(result.name, computed.index)
    for each in operations.outputs:
        output = values[each.index]
        assert isinstance(output, Tensor)  # a constant result is refused when tracing
        name = graph.relay(output, range(len(output.shape))).name
        if name == graph.source or name in graph.outputs:
            name = graph.node("Identity", [name], output.shape)
        graph.outputs.append(name)
    if len({*operations.names, "images"}) == len(graph.outputs) + 1:
        graph.names = list(operations.names)
    return fuse(graph)


def _first_layout(graph: OperatorGraph, operations: Operations) -> Sequence[int]:
    """What the first convolution wants: moved before all else, the images are moved only once."""
    rank = len(operations.input.shape)
    turned = {operations.input.index: tuple(range(rank))}
    for operation in operations.steps:
        image = operation.inputs[0]
        axes = turned.get(image.index) if isinstance(image, Computed) else None
        if operation.primitive == "transpose" and axes is not None:
            order = operation.params["permutation"]
            turned[operation.outputs[0].index] = tuple(axes[place] for place in order)
        if operation.primitive == "conv_general_dilated" and len(image.shape) == rank:
            batch, channel, *space = operation.params["dimension_numbers"].lhs_spec
            wanted = graph.ordered(batch, channel, space)
            return wanted if axes is None else [axes[place] for place in wanted]
    return range(rank)
