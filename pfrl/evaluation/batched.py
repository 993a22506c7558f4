"""Evaluations as one compiled call, for devices that are wider than one small network needs.

The masked network is the same function for every policy, so ``jax.vmap`` over what a policy is
(its variables and knobs) makes E of them one network of E times the width. All see the same
images, which stay on the device. Statistics, fine-tuning and answers are loops of one program
(``jax.lax.scan``): arrays go to the device once and come back once, marked as such
(``jax.device_put``, ``jax.device_get``), and nothing waits for Python in between. Where there are
several devices each has its share of the policies.

Sums are in another order than in a single evaluation, and each step of a fine-tuning enlarges the
difference: accuracies agree within what the images' number leaves open, not to the image.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from pfrl.compression.policy import Policy
from pfrl.evaluation.short_training import ShortTraining
from pfrl.methods.repair.batch_norm import reestimated
from pfrl.tasks import Task
from pfrl.tasks.judging import Images, Judged
from pfrl.training.mesh import mesh_for, replicate, share_out
from pfrl.training.step import TrainState


class Batched:
    """Statistics, fine-tuning and answers of E policies in one call; compiled once for every E.

    Args:
      training: the one of a single evaluation.
      task: says how good outputs are.
    """

    def __init__(self, training: ShortTraining, task: Task):
        self._training, self._task = training, task
        self._devices: dict[Mesh | None, _Devices] = {}

    def __call__(self, policies: Sequence[Policy], images: Images) -> list[Judged]:
        """Train policies shortly and judge them, in order, all images of every one.

        Args:
          policies: E of them.
          images: what they are judged on.
        """
        mesh = mesh_for(len(policies))
        if mesh not in self._devices:
            self._devices[mesh] = _Devices(self._training, mesh)
        devices = self._devices[mesh]
        # Maps of all images would be more than a device holds.
        first, *others = devices.shown(images, 1 if self._task.dense else len(images))
        starts = [self._training.begun(policy) for policy in policies]
        own = devices.shared_out([(start.variables, start.knobs) for start in starts])
        found, finite, variables = devices.evaluate(*own, *devices.trained_on, first)
        answers = [found, *(devices.answer(variables, own[1], part) for part in others)]
        finite, *answers = jax.device_get((finite, *answers))
        return [
            self._judged([batch for part in answers for batch in part[place]], images, whole)
            for place, whole in enumerate(finite)
        ]

    def _judged(self, answers: Sequence[np.ndarray], images: Images, finite: bool) -> Judged:
        """How good a policy's answers ``[N, ...]`` to every batch are."""
        parts = []
        for outputs, (_, targets) in zip(answers, images, strict=True):
            outputs = outputs[: len(targets)]
            finite = bool(finite and np.isfinite(outputs).all())
            parts.append(self._task.quality(outputs, targets))
        each = np.concatenate(parts)
        return Judged(float(each.mean()) if finite else 0.0, finite, exact=True, each=each)


class _Devices:
    """The programs for a number of devices, and the images that lie there.

    Attributes:
      trained_on: images that statistics are re-estimated from, and the batches of the fine-tuning.
      evaluate: compiled ``(variables, knobs, *trained_on, images [M, N, ...]) -> (outputs
        [E, M, N, ...], whether the loss is a number [E], variables)``; variables and knobs are
        those of E policies.
      answer: compiled ``(variables, knobs, images) -> outputs``.
    """

    def __init__(self, training: ShortTraining, mesh: Mesh | None):
        self._mesh = mesh
        estimating, batches = jax.device_get((list(training.estimating), list(training.batches)))
        tuning = _stacked(batches) if batches else None
        self.trained_on = self._everywhere((np.stack(estimating), tuning))
        self._shown: tuple[Any, int, list[Any]] = None, 0, []

        def evaluate(variables, knobs, estimating, tuning, images):
            tuned, finite = _tuned(training, variables, knobs, estimating, tuning)
            return answer(tuned, knobs, images), finite, tuned

        def answer(variables, knobs, images):
            return jax.lax.map(lambda x: training.functions.predict(variables, x, knobs), images)

        self.evaluate = self._over_policies(evaluate, shared=3)
        self.answer = self._over_policies(answer, shared=1)

    def shown(self, images: Images, at_once: int) -> list[Any]:
        """Batches of images on the devices, so many stacked as one array; moved there once."""
        known, number, found = self._shown
        if known is not images or number != at_once:
            starts = range(0, len(images), at_once)
            parts = [np.stack([x for x, _ in images[n : n + at_once]]) for n in starts]
            found = [self._everywhere(part) for part in parts]
            self._shown = images, at_once, found
        return found

    def shared_out(self, trees: Sequence[Any]) -> Any:
        """A tree for every policy as one whose arrays have an axis of policies, on the devices."""
        stacked = _stacked(jax.device_get(trees))
        return jax.device_put(stacked) if self._mesh is None else share_out(stacked, self._mesh)

    def _everywhere(self, tree: Any) -> Any:
        return jax.device_put(tree) if self._mesh is None else replicate(tree, self._mesh)

    def _over_policies(self, function: Callable[..., Any], shared: int) -> Callable[..., Any]:
        """``function`` of every policy's variables and knobs, and of arguments that all share."""
        mapped = jax.vmap(function, in_axes=(0, 0, *[None] * shared))
        if self._mesh is not None:
            own, everywhere = PartitionSpec(self._mesh.axis_names), PartitionSpec()
            mapped = jax.shard_map(
                mapped,
                mesh=self._mesh,
                in_specs=(own, own, *[everywhere] * shared),
                out_specs=own,
                check_vma=False,
            )
        return jax.jit(mapped)


def _tuned(
    training: ShortTraining, variables: Any, knobs: Any, estimating: Any, tuning: Any
) -> tuple[Any, jax.Array]:
    """A policy's variables after its fine-tuning, and whether the loss is a number; traced."""
    functions = training.functions
    if training.base.familiar:
        found = reestimated(functions.statistics, variables, training.momentum, estimating, knobs)
        variables = {**variables, **training.base.changed(found)}
    if tuning is None:
        return variables, jnp.asarray(True)
    trainable = training.network.trainable
    parameters = {k: v for k, v in variables.items() if k in trainable}
    statistics = {k: v for k, v in variables.items() if k not in trainable}
    state = TrainState(parameters, statistics, training.optimizer.init(parameters), jnp.int32(0))

    def step(state: TrainState, batch: tuple[Any, Any]) -> tuple[TrainState, jax.Array]:
        return functions.step(state, *batch, None, knobs)

    state, losses = jax.lax.scan(step, state, tuning)
    return {**state.parameters, **state.statistics}, jnp.isfinite(losses[-1])


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
