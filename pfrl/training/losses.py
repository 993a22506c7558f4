"""What training minimises: cross-entropy, its smoothed form, and any loss on mixed pairs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

Loss = Callable[[Any, Any], jax.Array]
"""``(outputs, targets) -> scalar``, a mean over the batch."""


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Mean cross-entropy in nats of logits ``[..., K]`` against labels ``[...]``.

    With a smoothing of ε the target of each of the K classes is ``(1 - ε) · [it is the
    label] + ε / K`` (Szegedy et al. 2016, arXiv 1512.00567, section 7).
    """
    sharp = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    if not smoothing:
        return sharp
    return (1 - smoothing) * sharp - smoothing * jax.nn.log_softmax(logits).mean()


class Mixed(NamedTuple):
    """Targets of examples that were mixed in pairs: ``share · first + (1 - share) · second``."""

    first: Any
    second: Any
    share: Any


def mixup(
    x: np.ndarray, targets: np.ndarray, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, Mixed]:
    """Every example of a batch mixed with another one (Zhang et al. 2018, arXiv 1710.09412).

    One share λ ~ Beta(α, α) for the batch, and the partners are its own examples in
    random order, as in the paper's experiments.

    Args:
      x: float32 ``[N, ...]``.
      targets: ``[N, ...]``.
      alpha: α, above 0.

    Returns:
      ``λ · x + (1 - λ) · partners`` and the targets of both, for a loss ``on_mixed``.
    """
    share, order = np.float32(rng.beta(alpha, alpha)), rng.permutation(len(x))
    return share * x + (1 - share) * x[order], Mixed(targets, targets[order], share)


def on_mixed(loss: Loss) -> Loss:
    """The loss on ``Mixed`` targets: losses are mixed, not targets, so that any loss will do.

    For cross-entropy, which is linear in its targets, both are the same.
    """

    def mixed_loss(outputs: Any, targets: Mixed) -> jax.Array:
        first, second = loss(outputs, targets.first), loss(outputs, targets.second)
        return targets.share * first + (1 - targets.share) * second

    return mixed_loss
