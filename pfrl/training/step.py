"""One train step of any network function (loss, gradient, update, projection), and many of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import gcd
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pfrl.cpu.backend import alone, compiled, each
from pfrl.graph.source import Variables
from pfrl.tasks.losses import Loss, cross_entropy
from pfrl.training.distillation import Distillation, distilled

Apply = Callable[..., tuple[Any, Variables]]
"""``apply(variables, x, train, *extras) -> (outputs, statistics)``."""

Batch = tuple[Any, Any, Any]
"""``(x, targets, what the teacher answers or None)``, as a train step takes them."""

Project = Callable[..., Variables]
"""``project(parameters, step, *extras) -> parameters``, which training goes on with.

``step`` is the number of updates done, a traced int32: what depends on it, such as the
sparsity of gradual pruning, changes without compiling anew.
"""


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


@dataclass(frozen=True)
class TrainStep:
    """``step(state, x, targets, teacher, *extras) -> (state, loss)``; jit it at the call.

    A batch of ``ghosts`` parts is normalised in each part by the statistics of that part alone
    (ghost batch normalization: Hoffer et al. 2017, arXiv:1705.08741). The loss, the gradients
    and the running statistics are the means over the parts, which know nothing of each other
    until the update: they may be computed at the same time.

    Attributes:
      gradient: ``(state, x, targets, teacher, *extras)`` of one part to what ``update`` takes.
      update: ``(state, what the parts yielded, *extras)`` to the next state and the loss.
      ghosts: parts of a batch; fewer if its images cannot be dealt out evenly.
    """

    gradient: Callable[..., Any]
    update: Callable[..., tuple[TrainState, jax.Array]]
    ghosts: int = 1

    def __call__(
        self, state: TrainState, x: Any, targets: Any, teacher: Any, *extras: Any
    ) -> tuple[TrainState, jax.Array]:
        batch = x, targets, teacher
        found = [self.gradient(state, *part, *extras) for part in self.parts(batch)]
        return self.update(state, found, *extras)

    def parts(self, batch: Any) -> list[Any]:
        """A batch as what ``gradient`` is called with."""
        return in_parts(batch, self.ghosts)


def in_parts(batch: Any, count: int) -> list[Any]:
    """Arrays of N examples each in so many equal parts; in fewer if N cannot be dealt out."""
    images = len(jax.tree.leaves(batch)[0])
    size = images // gcd(images, count)

    starts = range(0, images, size)
    return [jax.tree.map(lambda a, n=n: a[n : n + size], batch) for n in starts]


def make_train_step(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    distillation: Distillation | None = None,
    *,
    loss: Loss = cross_entropy,
    project: Project | None = None,
    ghosts: int = 1,
) -> TrainStep:
    """A train step of any network function.

    Args:
      apply: the network.
      optimizer: see ``pfrl.training.optimizers``.
      distillation: with it ``teacher`` is what a teacher answers to ``x``; else pass None.
      loss: of the outputs and the targets.
      project: what is done to the parameters after every update.
      ghosts: parts of a batch that are normalised each by itself; see ``TrainStep``.

    ``extras`` go to ``apply`` and ``project`` as they are: masks and bit widths of a policy.
    """

    def objective(parameters, statistics, x, targets, teacher, *extras):
        outputs, statistics = apply({**parameters, **statistics}, x, True, *extras)
        value = loss(outputs, targets)
        if distillation is not None:
            value = distilled(value, outputs, teacher, distillation)
        return value, statistics

    def gradient(state: TrainState, *arguments):
        both = jax.value_and_grad(objective, has_aux=True)
        return both(state.parameters, state.statistics, *arguments)

    def update(state: TrainState, found: Sequence[Any], *extras):
        (value, statistics), grads = jax.tree.map(_mean, *found)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.parameters)
        parameters: Any = optax.apply_updates(state.parameters, updates)
        done = state.step + 1
        if project is not None:
            parameters = project(parameters, done, *extras)
        return TrainState(parameters, statistics, optimizer_state, done), value

    return TrainStep(gradient, update, ghosts)


def stepping(step: TrainStep) -> Callable[..., tuple[TrainState, jax.Array]]:
    """A train step that is compiled. On a CPU a core works on each part of a batch.

    There gradient and update are programs of their own, whatever the number of cores, so
    that a state does not depend on it.
    """
    if step.ghosts == 1 or jax.default_backend() != "cpu":
        return compiled(step)
    gradient, update = compiled(step.gradient, threads=1), compiled(step.update)

    def run(state: TrainState, x: Any, targets: Any, teacher: Any, *extras: Any):
        parts = step.parts((x, targets, teacher))
        found = list(each(lambda part: gradient(state, *part, *extras), parts))
        return alone(update(state, found, *extras))

    return run


def drive(
    step: Callable[..., tuple[TrainState, jax.Array]], per_call: int, *, donate: bool = False
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """``run(state, batches, *extras) -> (state, last loss)``: a train step for every batch.

    Args:
      step: of ``make_train_step``, not jitted.
      per_call: steps in one call; what is left over at the end is a shorter one, which
        compiles once more.
      donate: whether the state that is given is used up.
    """

    def scanned(state: TrainState, chunk: list[Batch], *extras: Any):
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *chunk)
        state, losses = jax.lax.scan(lambda s, batch: step(s, *batch, *extras), state, stacked)
        return state, losses[-1]

    def single(state: TrainState, chunk: list[Batch], *extras: Any):
        return step(state, *chunk[0], *extras)

    if per_call == 1 and isinstance(step, TrainStep) and step.ghosts > 1:
        parted = stepping(step)

        def call(state: TrainState, chunk: list[Batch], *extras: Any):
            return parted(state, *chunk[0], *extras)
    else:
        call = compiled(single if per_call == 1 else scanned, donate_argnums=0 if donate else ())

    def run(state: TrainState, batches: Iterable[Batch], *extras: Any):
        batches = iter(batches)
        loss: Any = np.float32(0)
        while chunk := list(islice(batches, per_call)):
            state, loss = alone(call(state, chunk, *extras))
        return state, loss

    return run


def _mean(*parts: jax.Array) -> jax.Array:
    """Of what the parts of a batch yielded; counters and keys are the same in all of them."""
    if len(parts) == 1 or not jnp.issubdtype(parts[0].dtype, jnp.floating):
        return parts[0]
    return sum(parts[1:], parts[0]) / len(parts)
