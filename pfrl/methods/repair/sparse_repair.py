"""Closed-form repair of sparse kernels: the weights that stay take over from those that went."""

from collections.abc import Mapping

import numpy as np

from pfrl.graph import Graph, Variables
from pfrl.methods.repair.damped import solve_damped
from pfrl.methods.repair.reconstruct import Grams, ReconstructError


def repair_sparse(
    graph: Graph,
    grams: Grams,
    variables: Variables,
    masks: Mapping[str, np.ndarray],
    ridge: float = 1e-4,
) -> Variables:
    """Kernels with some weights off, such that their outputs change least.

    PocketFlow's layer-wise regression, solved instead of trained: least squares over the
    gathered inputs for every output on the weights ``S`` that it keeps, damped towards the
    old ones as ``reconstruct.repair`` does::

        w' = argmin ‖X w − X_S w'‖² + λ ‖w' − w_S‖²
           = w_S + (G_SS + λ I)⁻¹ G_SR w_R,    λ = ridge · mean(diag G_UU)

    where ``R`` are the weights that are off and ``U`` the inputs that any output of the
    kernel still reads. The error over the gathered inputs is never larger than without
    repair, and where whole inputs are off it is ``reconstruct.repair``. So channels may be
    removed too: their weights are off.

    Outputs with the same mask share a factorisation; each other one costs about ``s³ / 3``
    operations, ``s`` being the number of weights that are on or off, whichever is less: at
    most ``K³ / 24`` for ``K`` inputs, and ``K³`` once for the kernel. At half the weights
    of an unstructured or an N:M mask 64 outputs of 576 inputs take 0.5 · 10⁹ operations, and
    512 outputs of 4,608 inputs take 2 · 10¹²: minutes.

    Args:
      graph: of the network.
      grams: from ``reconstruct.gather``. What has none there, such as depthwise kernels and
        the first one, is not repaired and has its mask applied only.
      variables: arrays of full size, which are not changed.
      masks: by variable, bool or 0/1 of a kernel's shape: where its weights stay.
      ridge: damping, relative to the mean second moment of the inputs.

    Returns:
      the variables with their shapes and types: kernels with a mask are NumPy arrays with
      zeros where it is off; all others are those given.

    Raises:
      ReconstructError: if ``ridge`` is not above zero, or a mask fits no kernel.
    """
    if not ridge > 0:
        raise ReconstructError(f"expected a ridge above zero, such as 1e-4, got {ridge}")
    _check(graph, variables, masks)
    stays = {name: np.asarray(mask, bool).ravel() for name, mask in masks.items()}
    repaired = {
        name: np.where(stays[name], np.ravel(variables[name]), 0).astype(variables[name].dtype)
        for name in stays
    }
    for kernel, matrices, _ in grams:
        name = kernel.variable
        if name in stays and not stays[name].all():
            old = np.ravel(variables[name]).astype(np.float64)
            for places, gram in zip(kernel.places, matrices, strict=True):
                repaired[name][places] = _solve(gram, old[places], stays[name][places], ridge)
    shaped = {name: flat.reshape(variables[name].shape) for name, flat in repaired.items()}
    return {**variables, **shaped}


def _check(graph: Graph, variables: Variables, masks: Mapping[str, np.ndarray]) -> None:
    kernels = {layer.kernel for layer in graph.layers}
    for name, mask in masks.items():
        if name not in kernels:
            raise ReconstructError(f"there is a mask for '{name}', which is no kernel of a layer")
        if np.shape(mask) != np.shape(variables[name]):
            raise ReconstructError(
                f"the mask of '{name}' has shape {np.shape(mask)}; expected the kernel's,"
                f" {np.shape(variables[name])}"
            )


def _solve(gram: np.ndarray, weights: np.ndarray, stays: np.ndarray, ridge: float) -> np.ndarray:
    """``w'`` of every output: ``[K, M]`` like ``weights`` and ``stays``."""
    result = np.where(stays, weights, 0)
    used = np.flatnonzero(stays.any(axis=1))
    unused = np.flatnonzero(~stays.any(axis=1))
    metric = _among(gram, used)
    damping = ridge * np.diagonal(metric).mean() if len(used) else 0
    if damping > 0:  # else all that is read was always zero
        metric[np.diag_indices_from(metric)] += damping
        # What no output reads is lost to all alike; the rest is then a matter among the used.
        lost = gram[np.ix_(used, unused)] @ weights[unused]
        target = weights[used] + (_divide(metric, lost) if len(unused) else 0)
        result[used] = _nearest(metric, target, stays[used])
    return result


def _nearest(metric: np.ndarray, target: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """``argmin (w' − w)ᵀ A (w' − w)`` for every column, ``w'`` zero where it does not stay.

    Args:
      metric: ``A``, symmetric and positive definite, ``[K, K]``.
      target: ``w``, ``[K, M]``.
      stays: bool ``[K, M]``.
    """
    mostly = 2 * stays.sum(axis=0) > len(stays)
    result = np.empty_like(target)
    for solve, columns in ((_from_kept, ~mostly), (_from_lost, mostly)):
        if columns.any():
            result[:, columns] = solve(metric, target[:, columns], stays[:, columns])
    return result


def _from_kept(metric: np.ndarray, target: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """``_nearest`` by the weights that stay: ``w'_S = w_S + A_SS⁻¹ A_SR w_R``."""
    result = np.where(stays, target, 0)
    pull = metric @ (target - result)
    for columns, on in _alike(stays):
        result[np.ix_(on, columns)] += _divide(_among(metric, on), pull[np.ix_(on, columns)])
    return result


def _from_lost(metric: np.ndarray, target: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """``_nearest`` by the weights that go, as in optimal brain surgeon (Hassibi and Stork 1993).

    ``w' = w − P_·R P_RR⁻¹ w_R`` with ``P = A⁻¹``.
    """
    if stays.all():
        return target
    inverse, push = _divide(metric, np.eye(len(metric))), np.zeros_like(target)
    for columns, off in _alike(~stays):
        push[np.ix_(off, columns)] = _divide(_among(inverse, off), target[np.ix_(off, columns)])
    return np.where(stays, target - inverse @ push, 0)


def _alike(places: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Columns with the same true entries, and the rows of these; without columns that have none."""
    found: dict[bytes, list[int]] = {}
    for column in np.flatnonzero(places.any(axis=0)).tolist():
        found.setdefault(places[:, column].tobytes(), []).append(column)
    return [(np.array(same), np.flatnonzero(places[:, same[0]])) for same in found.values()]


def _among(matrix: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows and columns of a square matrix; taken one after the other, which is quicker."""
    return matrix.take(places, axis=0).take(places, axis=1)


def _divide(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``A⁻¹ b`` for a symmetric, positive definite ``A``."""
    return solve_damped(matrix.copy(), right.copy())
