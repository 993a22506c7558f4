"""The full training loop: base networks, the compressed network and its controls."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pfrl.data import Dataset, Split
from pfrl.files import load_arrays, save_arrays
from pfrl.graph.source import Variables
from pfrl.training.step import Apply, Distillation, TrainState, make_train_step, sgd


@dataclass(frozen=True)
class FitConfig:
    """How a network is trained: SGD with Nesterov momentum, one rise and a cosine fall."""

    epochs: float = 1.0
    """Passes over the training split; a fraction is a part of a pass."""
    batch: int = 64
    """Images a step."""
    learning_rate: float = 0.1
    """Peak learning rate."""
    warmup: float = 0.2
    """Share of the steps in which the learning rate rises linearly from a tenth of the peak."""
    weight_decay: float = 5e-4
    """Applied to kernels only."""
    seed: int = 0
    """Seed of shuffling and augmentation."""


class Diverged(ArithmeticError):
    """The loss was no number."""


def accuracy(
    logits_of: Callable[[Any], Any], dataset: Dataset, split: Split, batch: int = 250
) -> float:
    """Share of the images of ``split`` whose largest logit is at their label.

    The last batch is padded to the full size, so that nothing compiles for it.
    """
    batch = min(batch, len(split))
    correct = 0
    for start in range(0, len(split), batch):
        part = split.take(slice(start, start + batch))
        missing = batch - len(part)
        images = np.pad(dataset.normalize(part.images), ((0, missing), (0, 0), (0, 0), (0, 0)))
        predicted = np.asarray(logits_of(images)).argmax(-1)[: len(part)]
        correct += int((predicted == part.labels).sum())
    return correct / len(split)


def fit(
    apply: Apply,
    variables: Variables,
    trainable: frozenset[str],
    dataset: Dataset,
    config: FitConfig,
    *,
    teacher: Callable[[Any], Any] | None = None,
    distillation: Distillation | None = None,
    progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
) -> Variables:
    """Train on the training split and return the new variables.

    Args:
      apply: see ``pfrl.training.step.Apply``; called without extras.
      variables, trainable: as of a ``Source``.
      teacher: logits of a batch, for ``distillation``.
      progress: told ``(steps done, steps in all, loss)`` every twentieth step and at the end.
      checkpoint: a file that the state is written to every
        ``checkpoint_every`` steps; if it is there, training goes on from it
        and ends as it would have without the interruption.

    Raises:
      Diverged: if the loss becomes NaN or infinite.
    """
    per_epoch = max(len(dataset.train) // config.batch, 1)
    steps = max(round(config.epochs * per_epoch), 1)
    schedule = optax.warmup_cosine_decay_schedule(
        config.learning_rate / 10, config.learning_rate, int(config.warmup * steps), steps
    )
    optimizer = sgd(schedule, config.weight_decay)
    # Copies: the step consumes its state, and the caller's arrays are not ours to give away.
    copied = {name: jnp.array(value, copy=True) for name, value in variables.items()}
    parameters = {name: value for name, value in copied.items() if name in trainable}
    statistics = {name: value for name, value in copied.items() if name not in trainable}
    state = TrainState(parameters, statistics, optimizer.init(parameters))
    step = jax.jit(
        make_train_step(apply, optimizer, distillation if teacher else None), donate_argnums=0
    )
    done = 0
    shapes = {name: list(value.shape) for name, value in copied.items()}
    identity = {**dataclasses.asdict(config), "steps": steps, "shapes": shapes}
    if checkpoint is not None and checkpoint.is_file():
        arrays, meta = load_arrays(checkpoint)
        if {k: v for k, v in meta.items() if k != "done"} == identity:
            leaves, tree = jax.tree.flatten(state)
            state = jax.tree.unflatten(tree, [arrays[str(i)] for i in range(len(leaves))])
            done = meta["done"]
    loss: Any = jnp.zeros(())
    while done < steps:
        epoch, offset = divmod(done, per_epoch)
        # A generator an epoch: where training goes on from a checkpoint, it draws the same batches.
        rng = np.random.default_rng([config.seed, epoch])
        count = min(per_epoch, steps - epoch * per_epoch)
        for index, (images, labels) in enumerate(
            dataset.training_batches(config.batch, rng, count)
        ):
            if index < offset:
                continue
            logits = teacher(images) if teacher else None
            state, loss = step(state, images, labels, logits)
            done += 1
            # Reading the loss waits for the step; every twentieth is often enough to notice.
            if done % 20 == 0 or done == steps:
                if not np.isfinite(loss):
                    raise Diverged(f"the loss was {loss} after {done} of {steps} steps")
                progress(done, steps, float(loss))
            if checkpoint is not None and done % checkpoint_every == 0 and done < steps:
                leaves = jax.tree.leaves(state)
                arrays = {str(i): leaf for i, leaf in enumerate(leaves)}
                save_arrays(checkpoint, arrays, {**identity, "done": done})
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return {**state.parameters, **state.statistics}
