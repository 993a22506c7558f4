"""Layers: the operations of a labelled program that have a kernel, and products of activations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pfrl.graph.count import Count, count_axis, product
from pfrl.graph.groups import unique
from pfrl.graph.labelled.atoms import Label
from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.labelled.program import Equation


@dataclass(frozen=True)
class Layer:
    """An operation with a kernel.

    Attributes:
      name: the kernel's path without its last part.
      kind: 'conv', 'depthwise', 'grouped' or 'dense'.
      kernel: the kernel's name among the variables.
      kernel_shape: as in the model (HWIO and IO in Flax).
      input_shape, output_shape: without the batch axis.
      taps: kernel places that one output channel reads in one input channel.
      positions: outputs of one channel for one example (of a transposed
        convolution its inputs, which is what it multiplies).
      c_in, c_out: input channels that one output reads, and output channels.
      places: the positions as they depend on channels (mixing over tokens).
      strides, padding: of a convolution, else empty.
      groups: of a grouped convolution, else 1.
      decides: the groups whose first layer this is.
      macs, params: multiply-accumulates for one example; elements of the kernel.
    """

    name: str
    kind: str
    kernel: str
    kernel_shape: tuple[int, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    taps: tuple[int, ...]
    positions: int
    c_in: Count
    c_out: Count
    places: Count
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int
    decides: tuple[str, ...]
    macs: int
    params: int

    @property
    def macs_count(self) -> Count:
        """Multiply-accumulates of one example."""
        return product((Count(math.prod(self.taps)), self.places, self.c_in, self.c_out))

    def macs_at(self, counts: Mapping[str, int]) -> int:
        """Multiply-accumulates of one example with so many channels of every group."""
        return self.places.at(counts) * self.kernel_elements_at(counts)

    def kernel_elements_at(self, counts: Mapping[str, int]) -> int:
        return math.prod(self.taps) * self.c_in.at(counts) * self.c_out.at(counts)


class Lengths(NamedTuple):
    """What it takes to express axis lengths in channel counts.

    Attributes:
      labelled: the program.
      group_of: by atom, the place of its group among ``sizes``, or -1.
      sizes: channels of every group.
      batch: examples of the traced input.
    """

    labelled: Labelled
    group_of: np.ndarray
    sizes: Mapping[str, int]
    batch: int

    def of(self, label: Label, size: int) -> Count:
        return count_axis(self.labelled.atoms, label, size, self.group_of, self.sizes)

    def per_example(self, count: Count) -> Count:
        """A count of all examples as a count of one; rounded up, if it is of none in particular."""
        share = [(-(-places // self.batch), groups) for places, groups in count.terms]
        return Count(-(-count.fixed // self.batch), tuple(share))


def find_layers(labelled: Labelled, names: Sequence[str]) -> dict[int, str]:
    """Layer names by equation number, in order of execution; a kernel used twice gets '#2'."""
    found: dict[int, str] = {}
    for number in labelled.kernels:
        name = kernel_name(labelled, names, number)
        base = name.rsplit(".", 1)[0] if "." in name else name
        found[number] = unique(base, list(found.values()))
    return found


def kernel_name(labelled: Labelled, names: Sequence[str], number: int) -> str:
    """The variable that a layer's kernel is, or is made of."""
    operand = labelled.program.equations[number].inputs[labelled.kernels[number]]
    assert isinstance(operand, int)
    return names[labelled.origins[operand]]


def made_labels(labelled: Labelled, number: int) -> list[Label]:
    """Labels of the axes of a kernel along which its outputs lie."""
    equation = labelled.program.equations[number]
    place = labelled.kernels[number]
    labels = labelled.of(equation.inputs[place])
    if equation.name == "conv_general_dilated":
        return [labels[equation.params["dimension_numbers"].rhs_spec[0]]]
    batch = equation.params["dimension_numbers"][1][place]
    return [labels[axis] for axis in (*batch, *_dense_axes(equation, place)[1])]


def describe_layer(lengths: Lengths, number: int, name: str, variable: str) -> Layer:
    """The ``Layer`` of an equation that has a kernel."""
    labelled = lengths.labelled
    equation, place = labelled.program.equations[number], labelled.kernels[number]
    activation, kernel = equation.shapes[0][1 - place], equation.shapes[0][place]
    conv = equation.name == "conv_general_dilated"
    describe = _conv if conv else _dense
    c_in, c_out, places, taps = describe(lengths, equation, place)
    groups = equation.params["feature_group_count"] if conv else 1
    into = kernel[equation.params["dimension_numbers"].rhs_spec[1]] if conv else 0
    kind = "dense" if not conv else "conv" if groups == 1 else "grouped"
    places = lengths.per_example(places)
    elements = int(np.prod(taps, dtype=int)) * c_in.at(lengths.sizes) * c_out.at(lengths.sizes)
    positions = places.at(lengths.sizes)
    return Layer(
        name=name,
        kind="depthwise" if kind == "grouped" and into == 1 else kind,
        kernel=variable,
        kernel_shape=tuple(kernel),
        input_shape=tuple(activation[1:]),
        output_shape=tuple(equation.shapes[1][0][1:]),
        taps=taps,
        positions=positions,
        c_in=c_in,
        c_out=c_out,
        places=places,
        strides=tuple(equation.params["window_strides"]) if conv else (),
        padding=tuple(map(tuple, equation.params["padding"])) if conv else (),
        groups=groups,
        decides=(),
        macs=positions * elements,
        params=int(np.prod(kernel, dtype=int)),
    )


def _conv(
    lengths: Lengths, equation: Equation, place: int
) -> tuple[Count, Count, Count, tuple[int, ...]]:
    """Input and output channels, positions of all examples, taps."""
    numbers = equation.params["dimension_numbers"]
    out, into, *space = numbers.rhs_spec
    kernel, labels = equation.shapes[0][1], lengths.labelled.of(equation.inputs[1])
    c_in = lengths.of(labels[into], kernel[into])
    c_out = lengths.of(labels[out], kernel[out])
    # Of the zeros that a transposed convolution puts between its inputs nothing is multiplied.
    transposed = any(factor > 1 for factor in equation.params["lhs_dilation"])
    shape = equation.shapes[0][0] if transposed else equation.shapes[1][0]
    spec = numbers.lhs_spec if transposed else numbers.out_spec
    batch, _, *pixels = spec
    places = Count(int(np.prod([shape[batch], *(shape[a] for a in pixels)], dtype=int)))
    return c_in, c_out, places, tuple(kernel[axis] for axis in space)


def _dense(
    lengths: Lengths, equation: Equation, place: int
) -> tuple[Count, Count, Count, tuple[int, ...]]:
    contract, batch = equation.params["dimension_numbers"]
    labelled = lengths.labelled
    summed, free = _dense_axes(equation, place)
    kernel, labels = equation.shapes[0][place], labelled.of(equation.inputs[place])
    c_in = product(lengths.of(labels[a], kernel[a]) for a in summed)
    # A kernel with a batch axis is as many kernels, each with outputs of its own.
    own = [*free, *batch[place]]
    c_out = product(lengths.of(labels[a], kernel[a]) for a in own)
    other = 1 - place
    shape, labels = equation.shapes[0][other], labelled.of(equation.inputs[other])
    left = [a for a in range(len(shape)) if a not in contract[other] and a not in batch[other]]
    return c_in, c_out, product(lengths.of(labels[a], shape[a]) for a in left), ()


def _dense_axes(equation: Equation, place: int) -> tuple[list[int], list[int]]:
    """``(summed, free)`` axes of the kernel of a dot product."""
    contract, batch = equation.params["dimension_numbers"]
    summed = list(contract[place])
    rank = len(equation.shapes[0][place])
    return summed, [a for a in range(rank) if a not in summed and a not in batch[place]]


def describe_product(lengths: Lengths, number: int) -> Count:
    """Multiply-accumulates of one example in a product of two activations."""
    labelled = lengths.labelled
    equation = labelled.program.equations[number]
    labels, shape = labelled.of(equation.outputs[0]), equation.shapes[1][0]
    made = product(lengths.of(label, size) for label, size in zip(labels, shape, strict=True))
    labels, shape = labelled.of(equation.inputs[0]), equation.shapes[0][0]
    if equation.name == "dot_general":
        summed = equation.params["dimension_numbers"][0][0]
        reads = product(lengths.of(labels[a], shape[a]) for a in summed)
    else:
        kernel = equation.shapes[0][1]
        out = equation.params["dimension_numbers"].rhs_spec[0]
        reads = Count(int(np.prod(kernel, dtype=int)) // kernel[out])
    return lengths.per_example(made * reads)
