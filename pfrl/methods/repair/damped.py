"""Least squares by normal equations, where rounding may have spoilt the matrix."""

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

LEAST = 1e-7
"""Damping that is tried after none, as a share of the mean of the diagonal."""


def solve_damped(matrix: np.ndarray, right: np.ndarray, damping: float = 0.0) -> np.ndarray:
    """``(A + λ I)⁻¹ B``, with the least of ``λ``, ``10 λ``, ``100 λ``, … that can be factored.

    ``A = Xᵀ X`` is positive semidefinite, but where it was added up in float32, and one eigenvalue
    is far larger than all others, rounding makes some of those negative.

    Args:
      matrix: ``A [K, K]``, symmetric and finite; overwritten.
      right: ``B [K, M]``; overwritten.
      damping: ``λ``, zero or more.
    """
    diagonal = np.diagonal(matrix).copy()
    places = np.diag_indices_from(matrix)
    while True:
        matrix[places] = diagonal + damping
        try:
            factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            if not np.isfinite(diagonal.sum() + damping):
                raise
            damping = max(10 * damping, LEAST * float(diagonal.mean()), np.finfo(float).tiny)
            # The factor is written over the lower triangle alone.
            upper = np.triu(matrix, 1)
            matrix[:] = upper + upper.T
        else:
            return cho_solve(factor, right, overwrite_b=True, check_finite=False)
