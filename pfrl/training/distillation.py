"""Learning from a teacher: from its outputs, and from where its layers look."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pfrl.graph.source import Variables
from pfrl.tasks.classification import distillation_loss


class DistillationError(ValueError):
    """A teacher and a student that cannot be compared; the message says what is missing."""


class Observed(NamedTuple):
    """What a network answers, and what it went by.

    Attributes:
      outputs: of the network.
      features: by layer, what it reads: ``[N, ..., C]``, channels last.
    """

    outputs: Any
    features: dict[str, jax.Array]


def observed(
    run: Callable[..., tuple[Any, Variables]], layers: Collection[str]
) -> Callable[..., tuple[Observed, Variables]]:
    """The same network, answering with ``Observed``: for attention transfer.

    Args:
      run: ``run(variables, x, train, *extras, hook=hook) -> (outputs, statistics)``, which
        calls ``hook(name, activation, kernel) -> (activation, kernel)`` at every layer, such
        as ``functools.partial(pfrl.compress.run_graph, graph)``.
      layers: whose inputs are observed.

    Raises:
      DistillationError: when called, if a layer is not in the network.
    """

    def apply(variables: Variables, x: Any, train: bool, *extras: Any) -> Any:
        read: dict[str, jax.Array] = {}

        def hook(name: str, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
            read[name] = x
            return x, kernel

        outputs, statistics = run(variables, x, train, *extras, hook=hook)
        if missing := set(layers) - set(read):
            raise DistillationError(
                f"no layer '{min(missing)}' to observe; the network has {', '.join(read)}"
            )
        return Observed(outputs, {name: read[name] for name in layers}), statistics

    return apply


def outputs_of(answer: Any) -> Any:
    """The outputs in what a network answers, ``Observed`` or not."""
    return answer.outputs if isinstance(answer, Observed) else answer


def attention_map(activation: jax.Array) -> jax.Array:
    """Where a layer looks: ``[N, ..., C]`` to ``[N, positions]``, of Euclidean length 1.

    The sum of squares over the channels, so that networks with different channels can be
    compared, and channels that are masked to zero count for nothing. An activation that
    is zero everywhere gives zeros.
    """
    energy = jnp.square(activation).sum(-1).reshape(len(activation), -1)
    squared = jnp.square(energy).sum(-1, keepdims=True)
    return energy * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def attention_loss(student: Mapping[str, jax.Array], teacher: Mapping[str, jax.Array]) -> jax.Array:
    """Attention transfer (Zagoruyko & Komodakis 2017, arXiv 1612.03928).

    Mean squared difference of the attention maps over examples and positions, summed
    over the layers, as the authors' program has it.

    Raises:
      DistillationError: if the layers of both differ, or a layer's positions, or it has none.
    """
    if set(student) != set(teacher):
        raise DistillationError(
            f"the student's observed layers are {', '.join(student)}, the teacher's"
            f" {', '.join(teacher)}; observe the same ones"
        )
    total = jnp.zeros(())
    for name, activation in student.items():
        ours, theirs = activation.shape[:-1], teacher[name].shape[:-1]
        if ours != theirs or len(ours) < 2:
            raise DistillationError(
                f"layer '{name}' reads examples and positions {ours} in the student and"
                f" {theirs} in the teacher; expected the same, and at least one axis of positions"
            )
        difference = attention_map(activation) - attention_map(teacher[name])
        total += jnp.square(difference).mean()
    return total


class Distillation(NamedTuple):
    """How much a student learns from its teacher.

    The loss is ``(1 - weight) · loss + weight · divergence + attention · attention_loss``.

    Attributes:
      weight: of the teacher's outputs against the targets, 0 to 1.
      temperature: T, by which both distributions are softened (Hinton et al. 2015,
        arXiv 1503.02531). The factor T² of the divergence keeps the gradient's size
        independent of T.
      attention: of ``attention_loss``, for which student and teacher are ``observed``;
        1,000 is usual, 0 is none.
      divergence: ``(outputs, teacher's outputs, temperature) -> scalar``; for outputs
        that are no logits another one.
    """

    weight: float = 0.7
    temperature: float = 4.0
    attention: float = 0.0
    divergence: Callable[[Any, Any, float], jax.Array] = distillation_loss


def distilled(loss: jax.Array, student: Any, teacher: Any, distillation: Distillation) -> jax.Array:
    """The loss on the targets together with what ``distillation`` adds of the teacher's answer.

    Raises:
      DistillationError: if attention is to be transferred, and one of both was not ``observed``.
    """
    weight = distillation.weight
    soft = distillation.divergence(
        outputs_of(student), outputs_of(teacher), distillation.temperature
    )
    total = (1 - weight) * loss + weight * soft
    if not distillation.attention:
        return total
    if not (isinstance(student, Observed) and isinstance(teacher, Observed)):
        raise DistillationError(
            "attention transfer compares layers, and student or teacher gave outputs alone;"
            " make both with pfrl.training.distillation.observed"
        )
    return total + distillation.attention * attention_loss(student.features, teacher.features)
