"""Closed-form repair layer after layer, each to what the repaired ones before give it."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.cpu.backend import compiled
from pfrl.graph import Graph, Variables
from pfrl.graph.kernels import find_kernels, rows_at
from pfrl.graph.masks import Masks
from pfrl.methods.base import Statistics
from pfrl.methods.inputs import LayerInput, read_inputs
from pfrl.methods.repair.base import Repair
from pfrl.methods.repair.damped import solve_damped
from pfrl.methods.repair.reconstruct import ReconstructError, draw_positions
from pfrl.registry import register


class AsymmetricRepair:
    """Kernels whose outputs on the *compressed* network's inputs are nearest to the old outputs.

    The asymmetric reconstruction of Zhang et al. 2016 (arXiv 1505.06798), which He et al.
    2017 (arXiv 1707.06168) use for the multi-layer case: what the layers before got wrong,
    a layer may put right. With ``X`` the inputs in the base network and ``Z`` those in the
    compressed one, at the same positions::

        W' = argmin ‖X W − Z W'‖² + λ ‖W' − W‖²  =  W + (ZᵀZ + λ I)⁻¹ Zᵀ(X − Z) W

    on the kept inputs. Every layer after the first removed channel is refitted, one after
    the other; each takes a pass of both networks over the batches, so that this is for a
    network that is handed over, and not for a search.

    Args:
      graph: of the network.
      variables: arrays of the base network, of full size.
      batches: normalised training inputs ``[N, ...]``, of one shape.
      positions: of every image, at which a layer's output is looked at.
      ridge: damping, relative to the mean second moment of the kept inputs.
      seed: of the positions.

    Raises:
      ReconstructError: if there is no batch, or ``ridge`` is not above zero.
    """

    def __init__(
        self,
        graph: Graph,
        variables: Variables,
        batches: Iterable[Any],
        positions: int = 10,
        ridge: float = 1e-4,
        seed: int = 0,
    ):
        self._graph, self._variables, self._ridge = graph, variables, ridge
        self._batches = list(batches)
        if not self._batches or not ridge > 0:
            raise ReconstructError(
                f"expected batches of inputs and a ridge above zero,"
                f" got {len(self._batches)} and {ridge}"
            )
        self._labelled = graph.evaluation()
        self._masks = Masks(graph)
        self._kernels = find_kernels(graph, self._labelled)
        layers = {name for kernel in self._kernels for name in kernel.layers}
        rng = np.random.default_rng([seed, 4])
        self._places = [draw_positions(graph, x, layers, rng, positions) for x in self._batches]
        self._moments = compiled(partial(_moments, graph, self._masks))

    def __call__(self, kept: Mapping[str, np.ndarray]) -> Variables:
        """Arrays as those of ``reconstruct.repair``.

        Args:
          kept: indices of the channels that stay, for every group.
        """
        removed = self._graph.removed_atoms(self._labelled, kept)
        mask = self._masks.vector(kept)
        base = {name: jnp.asarray(value) for name, value in self._variables.items()}
        repaired = dict(self._variables)
        touched = False
        for kernel in self._kernels:
            gone = kernel.gone(removed)
            touched = touched or bool(gone.any())
            if not touched:
                continue
            among, across = 0.0, 0.0
            for x, at in zip(self._batches, self._places, strict=True):
                moments = self._moments(base, repaired, mask, x, at)
                for own, cross in (moments[layer] for layer in kernel.layers):
                    among += np.asarray(own, np.float64)
                    across += np.asarray(cross, np.float64)
            array = np.array(repaired[kernel.variable], order="C")
            flat, stays = array.reshape(-1), np.flatnonzero(~gone)
            parts = zip(kernel.places, np.asarray(among), np.asarray(across), strict=True)
            for matrix, own, cross in parts:
                old = flat[matrix].astype(np.float64)
                flat[matrix] = _solve(own, cross, old, stays, self._ridge)
            repaired[kernel.variable] = array
        return repaired


def _solve(
    among: np.ndarray, across: np.ndarray, weights: np.ndarray, stays: np.ndarray, ridge: float
) -> np.ndarray:
    """``W'`` of ``AsymmetricRepair`` for ``ZᵀZ`` and ``ZᵀX``, zero where inputs are removed."""
    result = np.zeros_like(weights)
    result[stays] = weights[stays]
    own = among[np.ix_(stays, stays)]
    damping = ridge * np.diagonal(own).mean()
    if damping > 0:  # else all that stays is always zero, and no kernel makes anything of it
        missing = across[stays] @ weights - own @ weights[stays]
        result[stays] += solve_damped(own, missing, damping)
    return result


def _moments(
    graph: Graph, masks: Masks, base: Variables, compressed: Variables, mask: Any, x: Any, at: Any
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """By layer ``(ZᵀZ, ZᵀX)``, ``[G, K, K]`` each, at the chosen positions."""

    def look(read: LayerInput) -> jax.Array | None:
        if read.layer not in at:
            return None
        value = read.value.astype(jnp.float32)
        return rows_at(read.labelled, read.number, value, at[read.layer])

    def product(one: jax.Array, other: jax.Array) -> jax.Array:
        return jnp.einsum("grk,grl->gkl", one, other, precision="highest")

    _, before = read_inputs(graph, base, x, look)
    _, after = read_inputs(graph, masks.apply(compressed, mask), x, look)
    return {n: (product(after[n], after[n]), product(after[n], before[n])) for n in before}


def _prepare(statistics: Statistics) -> AsymmetricRepair:
    inputs = [x for x, _ in statistics.batches]
    recipe = statistics.recipe
    return AsymmetricRepair(
        statistics.graph, statistics.variables, inputs, recipe.positions, recipe.ridge
    )


register("repair", "asymmetric", Repair(_prepare, frozenset({"batches"})))
