"""What training minimises by default: cross-entropy, and its smoothed form."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Loss = Callable[[Any, Any], jax.Array]
"""``(outputs, targets) -> scalar``, a mean over the batch."""


LEAST = 1e-30
"""Probabilities below are taken for it: of zero there is no logarithm."""


def logits_of(probabilities: jax.Array) -> jax.Array:
    """Logits ``[..., K]`` whose softmax these probabilities are: of a network that ends in one."""
    return jnp.log(jnp.maximum(probabilities, LEAST))


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Mean cross-entropy in nats of logits ``[..., K]`` against labels ``[...]``.

    With a smoothing of ε the target of each of the K classes is ``(1 - ε) · [it is the
    label] + ε / K`` (Szegedy et al. 2016, arXiv 1512.00567, section 7).
    """
    sharp = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    if not smoothing:
        return sharp
    return (1 - smoothing) * sharp - smoothing * jax.nn.log_softmax(logits).mean()
