"""Classification: one of several classes."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.registry import register
from pfrl.tasks.base import TargetError, Wording
from pfrl.tasks.losses import cross_entropy, logits_of


@register("task", "classification")
@dataclass(frozen=True)
class Classification:
    """Outputs are logits ``[N, K]``, targets labels ``[N]``.

    Attributes:
      probabilities: whether outputs are probabilities, since the network ends in a softmax.
    """

    probabilities: bool = field(default=False, kw_only=True)

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

    def __post_init__(self) -> None:
        if self.probabilities:
            object.__setattr__(self, "wording", of_probabilities(self.wording))

    def outputs(self, classes: int) -> int:
        return classes

    def check(self, targets: np.ndarray, names: int) -> None:
        whole = targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer)
        if not whole or targets.min() < 0 or targets.max() >= names or names < 2:
            raise TargetError(
                f"targets {targets.dtype} {list(targets.shape)} for {names} classes, expected"
                " whole numbers [N] from 0 up to the number of names, of two classes at least"
            )

    def loss(self, outputs: jax.Array, targets: jax.Array, smoothing: float = 0.0) -> jax.Array:
        """Mean cross-entropy in nats, see ``cross_entropy``."""
        return cross_entropy(self._logits(outputs), targets, smoothing)

    def divergence(self, outputs: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
        """``T² · KL`` of the softened distributions."""
        return distillation_loss(self._logits(outputs), self._logits(teacher), temperature)

    def quality(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """1 where the largest output is at the label, else 0."""
        return (np.asarray(outputs).argmax(-1) == targets).astype(float)

    def agree(self, outputs: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Where both name the same class."""
        return np.asarray(outputs).argmax(-1) == np.asarray(others).argmax(-1)

    def _logits(self, outputs: jax.Array) -> jax.Array:
        return logits_of(outputs) if self.probabilities else outputs


def as_network_ends(task: Any, probabilities: bool) -> Any:
    """A task for a network that does, or does not, end in a softmax; others than this one stay."""
    return replace(task, probabilities=probabilities) if isinstance(task, Classification) else task


def of_probabilities(wording: Wording) -> Wording:
    """How to speak of a classification whose network ends in a softmax."""
    reading = wording.reading.replace(wording.outputs, "probabilities")
    return wording._replace(outputs="probabilities", reading=reading)


def distillation_loss(logits: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """``T² · KL(softmax(teacher/T) ‖ softmax(logits/T))``, mean over the batch ``[N, K]``."""
    log_q = jax.nn.log_softmax(logits / temperature)
    log_p = jax.nn.log_softmax(teacher / temperature)
    return temperature**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(-1).mean()
