"""Closed-form repair: layers that lost inputs get the kernel that best gives their old outputs.

The Gram matrices that it takes are gathered once from the base network, so that
repairing a policy's network is a few small solves and no training.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import ThreadpoolController

from pfrl.graph import Graph, Variables
from pfrl.graph.kernels import Kernel, find_kernels, positions_of, rows_at
from pfrl.graph.layers import find_layers
from pfrl.methods.base import Statistics
from pfrl.methods.inputs import LayerInput, Reducer, collect
from pfrl.methods.repair.base import Repair
from pfrl.methods.repair.damped import solve_damped
from pfrl.registry import register


class ReconstructError(ValueError):
    """Nothing to gather from, or a number out of range; the message says what is expected."""


class Gram(NamedTuple):
    """What a kernel reads: the second moments of its inputs.

    Attributes:
      kernel: as matrices ``[G, K, M]``; see ``Kernel``.
      matrix: float64 ``[G, K, K]``, the sum of ``x xᵀ`` over all gathered inputs.
      rows: how many inputs of each group were gathered.
    """

    kernel: Kernel
    matrix: np.ndarray
    rows: int


Grams = tuple[Gram, ...]
"""One for every kernel that can lose inputs and be repaired."""
_Moments = tuple[np.ndarray, int]
"""``[G, K, K]`` of a layer, and its rows."""


def gather(
    graph: Graph, variables: Variables, batches: Iterable[Any], positions: int = 10, seed: int = 0
) -> Grams:
    """Second moments of the inputs of every layer that can lose some, in evaluation mode.

    Of every image so many random positions of a layer's output are looked at,
    without repetition, as in AMC (He et al. 2018, arXiv 1802.03494), and ``x`` is
    all that the kernel reads for one of them: ``[taps · channels]`` of a convolution,
    padding included, and all summed axes of a dense kernel, whose positions are
    tokens. A kernel that several layers use sums over all of them.

    Left out are kernels of which nothing is summed over channels (depthwise), and
    those that are not used as kernels alone, or in two arrangements, so that a
    change for one use would spoil another (a tied embedding).

    Args:
      graph: of the network.
      variables: arrays of the base network, of full size.
      batches: normalised training inputs ``[N, ...]`` as the network takes them, best
        all of one shape: every other one compiles again.
      positions: for one image; all of them where a layer has fewer.
      seed: of the positions.

    Returns:
      the Gram matrices, summed in float32 over a batch and in float64 over all of
      them; one takes ``8 · G · K²`` bytes.

    Raises:
      ReconstructError: if there is no batch, or ``positions`` is less than 1.
    """
    reducer = second_moments(graph, positions, seed)
    return as_grams(graph, *collect(graph, variables, batches, [reducer]))


def second_moments(graph: Graph, positions: int, seed: int) -> Reducer:
    """Keeps what ``as_grams`` makes Gram matrices of: ``([G, K, K], rows)`` of every layer.

    Raises:
      ReconstructError: if ``positions`` is less than 1.
    """
    if positions < 1:
        raise ReconstructError(f"expected at least 1 position an image, got {positions}")
    layers = {name for kernel in find_kernels(graph, graph.evaluation()) for name in kernel.layers}
    rng = np.random.default_rng([seed, 4])

    def reduce(read: LayerInput, chosen: jax.Array) -> tuple[jax.Array, int]:
        rows = rows_at(read.labelled, read.number, read.value.astype(jnp.float32), chosen)
        return jnp.einsum("grk,grl->gkl", rows, rows, precision="highest"), chosen.size

    def merge(kept: _Moments | None, found: Any) -> _Moments:
        new = np.asarray(found[0], np.float64), int(found[1])
        return new if kept is None else _added(kept, new)

    return Reducer(reduce, lambda x: draw_positions(graph, x, layers, rng, positions), merge)


def _added(one: _Moments, other: _Moments) -> _Moments:
    return one[0] + other[0], one[1] + other[1]


def as_grams(graph: Graph, kept: Mapping[str, _Moments]) -> Grams:
    """Of every kernel, summed over the layers that use it.

    Raises:
      ReconstructError: if nothing was kept, as there was no batch.
    """
    kernels = find_kernels(graph, graph.evaluation())
    if kernels and not kept:
        raise ReconstructError("expected at least one batch of inputs to gather from, got none")
    parts = [[kept[name] for name in kernel.layers] for kernel in kernels]
    return tuple(
        Gram(kernel, *functools.reduce(_added, each))
        for kernel, each in zip(kernels, parts, strict=True)
    )


def repair(
    graph: Graph,
    grams: Grams,
    variables: Variables,
    kept: Mapping[str, np.ndarray],
    ridge: float = 1e-4,
) -> Variables:
    """Kernels of the layers that lose inputs, so that their outputs change least.

    Least squares over the gathered inputs with the kept channels given (He et al.
    2017, arXiv 1707.06168, eq. 1 with ``β`` fixed), damped towards the old kernel::

        W' = argmin ‖X W − X_k W'‖² + λ ‖W' − W_k‖²
           = W_k + (G_kk + λ I)⁻¹ G_kr W_r,    λ = ridge · mean(diag G_kk)

    where ``G = Xᵀ X``, ``k`` are the kept and ``r`` the removed inputs, taps included.
    As ``λ → 0`` it is ``G_kk⁻¹ G_k W``. Damping towards ``W_k`` instead of zero means
    that the error over the gathered inputs is never larger than without repair, and
    that what reads channels that are always zero stays as it is.

    The inputs are those of the base network, not of the compressed one. Biases and
    statistics stay as they are.

    Args:
      graph: of the network.
      grams: from ``gather``.
      variables: arrays of full size, which are not changed.
      kept: indices of the channels that stay, for every group.
      ridge: damping, relative to the mean second moment of the kept inputs.

    Returns:
      the variables with their shapes and types: rows of removed inputs are zero in the
      repaired kernels, which are NumPy arrays; all others are those given. They serve
      with ``Masks.apply`` as well as with ``slice_variables``.

    Raises:
      ReconstructError: if ``ridge`` is not above zero.
    """
    if not ridge > 0:
        raise ReconstructError(f"expected a ridge above zero, such as 1e-4, got {ridge}")
    removed = graph.removed_atoms(graph.evaluation(), kept)
    repaired = dict(variables)
    for kernel, matrices, _ in grams:
        gone = kernel.gone(removed)
        if gone.any():
            array = np.array(repaired[kernel.variable], order="C")
            flat = array.reshape(-1)
            for places, matrix in zip(kernel.places, matrices, strict=True):
                flat[places] = _solve(matrix, flat[places].astype(np.float64), gone, ridge)
            repaired[kernel.variable] = array
    return repaired


def _solve(gram: np.ndarray, weights: np.ndarray, gone: np.ndarray, ridge: float) -> np.ndarray:
    """``W'`` of ``repair``, with the rows of removed inputs zero: ``[K, M]`` like ``weights``."""
    stays, lost = np.flatnonzero(~gone), np.flatnonzero(gone)
    result = np.where(gone[:, None], 0, weights)
    rows = gram[stays]
    # Symmetric, so its transpose is the same matrix in LAPACK's order, which needs no copy.
    among = rows.take(stays, axis=1).T
    damping = ridge * np.diagonal(among).mean()
    if damping > 0:  # else all that stays was always zero, and no kernel makes anything of it
        missing = rows.take(lost, axis=1) @ weights[lost]
        result[stays] += solve_damped(among, missing, damping)
    return result


def draw_positions(
    graph: Graph, x: Any, layers: Collection[str], rng: np.random.Generator, positions: int
) -> dict[str, np.ndarray]:
    """By layer int32 ``[examples, chosen]``: for every example other positions, none twice.

    Layers with as many positions look at the same ones.
    """
    labelled = graph.program(x, False)[0]
    names = find_layers(labelled, sorted(graph.source.variables))
    sizes = {names[n]: positions_of(labelled, n) for n in names if names[n] in layers}
    orders = {size: np.argsort(rng.random(size), axis=1) for size in dict.fromkeys(sizes.values())}
    return {name: orders[size][:, :positions].astype(np.int32) for name, size in sizes.items()}


def _prepare(statistics: Statistics) -> Callable[[Mapping[str, np.ndarray]], Variables]:
    libraries = ThreadpoolController()

    def refitted(kept: Mapping[str, np.ndarray]) -> Variables:
        # The solves are small: threads would wait for each other longer than they work.
        with libraries.limit(limits=1, user_api="blas"):
            return repair(
                statistics.graph,
                statistics.moments,
                statistics.variables,
                kept,
                statistics.recipe.ridge,
            )

    return refitted


register("repair", "least_squares", Repair(_prepare, frozenset({"moments"})))
