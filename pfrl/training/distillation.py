"""Learning from a teacher's outputs besides the targets."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from pfrl.tasks.classification import distillation_loss


class Distillation(NamedTuple):
    """How much a student learns from its teacher.

    The loss is ``(1 - weight) · loss + weight · divergence``.

    Attributes:
      weight: of the teacher's outputs against the targets, 0 to 1.
      temperature: T, by which both distributions are softened (Hinton et al. 2015,
        arXiv 1503.02531). The factor T² of the divergence keeps the gradient's size
        independent of T.
      divergence: ``(outputs, teacher's outputs, temperature) -> scalar``; for outputs
        that are no logits another one.
    """

    weight: float = 0.7
    temperature: float = 4.0
    divergence: Callable[[Any, Any, float], jax.Array] = distillation_loss


def distilled(loss: jax.Array, outputs: Any, teacher: Any, distillation: Distillation) -> jax.Array:
    """The loss on the targets together with the divergence from a teacher's outputs."""
    weight, temperature, divergence = distillation
    return (1 - weight) * loss + weight * divergence(outputs, teacher, temperature)
