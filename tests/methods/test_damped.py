"""Normal equations: solved as they are, and damped more where rounding has spoilt the matrix."""

import numpy as np
import pytest
from scipy.linalg import LinAlgError, cho_factor

from pfrl.methods.repair.damped import solve_damped

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_definite_matrix_is_solved_with_the_damping_that_was_asked_for(order):
    x = RNG.normal(size=(50, 8))
    gram, right = x.T @ x, RNG.normal(size=(8, 3))
    found = solve_damped(np.array(gram, order=order), right.copy(), 0.5)
    assert np.allclose((gram + 0.5 * np.eye(8)) @ found, right)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_matrix_that_rounding_made_indefinite_is_damped_until_it_is_not(order):
    """Activations with a mean far above their deviation, in float32."""
    x = (1 + 1e-4 * RNG.normal(size=(40, 300))).astype(np.float32)
    gram = (x.T @ x).astype(np.float64)
    gram = (gram + gram.T) / 2
    damping = 1e-9 * np.diagonal(gram).mean()
    with pytest.raises(LinAlgError):
        cho_factor(gram + damping * np.eye(300))
    right = gram @ RNG.normal(size=(300, 2))
    found = solve_damped(np.array(gram, order=order), right.copy(), damping)
    assert np.abs(gram @ found - right).max() < 1e-3 * np.abs(right).max()


def test_what_is_not_finite_is_not_damped_for_ever():
    with pytest.raises(LinAlgError):
        solve_damped(np.full((2, 2), -np.inf), np.ones((2, 1)))
