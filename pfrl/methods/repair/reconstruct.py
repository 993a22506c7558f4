"""Closed-form repair: layers that lost inputs get the kernel that best gives their old outputs.

The Gram matrices that it takes are gathered once from the base network, so that
repairing a policy's network is a few small solves and no training.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import cho_factor, cho_solve
from threadpoolctl import ThreadpoolController

from pfrl.graph import Graph, Variables
from pfrl.graph.kernels import Kernel, find_kernels, positions_of, rows_at
from pfrl.graph.labelled.labels import Labelled
from pfrl.graph.layers import find_layers
from pfrl.graph.slicing import run
from pfrl.methods.base import Statistics
from pfrl.methods.repair.base import Repair
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
    if positions < 1:
        raise ReconstructError(f"expected at least 1 position an image, got {positions}")
    kernels = find_kernels(graph, traced(graph))
    owner = {name: kernel.layers[0] for kernel in kernels for name in kernel.layers}
    leaves = [jnp.asarray(variables[name]) for name in sorted(graph.source.variables)]
    rng = np.random.default_rng([seed, 4])
    moments: dict[Any, Any] = {}
    matrices: dict[str, np.ndarray] = {}
    rows = dict.fromkeys(owner.values(), 0)
    for x in batches:
        inputs = [jnp.asarray(leaf) for leaf in jax.tree.leaves(x)]
        key = tuple(leaf.shape for leaf in inputs)
        labelled, _ = graph.program(x, False)
        wanted = wanted_layers(graph, labelled, owner)
        if key not in moments:
            moments[key] = jax.jit(_moments(labelled, wanted))
        sizes = {number: positions_of(labelled, number) for number in wanted}
        chosen = {
            size: draw_positions(rng, size, positions) for size in dict.fromkeys(sizes.values())
        }
        found = moments[key](leaves, inputs, {n: chosen[size] for n, size in sizes.items()})
        for number, matrix in found.items():
            name = wanted[number]
            matrices[name] = matrices.get(name, 0) + np.asarray(matrix, np.float64)
            rows[name] += chosen[sizes[number]].size
    if kernels and not matrices:
        raise ReconstructError("expected at least one batch of inputs to gather from, got none")
    return tuple(
        Gram(kernel, matrices[kernel.layers[0]], rows[kernel.layers[0]]) for kernel in kernels
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
    removed = graph.removed_atoms(traced(graph), kept)
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
    stays = np.flatnonzero(~gone)
    result = np.where(gone[:, None], 0, weights)
    rows = gram[stays]
    # Symmetric, so its transpose is the same matrix in LAPACK's order, which needs no copy.
    among = rows.take(stays, axis=1).T
    damping = ridge * np.diagonal(among).mean()
    if damping > 0:  # else all that stays was always zero, and no kernel makes anything of it
        among[np.diag_indices_from(among)] += damping
        lost = rows @ (weights - result)
        factor = cho_factor(among, lower=True, overwrite_a=True, check_finite=False)
        result[stays] += cho_solve(factor, lost, overwrite_b=True, check_finite=False)
    return result


def traced(graph: Graph, x: Any = None) -> Labelled:
    """The program in evaluation mode for inputs like ``x``; by default that of the graph."""
    if x is None:
        x = graph.inputs[0] if len(graph.inputs) == 1 else graph.inputs
    return graph.program(x, False)[0]


def wanted_layers(graph: Graph, labelled: Labelled, owner: Mapping[str, str]) -> dict[int, str]:
    """By equation number, the layer under whose name its inputs are summed."""
    names = find_layers(labelled, sorted(graph.source.variables))
    return {number: owner[name] for number, name in names.items() if name in owner}


def draw_positions(rng: np.random.Generator, size: tuple[int, int], positions: int) -> np.ndarray:
    """int32 ``[examples, chosen]``: for every example other positions, none twice."""
    order = np.argsort(rng.random(size), axis=1)
    return order[:, : min(positions, size[1])].astype(np.int32)


def _moments(labelled: Labelled, wanted: Mapping[int, str]) -> Any:
    """``(leaves, inputs, chosen positions by equation) -> Gram matrices by equation``."""

    def moments(
        leaves: list[jax.Array], inputs: list[jax.Array], chosen: dict[int, jax.Array]
    ) -> dict[int, jax.Array]:
        found = {}

        def on_layer(number: int, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
            if number in wanted:
                rows = rows_at(labelled, number, x.astype(jnp.float32), chosen[number])
                found[number] = jnp.einsum("grk,grl->gkl", rows, rows, precision="highest")
            return x, kernel

        run(labelled, [*leaves, *inputs], None, on_layer)
        return found

    return moments


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
