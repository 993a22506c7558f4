"""One train step of any network function: loss, gradient, SGD."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pfrl.graph.source import Variables

Apply = Callable[..., tuple[jax.Array, Variables]]
"""``apply(variables, x, train, *extras) -> (logits [N, K], statistics)``."""


class TrainState(NamedTuple):
    """What a step changes: parameters, statistics (batch norm) and the optimiser's state."""

    parameters: Variables
    statistics: Variables
    optimizer: Any


class Distillation(NamedTuple):
    """Soft targets from a teacher's logits (arXiv 1503.02531).

    The loss is ``(1 - weight) · CE + weight · T² · KL(teacher ‖ student)``,
    both distributions softened by the temperature T; T² keeps the gradient's
    size independent of T.
    """

    weight: float = 0.7
    temperature: float = 4.0


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats of logits ``[N, K]`` against labels ``[N]``."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def distillation_loss(logits: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """``T² · KL(softmax(teacher/T) ‖ softmax(logits/T))``, mean over the batch ``[N, K]``."""
    log_q = jax.nn.log_softmax(logits / temperature)
    log_p = jax.nn.log_softmax(teacher / temperature)
    return temperature**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(-1).mean()


def sgd(learning_rate: optax.ScalarOrSchedule, weight_decay: float) -> optax.GradientTransformation:
    """Nesterov SGD (momentum 0.9) with weight decay on kernels only (two or more axes)."""
    return optax.chain(
        optax.add_decayed_weights(
            weight_decay, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
        ),
        optax.sgd(learning_rate, momentum=0.9, nesterov=True),
    )


def make_train_step(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    distillation: Distillation | None = None,
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """``step(state, x, labels, teacher_logits, *extras) -> (state, loss)``; jit it at the call.

    ``teacher_logits`` is read only with ``distillation``; else pass None.
    ``extras`` go to ``apply`` as they are: masks and bit widths of a policy.
    """

    def loss_function(parameters, statistics, x, labels, teacher, *extras):
        logits, statistics = apply({**parameters, **statistics}, x, True, *extras)
        loss = cross_entropy(logits, labels)
        if distillation is not None:
            soft = distillation_loss(logits, teacher, distillation.temperature)
            loss = (1 - distillation.weight) * loss + distillation.weight * soft
        return loss, statistics

    def step(state: TrainState, x, labels, teacher, *extras):
        gradient = jax.value_and_grad(loss_function, has_aux=True)
        (loss, statistics), grads = gradient(
            state.parameters, state.statistics, x, labels, teacher, *extras
        )
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.parameters)
        parameters: Any = optax.apply_updates(state.parameters, updates)
        return TrainState(parameters, statistics, optimizer_state), loss

    return step
