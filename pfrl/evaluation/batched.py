"""Many policies evaluated at once, for devices that are wider than one small network needs.

The masked network is the same function for every policy, so ``jax.vmap`` over what a policy is
(its variables and knobs) makes E of them one network of E times the width. All see the same
images. Fine-tuning takes the compiled step of a single evaluation, policy by policy: with sums
in another order differences grow fivefold with every step, to some images after 16. For GPUs
and TPUs: on a CPU a batch takes longer than its parts one after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.compression.masked import Knobs
from pfrl.data import Dataset
from pfrl.evaluation.validation import Images, Judged
from pfrl.graph import Variables
from pfrl.methods.repair.batch_norm import reestimate
from pfrl.training.backend import compiled
from pfrl.training.step import TrainState

Step = Callable[..., tuple[TrainState, jax.Array]]


class Together:
    """Statistics, fine-tuning and validation of E policies; compiled once for every E.

    Args:
      apply: the masked network, of ``variables, x, train, knobs``.
      step: a train step of it, compiled: the one that a single evaluation takes.
      momentum: of every statistic; see ``pfrl.methods.repair.batch_norm``.
      estimating: images that statistics are re-estimated from.
      tuning: batches of the fine-tuning, images and targets.
      dataset: whose task says how good outputs are.
    """

    def __init__(
        self,
        apply: Callable[..., tuple[Any, Variables]],
        step: Step,
        momentum: Mapping[str, float],
        estimating: Sequence[Any],
        tuning: Sequence[tuple[Any, Any]],
        dataset: Dataset,
    ):
        def over_policies(function: Callable[..., Any], images: int) -> Callable[..., Any]:
            axes = (0, *[None] * images, 0)
            return compiled(jax.vmap(function, in_axes=axes))

        self._statistics = over_policies(lambda v, x, knobs: apply(v, x, True, knobs)[1], 1)
        self._predict = over_policies(lambda v, x, knobs: apply(v, x, False, knobs)[0], 1)
        self._step = step
        self._momentum, self._dataset = momentum, dataset
        self._estimating, self._tuning = estimating, tuning

    def __call__(
        self, states: Sequence[TrainState], knobs: Sequence[Knobs], images: Images
    ) -> list[Judged]:
        """Judge policies by where their training starts; in order, all images of every one."""
        state, chosen = _stacked(states), _stacked(knobs)
        found = reestimate(
            self._statistics,
            {**state.parameters, **state.statistics},
            self._momentum,
            self._estimating,
            chosen,
        )
        state = state._replace(statistics={**state.statistics, **found})
        if not self._tuning:
            return self._validated(state, chosen, images, np.ones(len(states), bool))
        tuned, losses = [], []
        for place, own in enumerate(knobs):
            one, loss = jax.tree.map(lambda leaf, place=place: leaf[place], state), None
            for x, targets in self._tuning:
                one, loss = self._step(one, x, targets, None, own)
            tuned.append(one)
            losses.append(loss)
        state, loss = _stacked(tuned), jnp.stack(losses)
        return self._validated(state, chosen, images, np.isfinite(loss))

    def _validated(
        self, state: TrainState, knobs: Knobs, images: Images, finite: np.ndarray
    ) -> list[Judged]:
        variables = {**state.parameters, **state.statistics}
        totals, count = np.zeros(len(finite)), 0
        for x, targets in images:
            answers = np.asarray(self._predict(variables, x, knobs))[:, : len(targets)]
            finite = finite & np.isfinite(answers).reshape(len(finite), -1).all(axis=1)
            totals += [self._dataset.task.quality(own, targets).sum() for own in answers]
            count += len(targets)
        qualities = totals / max(count, 1)
        return [
            Judged(float(quality), bool(whole), exact=True)
            for quality, whole in zip(qualities, finite, strict=True)
        ]


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
