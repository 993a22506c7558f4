"""``trace``: a network's layers, its channel groups and what they cost, found in its jaxpr."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from pfrl.graph.count import Count, count_axis, total
from pfrl.graph.frontends import as_source
from pfrl.graph.groups import Group, all_labels, find_channels, find_members, group_index
from pfrl.graph.labelled.atoms import Atoms
from pfrl.graph.labelled.labels import Axes, Labelled, Labels
from pfrl.graph.labelled.program import trace_program
from pfrl.graph.labelled.propagate import propagate
from pfrl.graph.labelled.shuffle import fuse_shuffles
from pfrl.graph.layers import (
    Layer,
    Lengths,
    describe_layer,
    describe_product,
    find_layers,
    kernel_name,
    made_labels,
)
from pfrl.graph.sites import Site, network_sites
from pfrl.graph.source import Source, SourceError


class GraphError(ValueError):
    """What was given cannot be traced as a network; the message says why."""


@dataclass
class Graph:
    """Layers in order of execution, channel groups by name, and the program at any input shape.

    Attributes:
      inputs: shape and type of every input, as traced.
      layers: in order of execution, see ``Layer``.
      groups: by name, see ``Group``.
      products: multiply-accumulates of products of two activations (attention).
      axes: the length of every axis of every variable as a ``Count``.
      frozen: for every layer with channels that cannot be removed, how many and why.
      unknown: primitives without a rule; what they touch is frozen.
      macs: multiply-accumulates of the whole network for one example.
      params: its trainable elements.
    """

    source: Source
    inputs: tuple[jax.ShapeDtypeStruct, ...]
    layers: tuple[Layer, ...]
    groups: dict[str, Group]
    products: tuple[Count, ...]
    axes: dict[str, tuple[Count, ...]]
    frozen: dict[str, dict[str, int]]
    unknown: frozenset[str]
    macs: int
    params: int
    _atoms: Atoms
    _channels: dict[str, np.ndarray]
    _programs: dict[Any, tuple[Labelled, Any]] = field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example of the first input."""
        return tuple(self.inputs[0].shape[1:])

    @property
    def example(self) -> Any:
        """What ``program`` takes: the input, or all of them."""
        return self.inputs[0] if len(self.inputs) == 1 else self.inputs

    def full_counts(self) -> dict[str, int]:
        """Channels of every group before anything is removed."""
        return {name: group.size for name, group in self.groups.items()}

    def macs_at(self, counts: Mapping[str, int]) -> int:
        """Multiply-accumulates of one example."""
        return self._macs_count.at(counts)

    @cached_property
    def _macs_count(self) -> Count:
        """Of the whole network in one: searches ask for it hundreds of times an episode."""
        return total((*(layer.macs_count for layer in self.layers), *self.products))

    def params_at(self, counts: Mapping[str, int]) -> int:
        return sum(
            math.prod(count.at(counts) for count in self.axes[name])
            for name in self.source.trainable
        )

    def program(self, x: Any, train: bool) -> tuple[Labelled, Any]:
        """The labelled program for inputs of ``x``'s shapes, and the tree of its results.

        Its inputs are the variables in sorted order and the leaves of ``x``.

        Args:
          x: inputs ``[N, ...]``, or their shapes and types.
          train: the mode.
        """
        key = _program_key(x, train)
        if key not in self._programs:
            self._programs[key] = _label(self.source, self._atoms.copy(), x, train)
        return self._programs[key]

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Where a quantized network rounds, in the order of execution, the inputs first.

        Raises:
          SiteError: if it trains otherwise than it is evaluated.
        """
        return network_sites(self)

    def evaluation(self) -> Labelled:
        """The program that the graph was made of, in evaluation mode."""
        return self.program(self.example, False)[0]

    def removed_atoms(self, labelled: Labelled, kept: Mapping[str, np.ndarray]) -> np.ndarray:
        """bool by atom of a program: what goes when ``kept[group]`` (indices) stays.

        Args:
          labelled: a program of this graph.
          kept: of every channel group, the channels that stay.

        Raises:
          GraphError: if channels of a group are tied together at the input shape of the program.
        """
        gone: list[int] = []
        for name, atoms in self._channels.items():
            if not labelled.atoms.are_removable(atoms):
                raise GraphError(
                    f"the channels of group '{name}' are tied together at this input shape;"
                    " trace the network at the shape that it is used with"
                )
            stays = np.zeros(len(atoms), bool)
            stays[np.asarray(kept[name], int)] = True
            gone += atoms[~stays].tolist()
        return labelled.atoms.members(gone)


def trace(model: Any, *inputs: Any, variables: Any = None) -> Graph:
    """Find layers, channel groups and costs of a network.

    Args:
      model: an ``nnx.Module``, a Linen module, a function of its parameters and
        inputs, or a ``Source``; it is not changed.
      inputs: example inputs ``[N, ...]``, arrays or ``jax.ShapeDtypeStruct``.
      variables: a Linen module's variables or a function's parameters.

    Raises:
      GraphError: if ``model`` is no network or does not run on the inputs.
    """
    try:
        source = as_source(model, variables)
    except SourceError as error:
        raise GraphError(str(error)) from error
    if not inputs:
        raise GraphError("expected an example input after the model, got none")
    for each in inputs:
        if not (hasattr(each, "shape") and hasattr(each, "dtype")):
            raise GraphError(f"expected an array as the example input, got {type(each).__name__}")
    specs = tuple(jax.ShapeDtypeStruct(each.shape, each.dtype) for each in inputs)
    x = specs[0] if len(specs) == 1 else specs
    atoms = Atoms()
    for name in sorted(source.variables):
        for size in np.shape(source.variables[name]):
            atoms.new(size)
    programs = {_program_key(x, train): _traced(source, atoms, x, train) for train in (False, True)}
    (evaluation, _), (training, _) = programs.values()
    return _assemble(source, specs, evaluation, training, programs)


def _program_key(x: Any, train: bool) -> tuple:
    leaves, tree = jax.tree.flatten(x)
    return tuple((tuple(leaf.shape), str(leaf.dtype)) for leaf in leaves), tree, train


def _traced(source: Source, atoms: Atoms, x: Any, train: bool) -> tuple[Labelled, Any]:
    """``_label``, with what goes wrong in the user's own code said in a sentence."""
    shapes = ", ".join(str(tuple(leaf.shape)) for leaf in jax.tree.leaves(x))
    try:
        return _label(source, atoms, x, train)
    except (jax.errors.ConcretizationTypeError, jax.errors.NonConcreteBooleanIndexError) as error:
        first = str(error).strip().splitlines()[0]
        raise GraphError(
            "the network's shapes or branches depend on the values of its input, so there is no"
            f" one program to compress ({first}); use jnp.where or a mask in place of a Python"
            " 'if', bool(), int() or boolean indexing"
        ) from error
    except (TypeError, ValueError) as error:
        raise GraphError(
            f"the network does not run on an input of shape {shapes}: {error}"
        ) from error


def _label(source: Source, atoms: Atoms, x: Any, train: bool) -> tuple[Labelled, Any]:
    """Trace in one mode and carry the labels; outputs freeze, statistics keep their places."""
    names = sorted(source.variables)
    shapes = [_spec(source.variables[name]) for name in names]

    def function(leaves, x):
        outputs, statistics = source.apply(dict(zip(names, leaves, strict=True)), x, train)
        return outputs, [statistics[name] for name in names if name not in source.trainable]

    program, tree = trace_program(function, shapes, x)
    fuse_shuffles(program)
    labels = _variable_labels(source)
    owned = [Axes(axes, frozenset(range(len(axes)))) for axes in labels]
    given = [Axes((None,) * len(leaf.shape)) for leaf in jax.tree.leaves(x)]
    trainable = [i for i, name in enumerate(names) if name in source.trainable]
    active = range(len(names), len(names) + len(given))
    labelled = propagate(program, atoms, [*owned, *given], trainable, active)
    statistics = [i for i, name in enumerate(names) if name not in source.trainable]
    results = [labelled.of(output) for output in program.outputs]
    outputs = len(results) - len(statistics)
    for result in results[:outputs]:
        atoms.freeze(result, "the network's output")
    for place, result in zip(statistics, results[outputs:], strict=True):
        for before, after in zip(labels[place], result, strict=True):
            atoms.unite(before, after, "a statistic that does not follow")
    return labelled, tree


def _spec(value: Any) -> jax.ShapeDtypeStruct:
    value = value if hasattr(value, "dtype") else np.asarray(value)
    return jax.ShapeDtypeStruct(value.shape, value.dtype)


def _variable_labels(source: Source) -> list[Labels]:
    """Variables own the first atoms: one an index of every axis, in sorted order of the names."""
    labels, start = [], 1
    for name in sorted(source.variables):
        axes = []
        for size in np.shape(source.variables[name]):
            axes.append(np.arange(start, start + size))
            start += size
        labels.append(tuple(axes))
    return labels


def _assemble(
    source: Source,
    inputs: tuple[jax.ShapeDtypeStruct, ...],
    labelled: Labelled,
    training: Labelled,
    programs: dict[Any, tuple[Labelled, Any]],
) -> Graph:
    names, atoms = sorted(source.variables), labelled.atoms
    variables = dict(zip(names, _variable_labels(source), strict=True))
    order = find_layers(labelled, names)
    made = {name: made_labels(labelled, number) for number, name in order.items()}
    values = [label for labels in variables.values() for label in labels if label is not None]
    channels = find_channels(atoms, made, [*values, *all_labels([labelled, training])])
    sizes = {name: len(roots) for name, roots in channels.items()}
    group_of = group_index(atoms, channels)
    lengths = Lengths(labelled, group_of, sizes, max(inputs[0].shape[0], 1))
    layers = [
        describe_layer(lengths, number, name, kernel_name(labelled, names, number))
        for number, name in order.items()
    ]
    groups = _groups(labelled, channels, layers, find_members(atoms, variables, channels))
    layers = [
        dataclasses.replace(
            layer,
            decides=tuple(g for g in layer.c_out.groups if groups[g].producers[0] == layer.name),
        )
        for layer in layers
    ]
    products = tuple(describe_product(lengths, number) for number in labelled.products)
    return Graph(
        source=source,
        inputs=inputs,
        layers=tuple(layers),
        groups=groups,
        products=products,
        axes={
            name: tuple(
                count_axis(atoms, label, size, group_of, sizes)
                for label, size in zip(labels, np.shape(source.variables[name]), strict=True)
            )
            for name, labels in variables.items()
        },
        frozen=_frozen(atoms, made, group_of),
        unknown=frozenset(labelled.unknown | training.unknown),
        macs=sum(layer.macs for layer in layers) + sum(count.at(sizes) for count in products),
        params=sum(int(np.size(source.variables[name])) for name in source.trainable),
        _atoms=atoms.copy(),
        _channels=channels,
        _programs=programs,
    )


def _groups(
    labelled: Labelled,
    channels: Mapping[str, np.ndarray],
    layers: Sequence[Layer],
    members: Mapping[str, tuple],
) -> dict[str, Group]:
    heads: set[int] = set()
    for label in labelled.heads:
        if label is not None:
            heads.update(leaf for row in labelled.atoms.rows(label) for leaf in row)
    return {
        name: Group(
            name,
            len(roots),
            "heads" if heads.issuperset(roots.tolist()) else "channels",
            members[name],
            tuple(layer.name for layer in layers if name in layer.c_out.groups),
            tuple(layer.name for layer in layers if name in layer.c_in.groups),
        )
        for name, roots in channels.items()
    }


def _frozen(
    atoms: Atoms, made: Mapping[str, Sequence[Any]], group_of: np.ndarray
) -> dict[str, dict[str, int]]:
    """By layer, how many of its output channels cannot be removed, by reason."""
    found: dict[str, dict[str, int]] = {}
    for layer, labels in made.items():
        for label in labels:
            for root in [] if label is None else atoms.roots(label).tolist():
                if all(group_of[leaf] < 0 for leaf in atoms.leaves(root)):
                    reasons = found.setdefault(layer, {})
                    why = atoms.reason(root)
                    reasons[why] = reasons.get(why, 0) + 1
    return found
