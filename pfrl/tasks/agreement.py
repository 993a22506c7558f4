"""Images without labels: a network is judged by how far it answers as its teacher does."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.tasks.base import ANY, TargetError, Wording
from pfrl.tasks.classification import distillation_loss, of_probabilities
from pfrl.tasks.losses import logits_of
from pfrl.tasks.outputs import as_one

_NAMES = "Classes"


@dataclass(frozen=True)
class Unlabelled:
    """Images of which nobody has said what they show; a teacher has to answer first.

    It stands in a data set until ``pfrl.data.taught`` has put a teacher's answers into it.
    """

    dense = False
    invariant = True
    wording = Wording("agreement", False, "", "agree on", "outputs", "print(outputs)", _NAMES)

    def outputs(self, classes: int) -> int:
        return ANY

    def check(self, targets: np.ndarray, names: int) -> None:
        raise TargetError("no labels; expected images:FOLDER for images without labels")

    def _untaught(self, *_: Any) -> Any:
        raise TargetError("the images have no labels and nobody has answered for them")

    loss: Any = _untaught
    divergence: Any = _untaught
    quality: Any = _untaught
    agree: Any = _untaught


@dataclass(frozen=True)
class Agreement:
    """Outputs are logits ``[N, K]``, targets the teacher's ``[N, K]``.

    Attributes:
      probabilities: whether both are probabilities, since the network ends in a softmax.
    """

    probabilities: bool = field(default=False, kw_only=True)

    dense = False
    invariant = True
    wording = Wording(
        metric="agreement",
        error=False,
        definition=(
            "Agreement is the share of images for which a network names the same class as the base"
            " network; the images have no labels, so that this is no accuracy."
        ),
        agreement="name the same class for",
        outputs="logits",
        reading="print(logits.argmax(-1))  # class numbers",
        names=_NAMES,
    )

    def __post_init__(self) -> None:
        if self.probabilities:
            object.__setattr__(self, "wording", of_probabilities(self.wording))

    def outputs(self, classes: int) -> int:
        return classes or ANY

    def check(self, targets: np.ndarray, names: int) -> None:
        if targets.ndim != 2 or targets.dtype.kind != "f" or targets.shape[1] < 2:
            raise TargetError(
                f"targets {targets.dtype} {list(targets.shape)}, expected a teacher's logits"
                " [N, K] of two classes at least"
            )

    def loss(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Distillation at temperature 1: the mean divergence from the teacher's probabilities."""
        return self.divergence(outputs, targets, 1.0)

    def divergence(self, outputs: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
        """``T² · KL`` of the softened distributions."""
        if self.probabilities:
            outputs, teacher = logits_of(outputs), logits_of(teacher)
        return distillation_loss(outputs, teacher, temperature)

    def quality(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """1 where the largest output is where the teacher's is, else 0."""
        return self.agree(outputs, targets).astype(float)

    def agree(self, outputs: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Where both name the same class."""
        return np.asarray(outputs).argmax(-1) == np.asarray(others).argmax(-1)


@dataclass(frozen=True)
class Likeness:
    """Outputs of any meaning ``[N, ...]``, targets the teacher's; maps if ``dense``.

    Several outputs count alike, however many numbers each has, and are compared in a row (see
    ``pfrl.tasks.outputs``): ``sizes`` says how many numbers of an example each of them is.
    """

    dense: bool = False
    sizes: tuple[int, ...] = ()

    wording = Wording(
        metric="agreement",
        error=False,
        definition=(
            "Agreement is 1 minus the squared difference of the outputs from the base network's,"
            " as a share of the squares of those, on average over the outputs; the images have no"
            " labels, so that this is no accuracy."
        ),
        agreement="agree to a hundredth on",
        outputs="outputs",
        reading="print(outputs)",
        names="Outputs",
    )

    @property
    def invariant(self) -> bool:
        """Maps move with the image."""
        return not self.dense

    def outputs(self, classes: int) -> int:
        return classes or ANY

    def check(self, targets: np.ndarray, names: int) -> None:
        if targets.ndim < 2 or targets.dtype.kind != "f":
            raise TargetError(
                f"targets {targets.dtype} {list(targets.shape)}, expected a teacher's outputs"
                " [N, ...]"
            )

    def loss(self, outputs: Any, targets: jax.Array) -> jax.Array:
        """Squared difference over the square of the targets, both summed over the batch; the mean
        over several outputs."""
        shares = [
            jnp.square(ours - theirs).sum() / jnp.maximum(jnp.square(theirs).sum(), 1e-12)
            for ours, theirs in self._parts(as_one(outputs), as_one(targets))
        ]
        return jnp.stack(shares).mean()

    def divergence(self, outputs: Any, teacher: jax.Array, temperature: float) -> jax.Array:
        """As the loss; a temperature is for classes."""
        return self.loss(outputs, teacher)

    def quality(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """One minus the squared difference over the square of the targets, but 0 at least."""
        return np.mean([np.clip(1 - one, 0, 1) for one in self._shares(outputs, targets)], 0)

    def agree(self, outputs: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Where the difference is a hundredth of the length of every output at most."""
        return np.sqrt(np.max(self._shares(outputs, others), 0)) <= 0.01

    def _shares(self, outputs: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
        """By output the squared difference over the square of the targets, of every example."""
        flat = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (outputs, targets))
        return [
            np.square(ours - theirs).sum(1) / np.maximum(np.square(theirs).sum(1), 1e-12)
            for ours, theirs in self._parts(*flat)
        ]

    def _parts(self, outputs: Any, targets: Any) -> list[tuple[Any, Any]]:
        """Both by output."""
        ends = np.cumsum(self.sizes)
        starts = ends - self.sizes
        cuts = [slice(a, b) for a, b in zip(starts, ends, strict=True)] or [...]
        return [(outputs[:, cut], targets[:, cut]) for cut in cuts]
