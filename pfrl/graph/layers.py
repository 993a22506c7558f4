"""What a graph is made of: layers, channel groups and axis lengths, read off a labelled program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from pfrl.graph.atoms import Label
from pfrl.graph.labels import Labelled, Labels
from pfrl.graph.program import Equation


class Member(NamedTuple):
    """Where a group's channels are: ``indices[u]`` are channel ``u``'s places on that axis."""

    parameter: str
    axis: int
    indices: np.ndarray
    """int ``[channels, places a channel]``"""


@dataclass(frozen=True)
class Group:
    """Channels that each can be removed, alike in what goes with them.

    Attributes:
      name: the first layer that produces them.
      size: number of channels.
      members: every slice of every array that goes with a channel.
      producers: layers whose outputs the channels are, in order.
      consumers: layers that read them.
    """

    name: str
    size: int
    members: tuple[Member, ...] = field(repr=False)
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


class Count(NamedTuple):
    """The length of an axis: a fixed part and so many places for every channel of some groups."""

    fixed: int
    groups: tuple[tuple[str, int], ...]

    def at(self, counts: Mapping[str, int]) -> int:
        return self.fixed + sum(places * counts[group] for group, places in self.groups)


@dataclass(frozen=True)
class Layer:
    """An operation with a kernel.

    Attributes:
      name: the kernel's path without its last part.
      kind: 'conv', 'depthwise' or 'dense'.
      kernel: the kernel's name among the variables.
      kernel_shape: as in the model (HWIO and IO in Flax).
      input_shape, output_shape: without the batch axis.
      taps: kernel places that one output channel reads in one input channel.
      positions: outputs of one channel for one example.
      c_in, c_out: input channels that one output reads, and output channels.
      strides, padding: of a convolution, else empty.
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
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    decides: tuple[str, ...]
    macs: int
    params: int

    def macs_at(self, counts: Mapping[str, int]) -> int:
        """Multiply-accumulates of one example with so many channels of every group."""
        return self.positions * self.kernel_elements_at(counts)

    def kernel_elements_at(self, counts: Mapping[str, int]) -> int:
        channels = 1 if self.kind == "depthwise" else self.c_in.at(counts)
        return int(np.prod(self.taps, dtype=int)) * channels * self.c_out.at(counts)


def find_layers(labelled: Labelled, names: Sequence[str]) -> dict[int, str]:
    """Layer names by equation number, in order of execution; a kernel used twice gets '#2'."""
    found: dict[int, str] = {}
    for number in labelled.kernels:
        base = kernel_name(labelled, names, number).rsplit(".", 1)[0]
        found[number] = unique(base, list(found.values()))
    return found


def unique(name: str, taken: Sequence[str]) -> str:
    """``name``, or ``name#2``, ``name#3``, ... if it is taken."""
    candidate, repeat = name, 1
    while candidate in taken:
        repeat += 1
        candidate = f"{name}#{repeat}"
    return candidate


def kernel_name(labelled: Labelled, names: Sequence[str], number: int) -> str:
    """The variable that a layer's kernel is, seen through casts."""
    value = labelled.kernels[number]
    while value >= len(names):
        equation = next(e for e in labelled.program.equations if value in e.outputs)
        value = next(operand for operand in equation.inputs if isinstance(operand, int))
    return names[value]


def find_groups(
    labelled: Labelled, layers: Mapping[int, str], variables: Mapping[str, Labels]
) -> dict[str, tuple[np.ndarray, tuple[Member, ...]]]:
    """Removable channels by group: ``{group: (root atoms [channels], members)}``.

    A channel is a class of atoms that is not frozen and that a layer produces.
    Channels with the same places on the same axes form a group, named after
    the first layer that produces it.
    """
    atoms = labelled.atoms
    places: dict[int, dict[tuple[str, int], list[int]]] = {}
    for name, labels in variables.items():
        for axis, label in enumerate(labels):
            assert label is not None
            for index, root in enumerate(atoms.roots(label)):
                if not atoms.is_frozen(int(root)):
                    places.setdefault(int(root), {}).setdefault((name, axis), []).append(index)
    groups: dict[str, list[int]] = {}
    by_signature: dict[tuple, str] = {}
    for number, layer in layers.items():
        label = _operand_labels(labelled, number)[1]
        for root in [] if label is None else atoms.roots(label):
            if int(root) not in places:
                continue
            signature = tuple(sorted((*k, len(v)) for k, v in places[int(root)].items()))
            if signature not in by_signature:
                by_signature[signature] = unique(layer, list(groups))
                groups[by_signature[signature]] = []
            if int(root) not in groups[by_signature[signature]]:
                groups[by_signature[signature]].append(int(root))
    return {
        name: (
            np.asarray(roots),
            tuple(
                Member(variable, axis, np.asarray([places[root][variable, axis] for root in roots]))
                for variable, axis in sorted(places[roots[0]])
            ),
        )
        for name, roots in groups.items()
    }


def count_axis(
    labelled: Labelled, label: Label, size: int, groups: Mapping[str, np.ndarray]
) -> Count:
    """An axis length as a function of the channels that every group keeps."""
    if label is None:
        return Count(size, ())
    roots = labelled.atoms.roots(label)
    parts = [(name, int(np.isin(roots, atoms).sum())) for name, atoms in groups.items()]
    removable = tuple((name, n // len(groups[name])) for name, n in parts if n)
    return Count(size - sum(n for _, n in parts), removable)


def describe_layer(
    labelled: Labelled, number: int, name: str, variable: str, groups: Mapping[str, np.ndarray]
) -> Layer:
    """The ``Layer`` of an equation that has a kernel."""
    equation = labelled.program.equations[number]
    activation, kernel = _shapes(labelled, number)
    output = equation.shapes[1][0]
    inner, outer = _operand_labels(labelled, number)
    elements = int(np.prod(kernel, dtype=int))
    if equation.name == "conv_general_dilated":
        numbers = equation.params["dimension_numbers"]
        out, into, *space = numbers.rhs_spec
        kind = "depthwise" if equation.params["feature_group_count"] > 1 else "conv"
        taps = tuple(kernel[axis] for axis in space)
        c_in = count_axis(labelled, inner, kernel[into], groups)
        c_out = count_axis(labelled, outer, kernel[out], groups)
        strides = tuple(equation.params["window_strides"])
        padding = tuple(map(tuple, equation.params["padding"]))
    else:
        kind, taps, strides, padding = "dense", (), (), ()
        summed, free = dense_axes(equation, kernel_place(labelled, number))
        c_in = count_axis(labelled, inner, int(np.prod([kernel[a] for a in summed])), groups)
        c_out = count_axis(labelled, outer, int(np.prod([kernel[a] for a in free])), groups)
    full = {group: len(atoms) for group, atoms in groups.items()}
    per_example = int(np.prod(output[1:], dtype=int))
    layer = Layer(
        name=name,
        kind=kind,
        kernel=variable,
        kernel_shape=tuple(kernel),
        input_shape=tuple(activation[1:]),
        output_shape=tuple(output[1:]),
        taps=taps,
        positions=per_example // c_out.at(full),
        c_in=c_in,
        c_out=c_out,
        strides=strides,
        padding=padding,
        decides=(),
        macs=0,
        params=elements,
    )
    # Groups are named after the layer that produces them first.
    decides = tuple(g for g, _ in c_out.groups if g.split("#")[0] == name)
    return replace(layer, decides=decides, macs=layer.macs_at(full))


def kernel_place(labelled: Labelled, number: int) -> int:
    """Which operand of a layer's equation is the kernel."""
    return labelled.program.equations[number].inputs.index(labelled.kernels[number])


def dense_axes(equation: Equation, place: int) -> tuple[list[int], list[int]]:
    """``(summed, free)`` axes of the kernel of a dot product."""
    contract, batch = equation.params["dimension_numbers"]
    summed = list(contract[place])
    rank = len(equation.shapes[0][place])
    return summed, [a for a in range(rank) if a not in summed and a not in batch[place]]


def _shapes(labelled: Labelled, number: int) -> tuple[tuple, tuple]:
    shapes = labelled.program.equations[number].shapes[0]
    place = kernel_place(labelled, number)
    return shapes[1 - place], shapes[place]


def _operand_labels(labelled: Labelled, number: int) -> tuple[Label, Label]:
    """Labels of a kernel's input and output channel axes; None where there are several of them."""
    equation = labelled.program.equations[number]
    place = kernel_place(labelled, number)
    labels = labelled.of(equation.inputs[place])
    if equation.name == "conv_general_dilated":
        out, into, *_ = equation.params["dimension_numbers"].rhs_spec
        return labels[into], labels[out]
    summed, free = dense_axes(equation, place)
    return (
        labels[summed[0]] if len(summed) == 1 else None,
        labels[free[0]] if len(free) == 1 else None,
    )
