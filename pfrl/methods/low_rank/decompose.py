"""Decomposition: a network in which some layers are two layers, with fewer channels between them.

The new network runs the old one's program, but for those layers. Traced, it has a
channel group for every pair, and to choose a rank is to prune that group: masks, slicing,
budgets and the least-squares repair, which refits the second layer, are those of channels.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.graph import Graph, Source, Variables
from pfrl.graph.kernels import REARRANGING
from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.labelled.program import FUSED, Equation
from pfrl.graph.slicing import OnLayer, run
from pfrl.graph.source import check_names
from pfrl.methods.low_rank.base import DECOMPOSITIONS
from pfrl.methods.low_rank.factors import as_matrix, cost, factors, obstacle, operations

MOVING = REARRANGING | {"convert_element_type"}
"""Operations that a kernel may go through on its way to the layer."""


class DecomposeError(ValueError):
    """A layer that cannot be decomposed, or not in this way; the message says why."""


class _Pair(NamedTuple):
    """A kernel that becomes two.

    Attributes:
      kernel: its name among the variables, and its number (``value``) in every program.
      kind: one of ``DECOMPOSITIONS``.
      names: of the two kernels.
    """

    kernel: str
    value: int
    kind: str
    names: tuple[str, str]


class _Uses(NamedTuple):
    """Numbers of the equations that are a kernel's layers, and of those that bring it there."""

    layers: list[int]
    moves: list[int]


def decomposable(graph: Graph) -> dict[str, dict[str, int]]:
    """For every layer that can be decomposed, the kinds, and the break-even rank of each.

    That is the largest rank at which the two layers take no more multiply-accumulates
    than the one. A kind for which there is none is left out.
    """
    found: dict[str, dict[str, int]] = {}
    for layer in graph.layers:
        for kind in DECOMPOSITIONS:
            try:
                _, rank = _ranks(graph, _pair(graph, layer.name, kind))
            except DecomposeError:
                continue
            if rank:
                found.setdefault(layer.name, {})[kind] = rank
    return found


def decompose(
    graph: Graph,
    layers: Mapping[str, str],
    *,
    variables: Variables | None = None,
    full: bool = False,
) -> Source:
    """The network with some layers as two, to be traced, compressed and trained like any other.

    A kernel ``conv1.kernel`` becomes ``conv1.first.kernel`` and ``conv1.second.kernel``, of
    the layers ``conv1.first`` and ``conv1.second``; a bias stays what it was. The channels
    between them are in the order of their singular values, and of their L2 norms: by the
    criterion 'l2' their group loses the smallest ones.

    Args:
      graph: of the network.
      layers: by name of a layer its kind, one of ``DECOMPOSITIONS``. A kernel that several layers
        share becomes two for all of them.
      variables: arrays of the network; by default those that it was traced with.
      full: keep all singular values, at which the network computes what it did before, and
        takes longer; without, those up to the break-even rank (see ``decomposable``).

    Raises:
      DecomposeError: if there is no such layer or kind; if the layer is grouped, depthwise
        or transposed; if its kernel is computed from something else, or used for something
        else; or if even rank 1 costs more than the layer, and ``full`` is not asked for.
      SourceError: if the network has a variable of a new kernel's name.
    """
    arrays = dict(graph.source.variables if variables is None else variables)
    pairs: dict[str, _Pair] = {}
    for layer, kind in layers.items():
        pair = _pair(graph, layer, kind)
        if pairs.setdefault(pair.kernel, pair) != pair:
            raise DecomposeError(
                f"layer '{layer}' shares its kernel with one that becomes"
                f" '{pairs[pair.kernel].kind}'; choose that for it too, instead of '{kind}'"
            )
        most, even = _ranks(graph, pair)
        if not (full or even):
            raise DecomposeError(
                f"layer '{layer}' is so small that two layers cost more at any rank;"
                " leave it out, or keep all ranks with full=True"
            )
        if pair.kernel in arrays:
            equation, place, places = _kernel(graph, pair)
            kernel = np.asarray(arrays.pop(pair.kernel)).ravel()[places]
            both = factors(equation, place, kind, kernel, most if full else even)
            arrays |= {n: f.astype(kernel.dtype) for n, f in zip(pair.names, both, strict=True)}
    names = sorted(graph.source.variables)
    added = [name for pair in pairs.values() for name in pair.names]
    check_names([*(set(names) - set(pairs)), *added])
    statistics = [name for name in names if name not in graph.source.trainable]

    def apply(variables: Variables, x: Any, train: bool) -> tuple[Any, Variables]:
        labelled, tree = graph.program(x, train)
        rewritten, on_layer = _rewritten(labelled, list(pairs.values()), variables)
        leaves = [None if name in pairs else jnp.asarray(variables[name]) for name in names]
        results = run(rewritten, [*leaves, *jax.tree.leaves(x)], None, on_layer)
        outputs, after = jax.tree.unflatten(tree, results)
        return outputs, dict(zip(statistics, after, strict=True))

    trainable = (graph.source.trainable - set(pairs)) | set(added)
    return Source(apply, arrays, trainable)


def _pair(graph: Graph, layer: str, kind: str) -> _Pair:
    """What is to be done to a layer, if it can be."""
    kernels = {each.name: each.kernel for each in graph.layers}
    if layer not in kernels:
        raise DecomposeError(f"no layer is named '{layer}'; graph.layers lists those there are")
    if kind not in DECOMPOSITIONS:
        raise DecomposeError(
            f"layer '{layer}' cannot become {kind!r}; choose one of {', '.join(DECOMPOSITIONS)}"
        )
    kernel = kernels[layer]
    path, _, last = kernel.rpartition(".")
    path, last = (path, last) if path else (last, "kernel")
    names = (f"{path}.first.{last}", f"{path}.second.{last}")
    pair = _Pair(kernel, sorted(graph.source.variables).index(kernel), kind, names)
    labelled = graph.evaluation()
    for number in _uses(labelled, pair).layers:
        equation, place = labelled.program.equations[number], labelled.kernels[number]
        reason = obstacle(equation, place, kind)
        if reason is not None:
            raise DecomposeError(f"layer '{layer}' cannot become '{kind}': {reason}")
    _kernel(graph, pair)
    return pair


def _uses(labelled: Labelled, pair: _Pair) -> _Uses:
    """Where a kernel is used, if it is as a kernel alone."""
    program, uses = labelled.program, _Uses([], [])
    carried = {pair.value}
    for number, equation in enumerate(program.equations):
        if equation.name == FUSED:
            continue
        places = [p for p, v in enumerate(equation.inputs) if isinstance(v, int) and v in carried]
        if not places:
            continue
        if equation.name in MOVING:
            uses.moves.append(number)
            carried.update(equation.outputs)
        elif places == [labelled.kernels.get(number)]:
            uses.layers.append(number)
        else:
            raise DecomposeError(
                f"'{pair.kernel}' is no kernel to be decomposed: '{equation.name}' takes it too;"
                " leave its layer out"
            )
    if any(isinstance(output, int) and output in carried for output in program.outputs):
        raise DecomposeError(f"'{pair.kernel}' is an output of the network; leave its layer out")
    return uses


def _ranks(graph: Graph, pair: _Pair) -> tuple[int, int]:
    """The full rank, and the largest at which all of a kernel's layers together cost no more."""
    labelled = graph.evaluation()
    costs = [
        cost(labelled.program.equations[number], labelled.kernels[number], pair.kind)
        for number in _uses(labelled, pair).layers
    ]
    most = costs[0].most
    return most, min(most, sum(c.layer for c in costs) // sum(c.rank for c in costs))


def _kernel(graph: Graph, pair: _Pair) -> tuple[Equation, int, np.ndarray]:
    """A layer of a kernel, its place there, and where its elements are in the flat variable."""
    labelled = graph.evaluation()
    program, uses = labelled.program, _uses(labelled, pair)
    shape = program.shapes[pair.value]
    values: dict[Any, np.ndarray] = {pair.value: np.arange(np.prod(shape)).reshape(shape)}
    for number in uses.moves:
        equation = program.equations[number]
        moved = [values[equation.inputs[0]]]
        if equation.name in REARRANGING:
            results = equation.primitive.bind(jnp.asarray(moved[0]), **equation.params)
            moved = results if equation.primitive.multiple_results else [results]
        values |= dict(zip(equation.outputs, map(np.asarray, moved), strict=True))
    found = []
    for number in uses.layers:
        equation, place = program.equations[number], labelled.kernels[number]
        found.append((equation, place, values[equation.inputs[place]]))
    first, *others = [as_matrix(*each) for each in found]
    if not all(np.array_equal(first, other) for other in others):
        raise DecomposeError(
            f"'{pair.kernel}' is the kernel of several layers, in different arrangements;"
            " leave them out"
        )
    return found[0]


def _rewritten(
    labelled: Labelled, pairs: list[_Pair], variables: Variables
) -> tuple[Labelled, OnLayer]:
    """The program whose layers are the second ones, and the hook that runs the first ones."""
    equations = list(labelled.program.equations)
    firsts: dict[int, tuple[_Pair, dict[str, Any], Any]] = {}
    for pair in pairs:
        uses, dtype = _uses(labelled, pair), None
        for number in uses.moves:
            dtype = equations[number].params.get("new_dtype", dtype)
            equations[number] = replace(equations[number], name=FUSED)
        for number in uses.layers:
            place = labelled.kernels[number]
            first, second = operations(equations[number], place, pair.kind)
            equations[number] = replace(equations[number], params=second)
            firsts[number] = pair, first, dtype

    def on_layer(number: int, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        if number not in firsts:
            return x, kernel
        pair, params, dtype = firsts[number]
        first, second = (jnp.asarray(variables[name], dtype) for name in pair.names)
        operands = (first, x) if labelled.kernels[number] == 0 else (x, first)
        inner = equations[number].primitive.bind(*operands, **params)
        return inner.astype(x.dtype), second

    program = replace(labelled.program, equations=equations)
    return replace(labelled, program=program), on_layer
