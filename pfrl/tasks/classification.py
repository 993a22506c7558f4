"""Classification: one of several classes."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.registry import register
from pfrl.tasks.base import TargetError, Wording
from pfrl.tasks.losses import cross_entropy


@register("task", "classification")
@dataclass(frozen=True)
class Classification:
    """Outputs are logits ``[N, K]``, targets labels ``[N]``."""

    dense = False
    invariant = True
    wording = Wording(
        metric="accuracy",
        error=False,
        definition="",
        agreement="name the same class for",
        outputs="logits",
        reading="print(logits.argmax(-1))  # class numbers",
        names="Classes",
    )

    def outputs(self, classes: int) -> int:
        return classes

    def check(self, targets: np.ndarray, names: int) -> None:
        whole = targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer)
        if not whole or targets.min() < 0 or targets.max() >= names or names < 2:
            raise TargetError(
                f"targets {targets.dtype} {list(targets.shape)} for {names} classes, expected"
                " whole numbers [N] from 0 up to the number of names, of two classes at least"
            )

    def loss(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Mean cross-entropy in nats."""
        return cross_entropy(outputs, targets)

    def divergence(self, outputs: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
        """``T² · KL`` of the softened distributions."""
        return distillation_loss(outputs, teacher, temperature)

    def quality(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """1 where the largest logit is at the label, else 0."""
        return (np.asarray(outputs).argmax(-1) == targets).astype(float)

    def agree(self, outputs: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Where both name the same class."""
        return np.asarray(outputs).argmax(-1) == np.asarray(others).argmax(-1)


def distillation_loss(logits: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """``T² · KL(softmax(teacher/T) ‖ softmax(logits/T))``, mean over the batch ``[N, K]``."""
    log_q = jax.nn.log_softmax(logits / temperature)
    log_p = jax.nn.log_softmax(teacher / temperature)
    return temperature**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(-1).mean()
