"""The full training loop: base networks, the compressed network and its controls."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.cpu import give_back
from pfrl.cpu.backend import each, parts_at_once, parts_of_batch, steps_per_call
from pfrl.cpu.precision import at_precision
from pfrl.data import Dataset, Split
from pfrl.graph.source import Variables
from pfrl.tasks import Classification, Task
from pfrl.tasks.losses import Loss
from pfrl.training.checkpoint import Checkpoint
from pfrl.training.config import ConfigError, FitConfig
from pfrl.training.identity import beginning
from pfrl.training.mesh import mesh_for, replicate, share_out
from pfrl.training.optimizers import make_optimizer
from pfrl.training.plateau import Plateau
from pfrl.training.step import (
    Apply,
    Distillation,
    Project,
    TrainState,
    drive,
    in_parts,
    make_train_step,
)

REPORT_EVERY = 20
"""Steps between two looks at the loss, each of which waits for the device."""
JUDGED_AT_ONCE = 50
"""Images that a network answers for together: what lies between its layers takes a MiB and more for
each of them."""


class Diverged(ArithmeticError):
    """The loss was no number."""


def qualities(
    outputs_of: Callable[[Any], Any], dataset: Dataset, split: Split
) -> Iterator[np.ndarray]:
    """Quality of every answer to the images of ``split``, in [0, 1], by the data set's task.

    Args:
      outputs_of: a network, from normalised images ``[N, H, W, C]`` to outputs.
      dataset: of the split; it normalises, and its task judges.
      split: images and targets.

    Yields:
      batch by batch, ``[N]``.
    """
    for images, targets in dataset.batches(split, min(JUDGED_AT_ONCE, len(split))):
        outputs = np.asarray(outputs_of(images))[: len(targets)]
        yield dataset.task.quality(outputs, targets)


def mean_quality(outputs_of: Callable[[Any], Any], dataset: Dataset, split: Split) -> float:
    """The mean of ``qualities``, whose arguments it takes; for classes that is the accuracy."""
    return sum(float(part.sum()) for part in qualities(outputs_of, dataset, split)) / len(split)


def fit(
    apply: Apply,
    variables: Variables,
    trainable: frozenset[str],
    dataset: Dataset,
    config: FitConfig,
    *,
    teacher: Callable[[Any], Any] | None = None,
    distillation: Distillation | None = None,
    project: Project | None = None,
    progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    checkpoint: Path | None = None,
    plateau: Plateau | None = None,
) -> Variables:
    """Train on the training split and return the new variables.

    Batches are shared out over all devices, if there are several and the batch divides. Of large
    pictures a CPU takes a batch in parts; see ``pfrl.cpu.backend.parts_of_batch``.

    Args:
      apply: see ``pfrl.training.step.Apply``; called without extras.
      variables, trainable: as of a ``Source``.
      teacher: its outputs ``[N, ...]`` of ``x``, for ``distillation``; several threads may call it,
        each with a part of a batch.
      project: see ``pfrl.training.step.Project``; also applied once before the first
        step, as step 0.
      progress: told ``(steps done, steps in all, loss)`` every twentieth step, when the training
        is judged and at the end.
      checkpoint: a file that the state is written to once a minute; a training of the same
        network and images goes on from it, and ends as it would have without the interruption.
      plateau: when training ends early; it then returns the best variables that were judged.

    Raises:
      ConfigError: if labels are to be smoothed that are none of a classification.
      Diverged: if the loss becomes NaN or infinite.
    """
    mesh = mesh_for(config.batch)
    steps = steps_of(config, dataset)
    optimizer = make_optimizer(config, steps)
    ghosts = config.ghost_batches or parts_of_batch(dataset.image_shape, 1)
    step = make_train_step(
        apply,
        optimizer,
        None if teacher is None else distillation,
        loss=_loss(config, dataset.task),
        project=project,
        ghosts=ghosts if mesh is None else 1,
    )
    step = dataclasses.replace(step, gradient=at_precision(step.gradient, config.precision))
    # Copies: the step consumes its state, and the caller's arrays are not ours to give away.
    copied = {name: jnp.array(value, copy=True) for name, value in variables.items()}
    parameters = {name: value for name, value in copied.items() if name in trainable}
    statistics = {name: value for name, value in copied.items() if name not in trainable}
    if project is not None:
        parameters = jax.jit(project)(parameters, np.int32(0))
    state = TrainState(parameters, statistics, optimizer.init(parameters), jnp.int32(0))
    identity = {**dataclasses.asdict(config), "steps": steps, "ghosts": step.ghosts}
    if checkpoint is not None:
        identity["begins"] = beginning(apply, copied, dataset)
    best = None if plateau is None else plateau.start(copied)
    if plateau is not None:
        identity["plateau"] = [plateau.every, plateau.patience, plateau.earliest]
    kept = Checkpoint(checkpoint, identity)
    (state, best), done = kept.load((state, best))
    if mesh is not None:
        state = replicate(state, mesh)

    parts = parts_of_batch(dataset.image_shape, parts_at_once()) if mesh is None else 1

    def ready(batch: tuple[Any, Any]) -> tuple[Any, Any, Any]:
        x, targets = batch if mesh is None else share_out(batch, mesh)
        return x, targets, None if teacher is None else _answers(teacher, x, parts)

    per_call = steps_per_call(jax.default_backend())
    run = drive(step, per_call, donate=True)
    batches = map(ready, _batches(dataset, config, steps, done))
    ended = False
    while done < steps:
        # Always the same stops, wherever training started: a call's length decides on roundings.
        strides = (per_call, REPORT_EVERY, plateau.every if plateau else steps)
        stops = (_multiple_after(done, n) for n in strides)
        stop = min(*stops, steps)
        state, value = run(state, islice(batches, stop - done))
        done = stop
        judged = plateau is not None and (done % plateau.every == 0 or done == steps)
        looked = judged or done % REPORT_EVERY == 0 or done == steps
        if looked:
            if not np.isfinite(value):
                raise Diverged(f"the loss was {value} after {done} of {steps} steps")
            if judged:
                assert plateau is not None and best is not None
                best = plateau.better(best, _variables(state), done)
                ended = plateau.reached(best, done)
            progress(done, done if ended else steps, float(value))
        if judged:
            give_back()
        if ended:
            break
        if looked and done < steps:
            kept.offer((state, best), done)
    kept.remove()
    return _variables(state) if best is None else best.variables


def _variables(state: TrainState) -> Variables:
    return {**state.parameters, **state.statistics}


def _answers(teacher: Callable[[Any], Any], x: Any, parts: int) -> Any:
    """Of a batch, which is asked about in parts at the same time."""
    found = list(each(teacher, in_parts(x, parts)))
    return found[0] if len(found) == 1 else np.concatenate(found)


def _loss(config: FitConfig, task: Task) -> Loss:
    """The task's loss; for classes with labels smoothed as the config says."""
    if not config.label_smoothing:
        return task.loss
    if not isinstance(task, Classification):
        raise ConfigError(
            f"label_smoothing is {config.label_smoothing}, which is for the cross-entropy of a"
            " classification; set it to 0 for another task"
        )
    return partial(Classification.loss, task, smoothing=config.label_smoothing)


def _batches(
    dataset: Dataset, config: FitConfig, steps: int, done: int
) -> Iterator[tuple[np.ndarray, Any]]:
    """Batches and targets of all steps but the first ``done``: the same wherever one starts."""
    per_epoch = _per_epoch(dataset, config)
    first, skipped = divmod(done, per_epoch)
    for epoch in range(first, -(-steps // per_epoch)):
        rng = np.random.default_rng([config.seed, epoch])
        left = min(per_epoch, steps - epoch * per_epoch)
        before = skipped if epoch == first else 0
        yield from dataset.training_batches(config.batch, rng, left, before)


def steps_of(config: FitConfig, dataset: Dataset) -> int:
    """Steps of a training that does not end early."""
    return max(round(config.epochs * _per_epoch(dataset, config)), 1)


def _per_epoch(dataset: Dataset, config: FitConfig) -> int:
    return max(len(dataset.train) // config.batch, 1)


def _multiple_after(count: int, of: int) -> int:
    """The smallest multiple that is larger than ``count``."""
    return (count // of + 1) * of
