"""Biases that lie on the grids of files, so that what JAX simulates is what a file computes.

A layer of integers adds a bias in int32, in steps of its input's and its kernel's. The simulation
adds whatever array the program has behind the layer (a bias, or the mean or the bias of a
normalisation), unrounded: few sums fall to another side for that, but a network of twenty layers
multiplies them. So these arrays are moved, once the network is trained, to where the bias that is
folded of them is a whole number of steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pfrl.compression.sliced import Compressed
from pfrl.deploy.operators.graph import OperatorGraph
from pfrl.deploy.operators.quantized import (
    OUTPUT_AXIS,
    Quantization,
    build_quantized,
    is_integer,
    settle,
)
from pfrl.graph.addends import find_addends
from pfrl.graph.layers import find_layers

NUDGE = 2.0**-6
"""By which an array is changed to see what a bias does of it: a power of two, which adds no digits
of its own."""


class _Bias(NamedTuple):
    """Of a layer of integers: its folded bias ``[O]``, and the step of what it is added to."""

    value: np.ndarray
    step: np.ndarray


def with_rounded_biases(small: Compressed, input_shape: Sequence[int]) -> Compressed:
    """The same network, each layer of integers with a bias that its file has exactly.

    A bias that no single array of its own makes is left as it is. Of a network without layers of
    integers nothing is changed.

    Args:
      small: a compressed network after its training.
      input_shape: of one image, ``(H, W, C)``.
    """
    if not small.quantized:
        return small
    behind = _arrays(small)
    before = dict(_biases(*build_quantized(small, input_shape)))
    found = {layer: name for layer, name in behind.items() if layer in before}
    own = {name: np.asarray(small.variables[name]) for name in found.values()}
    nudged = {name: value + np.asarray(NUDGE, value.dtype) for name, value in own.items()}
    after = dict(_biases(*build_quantized(_with(small, nudged), input_shape)))
    moved = {}
    for layer, name in found.items():
        (value, step), array = before[layer], own[name]
        if layer not in after or array.size != value.size:
            continue
        slope = (after[layer].value - value) / NUDGE
        rest = np.rint(value / step) * step - value
        change = np.divide(rest, slope, out=np.zeros_like(rest), where=np.abs(slope) > 0)
        moved[name] = (array + change.reshape(array.shape)).astype(array.dtype)
    return _with(small, moved)


def _with(small: Compressed, arrays: dict[str, np.ndarray]) -> Compressed:
    return replace(small, variables={**small.variables, **arrays})


def _arrays(small: Compressed) -> dict[str, str]:
    """By layer the array that is added behind it and behind no other."""
    labelled, names = small.graph.evaluation(), sorted(small.graph.source.variables)
    layers, addends = find_layers(labelled, names), find_addends(labelled, names)
    found = [(layers[number], addend.variable) for number, addend in addends.items()]
    variables = [name for _, name in found]
    return {layer: name for layer, name in found if variables.count(name) == 1}


def _biases(graph: OperatorGraph, quantization: Quantization) -> Iterator[tuple[str, _Bias]]:
    """The biases of layers of integers, as files round them."""
    graph = graph.copy()
    grids = settle(graph, quantization)
    for node in graph.nodes:
        if node.layer is None or node.op not in OUTPUT_AXIS or len(node.inputs) < 3:
            continue
        if is_integer(graph, node, grids, quantization):
            steps = quantization.steps[node.inputs[1]].astype(np.float32)
            step = np.float32(grids[node.inputs[0]].scale) * steps
            yield node.layer, _Bias(graph.constants[node.inputs[2]], step.astype(np.float64))
