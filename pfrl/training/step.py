"""One train step of any network function: loss, gradient, update, projection."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from pfrl.graph.source import Variables
from pfrl.training.distillation import Distillation, distilled, outputs_of
from pfrl.training.losses import Loss, cross_entropy
from pfrl.training.optimizers import sgd as sgd  # also known by its old place

Apply = Callable[..., tuple[Any, Variables]]
"""``apply(variables, x, train, *extras) -> (outputs, statistics)``; outputs may be ``Observed``."""

Project = Callable[..., Variables]
"""``project(parameters, step, *extras) -> parameters``, which training goes on with.

``step`` is the number of updates done, a traced int32: what depends on it, such as the
sparsity of gradual pruning, changes without compiling anew.
"""


class MaskError(ValueError):
    """Masks that do not belong to the parameters; the message says which."""


class TrainState(NamedTuple):
    """What a step changes.

    Attributes:
      parameters: what gradients go to.
      statistics: of batch normalisation, say.
      optimizer: the optimiser's state.
      step: updates done.
    """

    parameters: Variables
    statistics: Variables
    optimizer: Any
    step: Any = np.int32(0)


def masking(masks: Mapping[str, Any]) -> Project:
    """Sparse training: what a mask of 0 and 1 has at zero stays zero.

    Args:
      masks: by parameter, of its shape; parameters without one are left alone.

    Raises:
      MaskError: when called, if a mask has no parameter of its name and shape.
    """

    def project(parameters: Variables, step: Any, *extras: Any) -> Variables:
        for name, mask in masks.items():
            if name not in parameters or np.shape(mask) != np.shape(parameters[name]):
                found = list(np.shape(parameters[name])) if name in parameters else "no parameter"
                raise MaskError(
                    f"the mask of '{name}' is {list(np.shape(mask))} and the network has {found};"
                    " give masks by parameter, of the parameters' shapes"
                )
        return {**parameters, **{name: parameters[name] * mask for name, mask in masks.items()}}

    return project


def make_train_step(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    distillation: Distillation | None = None,
    *,
    loss: Loss = cross_entropy,
    project: Project | None = None,
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """``step(state, x, targets, teacher, *extras) -> (state, loss)``; jit it at the call.

    Args:
      apply: the network.
      optimizer: see ``pfrl.training.optimizers``.
      distillation: with it ``teacher`` is what a teacher answers to ``x``; else pass None.
      loss: of the outputs and the targets.
      project: what is done to the parameters after every update.

    ``extras`` go to ``apply`` and ``project`` as they are: masks and bit widths of a policy.
    """

    def objective(parameters, statistics, x, targets, teacher, *extras):
        answer, statistics = apply({**parameters, **statistics}, x, True, *extras)
        value = loss(outputs_of(answer), targets)
        if distillation is not None:
            value = distilled(value, answer, teacher, distillation)
        return value, statistics

    def step(state: TrainState, x, targets, teacher, *extras):
        gradient = jax.value_and_grad(objective, has_aux=True)
        (value, statistics), grads = gradient(
            state.parameters, state.statistics, x, targets, teacher, *extras
        )
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.parameters)
        parameters: Any = optax.apply_updates(state.parameters, updates)
        done = state.step + 1
        if project is not None:
            parameters = project(parameters, done, *extras)
        return TrainState(parameters, statistics, optimizer_state, done), value

    return step
