"""``trace``: a network's layers, its channel groups and what they cost, found in its jaxpr."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pfrl.graph.atoms import Atoms
from pfrl.graph.labels import Labelled, Labels, propagate
from pfrl.graph.layers import (
    Count,
    Group,
    Layer,
    count_axis,
    describe_layer,
    find_groups,
    find_layers,
    kernel_name,
)
from pfrl.graph.program import trace_program
from pfrl.graph.source import Source, from_nnx


class GraphError(ValueError):
    """What was given cannot be traced as a network; the message says why."""


@dataclass
class Graph:
    """Layers in order of execution, channel groups by name, and the program at any input shape.

    Attributes:
      macs, params: of the whole network; parameters are trainable elements.
      axes: the length of every axis of every variable as a ``Count``.
      unknown: primitives without a rule; what they touch is frozen.
    """

    source: Source
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    groups: dict[str, Group]
    axes: dict[str, tuple[Count, ...]]
    macs: int
    params: int
    unknown: frozenset[str]
    _atoms: Atoms
    _channels: dict[str, np.ndarray]
    _programs: dict[Any, tuple[Labelled, Any]] = field(default_factory=dict)

    def full_counts(self) -> dict[str, int]:
        """Channels of every group before anything is removed."""
        return {name: group.size for name, group in self.groups.items()}

    def macs_at(self, counts: Mapping[str, int]) -> int:
        return sum(layer.macs_at(counts) for layer in self.layers)

    def params_at(self, counts: Mapping[str, int]) -> int:
        return sum(
            int(np.prod([count.at(counts) for count in self.axes[name]], dtype=int))
            for name in self.source.trainable
        )

    def program(self, x: Any, train: bool) -> tuple[Labelled, Any]:
        """The labelled program for inputs of ``x``'s shape, and the tree of its results.

        Its inputs are the variables in sorted order and ``x``.
        """
        key = (tuple(x.shape), str(x.dtype), train)
        if key not in self._programs:
            self._programs[key] = _label(self.source, self._atoms.copy(), x, train)
        return self._programs[key]

    def removed_atoms(self, labelled: Labelled, kept: Mapping[str, np.ndarray]) -> np.ndarray:
        """bool by atom of a program: what goes when ``kept[group]`` (indices) stays."""
        gone: set[int] = set()
        for name, atoms in self._channels.items():
            stays = np.zeros(len(atoms), bool)
            stays[np.asarray(kept[name], int)] = True
            if any(
                labelled.atoms.find(int(a)) != a or labelled.atoms.is_frozen(int(a)) for a in atoms
            ):
                raise GraphError(
                    f"the channels of group '{name}' are tied together at this input shape;"
                    " trace the network at the shape that it is used with"
                )
            gone.update(atoms[~stays].tolist())
        return labelled.atoms.members(gone)


def trace(model: nnx.Module | Source, x: Any) -> Graph:
    """Find layers, channel groups and costs of a network.

    Args:
      model: an ``nnx.Module`` (or a ``Source``); it is not changed.
      x: an example input ``[N, ...]``, an array or a ``jax.ShapeDtypeStruct``.

    Raises:
      GraphError: if ``model`` is no network or does not run on ``x``.
    """
    if isinstance(model, nnx.Module):
        source = from_nnx(model)
    elif isinstance(model, Source):
        source = model
    else:
        raise GraphError(f"expected an nnx.Module, got {type(model).__name__}")
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        raise GraphError(f"expected an array as the example input, got {type(x).__name__}")
    x = jax.ShapeDtypeStruct(x.shape, x.dtype)
    atoms = Atoms()
    for name in sorted(source.variables):
        for size in np.shape(source.variables[name]):
            atoms.new(size)
    try:
        evaluation, _ = _label(source, atoms, x, False)
        training, _ = _label(source, atoms, x, True)
    except (TypeError, ValueError) as error:
        raise GraphError(
            f"the network does not run on an input of shape {x.shape}: {error}"
        ) from error
    return _assemble(source, x, evaluation, evaluation.unknown | training.unknown)


def _label(source: Source, atoms: Atoms, x: Any, train: bool) -> tuple[Labelled, Any]:
    """Trace in one mode and carry the labels; outputs freeze, statistics keep their places."""
    names = sorted(source.variables)
    shapes = [_spec(source.variables[name]) for name in names]

    def function(leaves, x):
        outputs, statistics = source.apply(dict(zip(names, leaves, strict=True)), x, train)
        return outputs, [statistics[name] for name in names if name not in source.trainable]

    program, tree = trace_program(function, shapes, x)
    labels = [*_variable_labels(source), (None,) * len(x.shape)]
    trainable = {i for i, name in enumerate(names) if name in source.trainable}
    labelled = propagate(program, atoms, labels, set(range(len(names))), trainable)
    statistics = [i for i, name in enumerate(names) if name not in source.trainable]
    results = [labelled.of(output) for output in program.outputs]
    outputs = len(results) - len(statistics)
    for result in results[:outputs]:
        atoms.freeze(result)
    for place, result in zip(statistics, results[outputs:], strict=True):
        for before, after in zip(labels[place], result, strict=True):
            atoms.unite(before, after)
    return labelled, tree


def _spec(value: Any) -> jax.ShapeDtypeStruct:
    value = jnp.asarray(value)
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


def _assemble(source: Source, x: Any, labelled: Labelled, unknown: set[str]) -> Graph:
    names = sorted(source.variables)
    variables = dict(zip(names, _variable_labels(source), strict=True))
    order = find_layers(labelled, names)
    found = find_groups(labelled, order, variables)
    channels = {name: roots for name, (roots, _) in found.items()}
    layers = tuple(
        describe_layer(labelled, number, name, kernel_name(labelled, names, number), channels)
        for number, name in order.items()
    )
    groups = {
        name: Group(
            name,
            len(roots),
            members,
            tuple(la.name for la in layers if name in dict(la.c_out.groups)),
            tuple(la.name for la in layers if name in dict(la.c_in.groups)),
        )
        for name, (roots, members) in found.items()
    }
    axes = {
        name: tuple(
            count_axis(labelled, label, size, channels)
            for label, size in zip(labels, np.shape(source.variables[name]), strict=True)
        )
        for name, labels in variables.items()
    }
    owned = 1 + sum(sum(np.shape(value)) for value in source.variables.values())
    return Graph(
        source=source,
        input_shape=tuple(x.shape[1:]),
        layers=layers,
        groups=groups,
        axes=axes,
        macs=sum(layer.macs for layer in layers),
        params=sum(int(np.size(source.variables[name])) for name in source.trainable),
        unknown=frozenset(unknown),
        _atoms=labelled.atoms.copy(owned),
        _channels=channels,
    )
