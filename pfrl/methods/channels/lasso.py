"""Channels chosen by LASSO: those whose weighted sum best gives what the readers made of all."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from scipy.sparse import csr_array

from pfrl.graph import Graph, Variables
from pfrl.methods.base import Statistics
from pfrl.methods.channels.base import Criterion, Select
from pfrl.methods.channels.readers import Reader, select
from pfrl.methods.repair.reconstruct import Gram
from pfrl.registry import register


def lasso(
    graph: Graph, variables: Variables, grams: Sequence[Gram], counts: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """LASSO channel selection (He et al. 2017, arXiv 1707.06168).

    For every group, over all kernels that read it::

        min ½ Σ_readers ‖Y − Σᵢ βᵢ Xᵢ Wᵢ‖² / ‖Y‖² + λ Σᵢ βᵢ,    β ≥ 0

    with ``Xᵢ Wᵢ`` what a kernel makes of channel ``i``, at the ``λ`` where ``counts[group]``
    are not zero. ``β`` is not negative, as it is 1 where nothing is lost. What else a
    kernel reads stays as it is. No data is looked at: the problem is a quadratic
    form in the Gram matrices, and each group is solved with all others whole.

    The kernels are not changed; ``pfrl.methods.repair.reconstruct.repair`` is the least
    squares step that follows.

    Args:
      graph: of the network.
      variables: its arrays, of full size.
      grams: from ``gather``, of the same arrays.
      counts: how many channels of every group stay.

    Returns:
      ascending indices for every group; see ``select`` for groups without a reader.

    Raises:
      SelectionError: if a count is missing or out of range.
    """
    return select(graph, variables, grams, counts, _pick)


def quadratic(readers: Sequence[Reader], size: int) -> np.ndarray:
    """``Q`` float64 ``[size, size]``: the relative error of ``1 − β`` is ``(1−β)ᵀ Q (1−β)``.

    ``Q_ij = Σ_readers ⟨Xᵢ Wᵢ, Xⱼ Wⱼ⟩ / ‖Y‖²``, the inner products of what the readers make
    of two channels.
    """
    total = np.zeros((size, size))
    for reader in readers:
        products = reader.weights @ reader.weights.transpose(0, 2, 1)
        rows = len(reader.channels)
        places = np.ones(rows), (np.arange(rows), reader.channels)
        owned = csr_array(places, shape=(rows, size))
        total += owned.T @ np.sum(reader.moments * products, axis=0) @ owned
    return total


def on_path(form: np.ndarray, count: int) -> np.ndarray:
    """Which ``count`` coefficients are not zero somewhere on the LASSO path of ``quadratic``.

    The path is followed from knot to knot by least-angle regression (Efron et al. 2004),
    so that all sizes that it has are met; of several ``λ`` with the size it is the smallest.
    Where it skips the size, those are taken that it has at the next smaller size, and
    of the others those that alone would lower the error most from there. It skips
    where channels are copies of others, or always zero.

    Returns:
      int ``[count]``, in no order.
    """
    # Here, as every start imports this module to know what is registered, and few need these.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lars_path_gram

    with warnings.catch_warnings():
        # What it drops as a copy is what the last lines fill up with.
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, _, path = lars_path_gram(
            form.sum(axis=1), form, n_samples=1, method="lasso", positive=True
        )
    sizes = np.count_nonzero(path, axis=0)
    last = np.flatnonzero(sizes == sizes[sizes <= count].max())[-1]
    beta = path[:, last]
    gains = np.square(form @ (1 - beta)) / np.maximum(np.diagonal(form), np.finfo(float).tiny)
    return np.argsort(-np.where(beta > 0, np.inf, gains), kind="stable")[:count]


def _pick(readers: Sequence[Reader], size: int, count: int) -> np.ndarray:
    return on_path(quadratic(readers, size), count)


def _prepare(statistics: Statistics) -> Select:
    return partial(lasso, statistics.graph, statistics.variables, statistics.moments)


register("criterion", "lasso", Criterion(_prepare, frozenset({"moments"})))
