"""Which channels matter: criteria that score every channel of every group."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from pfrl.graph import Graph, Member, Variables
from pfrl.graph.kernels import REARRANGING
from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.labelled.program import FUSED
from pfrl.graph.layers import find_layers, made_labels
from pfrl.methods.base import Statistics
from pfrl.methods.channels.base import Parts, scoring, total
from pfrl.methods.inputs import read_inputs
from pfrl.registry import register


def l1(statistics: Statistics) -> Parts:
    """Sums of absolute kernel values (Li et al. 2017, arXiv 1608.08710, section 3.1).

    The slices of the layers that produce a channel and of those that read it
    count alike: a channel matters as much as is put into it and taken from it.
    """

    return kernel_sums(statistics.graph, statistics.variables)


def kernel_sums(graph: Graph, variables: Variables) -> dict[str, list[np.ndarray]]:
    """What 'l1' takes of a network that nothing else is known of."""

    def norm(member: Member) -> np.ndarray:
        kernel = np.abs(np.asarray(variables[member.parameter]))
        others = tuple(axis for axis in range(kernel.ndim) if axis != member.axis)
        return kernel.sum(axis=others)[member.indices].sum(axis=1)

    return {name: [norm(m) for m in members] for name, members in _kernel_members(graph)}


def l1_scores(graph: Graph, variables: Variables) -> dict[str, np.ndarray]:
    """L1 norm of all kernel slices that go with a channel, ``[channels]`` of every group."""
    parts = kernel_sums(graph, variables)
    return {name: total(parts[name], group.size) for name, group in graph.groups.items()}


def l2(statistics: Statistics) -> Parts:
    """Euclidean norm of a channel's slice of every kernel (He et al. 2018, arXiv 1808.06866)."""

    def norm(member: Member) -> np.ndarray:
        return np.sqrt(np.square(_slices(statistics.variables, member)).sum(axis=1))

    return {name: [norm(m) for m in members] for name, members in _kernel_members(statistics.graph)}


def bn_scale(statistics: Statistics) -> Parts:
    """Absolute scale of every normalisation (Liu et al. 2017, arXiv 1708.06519, section 3).

    A scale is a trainable array with one axis that the network first uses as a
    factor: of a batch or layer normalisation, or of the whole channel. A group
    that has none gets its 'l1' scores.
    """
    graph, variables = statistics.graph, statistics.variables
    labelled = graph.evaluation()
    names = sorted(graph.source.variables)
    vectors = {n for n in graph.source.trainable if np.ndim(graph.source.variables[n]) == 1}
    scales = _factors(labelled, names) & vectors - {layer.kernel for layer in graph.layers}
    parts = kernel_sums(graph, variables)
    for name, group in graph.groups.items():
        members = [member for member in group.members if member.parameter in scales]
        found = [np.abs(_slices(variables, member)).sum(axis=1) for member in members]
        parts[name] = found or parts[name]
    return parts


def fpgm(statistics: Statistics) -> Parts:
    """Filter pruning by geometric median (He et al. 2019, arXiv 1811.00250, equation 4).

    The sum of Euclidean distances from a channel's slice of a kernel that produces
    it to those of all other channels: the filter next to the geometric median is
    the one that the others can best stand in for.
    """
    graph, variables = statistics.graph, statistics.variables
    labelled = graph.evaluation()
    names = sorted(graph.source.variables)
    producing: set[tuple[str, int]] = set()
    kernels = {layer.name: layer.kernel for layer in graph.layers}
    for number, layer in find_layers(labelled, names).items():
        kernel, made = kernels[layer], made_labels(labelled, number)
        axes = labelled.values[names.index(kernel)].labels
        own = {i for i, axis in enumerate(axes) if any(axis is label for label in made)}
        # Of a kernel that was rearranged before its use, all axes are taken.
        producing.update((kernel, i) for i in own or range(len(axes)))

    def distances(member: Member) -> np.ndarray:
        slices = _slices(variables, member)
        return cdist(slices, slices).sum(axis=1)

    return {
        name: [distances(m) for m in members if (m.parameter, m.axis) in producing]
        for name, members in _kernel_members(graph)
    }


def taylor(statistics: Statistics) -> Parts:
    """First-order change of the loss (Molchanov et al. 2019, arXiv 1906.10771, section 3).

    ``(Σ gradient · weight)²`` over a channel's slice of a kernel, which is the squared
    gradient of a gate on the slice, as mean over the batches. The squares of several
    kernels are added: each says how the loss changes if the channel goes there, and
    signed sums of what is put into a channel and what is taken from it would count
    the same change twice. In evaluation mode: behind a batch normalisation with the
    batch's statistics the sum would be zero, as no scale of the kernel matters.
    """
    graph, variables = statistics.graph, statistics.variables
    members = dict(_kernel_members(graph))
    owned = sorted({member.parameter for each in members.values() for member in each})

    @jax.jit
    def importance(kernels: Variables, others: Variables, x: Any, labels: Any) -> Any:
        def objective(kernels: Variables) -> jax.Array:
            outputs, _ = read_inputs(graph, {**others, **kernels}, x, lambda read: None)
            return statistics.loss(outputs, labels)

        gradients = jax.grad(objective)(kernels)
        products = {name: kernels[name] * gradients[name] for name in owned}

        def gate(member: Member) -> jax.Array:
            product = products[member.parameter]
            others = tuple(axis for axis in range(product.ndim) if axis != member.axis)
            return jnp.square(product.sum(axis=others)[member.indices].sum(axis=1))

        return {name: [gate(member) for member in each] for name, each in members.items()}

    kernels = {name: jnp.asarray(variables[name]) for name in owned}
    others = {name: value for name, value in variables.items() if name not in kernels}
    found = [jax.device_get(importance(kernels, others, *batch)) for batch in statistics.batches]
    return {
        name: [np.mean([f[name][i] for f in found], axis=0, dtype=float) for i in range(len(each))]
        for name, each in members.items()
    }


def activation(statistics: Statistics) -> Parts:
    """Mean absolute activation where a layer reads the channel (arXiv 1611.06440, section 2.2).

    Mean over examples and positions, sum over a channel's places in what a layer
    reads at one position (many where channels are flattened), mean over the batches,
    in evaluation mode. What is read in products of activations alone, as queries and
    keys of attention are, gets its 'l1' scores.
    """
    graph = statistics.graph
    labelled = graph.evaluation()
    owners = _owners(graph, labelled)
    sums: dict[str, dict[tuple[str, int], np.ndarray]] = {name: {} for name in graph.groups}
    for number, layer in find_layers(labelled, sorted(graph.source.variables)).items():
        place = labelled.kernels[number]
        labels = labelled.of(labelled.program.equations[number].inputs[1 - place])
        values, read = statistics.inputs[layer].magnitude, _read_axes(labelled, number)
        values = values.mean(tuple(a for a in range(values.ndim) if a not in read), keepdims=True)
        for axis in read:
            label = labels[axis]
            if label is None:
                continue
            each = values.sum(tuple(a for a in range(values.ndim) if a != axis), dtype=float)
            for row, value in zip(labelled.atoms.rows(label), each, strict=True):
                for group, channel in (owners[leaf] for leaf in row if leaf in owners):
                    new = np.zeros(graph.groups[group].size)
                    sums[group].setdefault((layer, axis), new)[channel] += value
    parts = kernel_sums(graph, statistics.variables)
    return {name: list(sums[name].values()) or parts[name] for name in graph.groups}


def random(statistics: Statistics) -> Parts:
    """Uniform numbers from 0 to 1, the same for the same seed: what a criterion has to beat."""
    rng = np.random.default_rng(statistics.seed)
    return {name: [rng.random(group.size)] for name, group in statistics.graph.groups.items()}


for _score in (l1, l2, bn_scale, fpgm, random):
    register("criterion", _score.__name__, scoring(_score))
register("criterion", "taylor", scoring(taylor, "batches"))
register("criterion", "activation", scoring(activation, "inputs"))


def _kernel_members(graph: Graph) -> Iterator[tuple[str, list[Member]]]:
    """Every group with its slices of kernels."""
    kernels = {layer.kernel for layer in graph.layers}
    for name, group in graph.groups.items():
        yield name, [member for member in group.members if member.parameter in kernels]


def _slices(variables: Variables, member: Member) -> np.ndarray:
    """All elements of an array that go with each channel, float64 ``[channels, elements]``."""
    array = np.moveaxis(np.asarray(variables[member.parameter], np.float64), member.axis, 0)
    return array[member.indices].reshape(len(member.indices), -1)


def _factors(labelled: Labelled, names: list[str]) -> set[str]:
    """The variables that, rearranged at most, are a factor of a product."""
    carried: dict[int, str] = dict(enumerate(names))
    found = set()
    for equation in labelled.program.equations:
        if equation.name == FUSED:
            continue
        mine = [carried[v] for v in equation.inputs if isinstance(v, int) and v in carried]
        if equation.name == "mul":
            found.update(mine)
        elif mine and equation.name in REARRANGING | {"convert_element_type"}:
            carried.update(dict.fromkeys(equation.outputs, mine[0]))
    return found


def _read_axes(labelled: Labelled, number: int) -> list[int]:
    """The axes of a layer's activation that it reads whole at one position, ascending."""
    equation = labelled.program.equations[number]
    numbers = equation.params["dimension_numbers"]
    if equation.name == "conv_general_dilated":
        return [numbers.lhs_spec[1]]
    contract, batch = (sides[1 - labelled.kernels[number]] for sides in numbers)
    return sorted((*contract, *batch))


def _owners(graph: Graph, labelled: Labelled) -> dict[int, tuple[str, int]]:
    """By class of atoms of a program, ``(group, channel)`` of the channel that it is."""
    # Raises where channels are tied together at this input shape.
    graph.removed_atoms(labelled, {n: np.arange(g.size) for n, g in graph.groups.items()})
    places = {name: i for i, name in enumerate(sorted(graph.source.variables))}
    owners = {}
    for name, group in graph.groups.items():
        member = group.members[0]
        label = labelled.values[places[member.parameter]].labels[member.axis]
        assert label is not None
        rows = labelled.atoms.rows(label)
        for channel, indices in enumerate(member.indices):
            # Beside heads, an index goes with what is within the head; of that each place differs.
            (leaf,) = set.intersection(*(set(rows[i]) for i in indices))
            owners[leaf] = name, channel
    return owners
