"""Many policies evaluated at once, for devices that are wider than one small network needs.

The masked network is the same function for every policy, so ``jax.vmap`` over what a policy is
(its variables and knobs) makes E of them one network of E times the width. All see the same
images. Fine-tuning takes the compiled step of a single evaluation, policy by policy: with sums
in another order differences grow fivefold with every step, to some images after 16. For GPUs
and TPUs: on a CPU a batch takes longer than its parts one after the other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.compression.masked import Knobs
from pfrl.compression.policy import Policy
from pfrl.cpu.backend import compiled
from pfrl.evaluation.short_training import ShortTraining
from pfrl.methods.repair.batch_norm import reestimate
from pfrl.tasks import Task
from pfrl.tasks.judging import Images, Judged
from pfrl.training.step import TrainState


class Batched:
    """Statistics, fine-tuning and validation of E policies; compiled once for every E.

    Args:
      training: the one of a single evaluation.
      task: says how good outputs are.
    """

    def __init__(self, training: ShortTraining, task: Task):
        apply = training.network.apply

        def over_policies(function: Callable[..., Any]) -> Callable[..., Any]:
            return compiled(jax.vmap(function, in_axes=(0, None, 0)))

        self._statistics = over_policies(lambda v, x, knobs: apply(v, x, True, knobs)[1])
        self._predict = over_policies(lambda v, x, knobs: apply(v, x, False, knobs)[0])
        self._training, self._task = training, task

    def __call__(self, policies: Sequence[Policy], images: Images) -> list[Judged]:
        """Train policies shortly and judge them, in order, all images of every one.

        Args:
          policies: E of them.
          images: what they are judged on.
        """
        training = self._training
        masked = [training.masked(policy) for policy in policies]
        state, knobs = _stacked([m.state for m in masked]), _stacked([m.knobs for m in masked])
        found = reestimate(
            self._statistics,
            {**state.parameters, **state.statistics},
            training.momentum,
            training.estimating,
            knobs,
        )
        state = state._replace(statistics={**state.statistics, **found})
        if not training.batches:
            return self._validated(state, knobs, images, np.ones(len(policies), bool))
        tuned, losses = [], []
        for place, own in enumerate(masked):
            one, loss = jax.tree.map(lambda leaf, place=place: leaf[place], state), None
            for x, targets in training.batches:
                one, loss = training.step(one, x, targets, None, own.knobs)
            tuned.append(one)
            losses.append(loss)
        state, loss = _stacked(tuned), jnp.stack(losses)
        return self._validated(state, knobs, images, np.isfinite(loss))

    def _validated(
        self, state: TrainState, knobs: Knobs, images: Images, finite: np.ndarray
    ) -> list[Judged]:
        variables = {**state.parameters, **state.statistics}
        totals, count = np.zeros(len(finite)), 0
        for x, targets in images:
            answers = np.asarray(self._predict(variables, x, knobs))[:, : len(targets)]
            finite = finite & np.isfinite(answers).reshape(len(finite), -1).all(axis=1)
            totals += [self._task.quality(own, targets).sum() for own in answers]
            count += len(targets)
        qualities = totals / max(count, 1)
        return [
            Judged(float(quality) if whole else 0.0, bool(whole), exact=True)
            for quality, whole in zip(qualities, finite, strict=True)
        ]


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
