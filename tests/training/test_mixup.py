"""Mixed pairs of examples, and the losses on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfrl.training.losses import Mixed, cross_entropy, mixup, on_mixed


# The share and the order are the generator's first two draws.
def test_examples_are_mixed_with_others_of_the_batch():
    x = np.random.default_rng(1).normal(size=(6, 2, 2, 1)).astype(np.float32)
    labels = np.arange(6)
    mixed, targets = mixup(x, labels, 0.4, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    share, order = rng.beta(0.4, 0.4), rng.permutation(6)
    assert targets.share == pytest.approx(share)
    assert np.array_equal(targets.first, labels)
    assert np.array_equal(targets.second, order)
    np.testing.assert_allclose(mixed, share * x + (1 - share) * x[order], rtol=1e-5, atol=1e-6)
    assert mixed.dtype == targets.share.dtype == np.float32


# For large α the Beta distribution is narrow around a half, for small α nearly all at 0 and 1.
def test_alpha_says_how_much_is_mixed():
    rng = np.random.default_rng(0)
    x, labels = np.zeros((1, 1), np.float32), np.zeros(1)
    shares = {
        alpha: np.asarray([mixup(x, labels, alpha, rng)[1].share for _ in range(200)])
        for alpha in (0.05, 100.0)
    }
    assert np.abs(shares[100.0] - 0.5).max() < 0.2
    assert (np.abs(shares[0.05] - 0.5) > 0.4).mean() > 0.7


# Logits (0, ln 3) are probabilities (1/4, 3/4): of label 0 the loss is ln 4, of label 1 ln 4/3.
def test_losses_are_mixed_as_the_examples_were():
    logits, targets = jnp.asarray([[0.0, np.log(3)]]), Mixed(np.asarray([0]), np.asarray([1]), 0.25)
    expected = 0.25 * np.log(4) + 0.75 * np.log(4 / 3)
    assert on_mixed(cross_entropy)(logits, targets) == pytest.approx(expected, rel=1e-6)


# |2 - 0| and |2 - 6|, mixed 3 to 1; of the mixed target 1.5 the loss would be 0.5 instead.
def test_any_loss_will_do():
    def distance(outputs, targets):
        return jnp.abs(outputs - targets).mean()

    targets = Mixed(np.asarray([0.0]), np.asarray([6.0]), 0.75)
    assert on_mixed(distance)(jnp.asarray([2.0]), targets) == pytest.approx(0.75 * 2 + 0.25 * 4)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1), smoothing=st.sampled_from([0.0, 0.1]))
def test_mixed_cross_entropies_are_the_cross_entropy_of_mixed_labels(seed, share, smoothing):
    rng = np.random.default_rng(seed)
    logits, (first, second) = rng.normal(size=(4, 3)).astype(np.float32), rng.integers(0, 3, (2, 4))
    soft = share * np.eye(3)[first] + (1 - share) * np.eye(3)[second]
    soft = (1 - smoothing) * soft + smoothing / 3
    expected = -(soft * jax.nn.log_softmax(logits)).sum(-1).mean()

    def loss(outputs, labels):
        return cross_entropy(outputs, labels, smoothing)

    found = on_mixed(loss)(jnp.asarray(logits), Mixed(first, second, np.float32(share)))
    assert found == pytest.approx(float(expected), rel=1e-5)
