"""What one evaluation does, and what it yields: plain data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

from pfrl.bounds import Count, NotNegative, Positive, Whole
from pfrl.compression.recipe import Recipe
from pfrl.deploy.runtimes.base import RUNTIMES
from pfrl.training.config import Precision

Fidelity = Literal["reconstruct", "finetune", "supernet"]
FEW_STEPS, MANY_STEPS = 4, 16
"""Steps of fine-tuning after a repair that leaves little to be done, and else."""
GHOSTS = 2
"""Parts of a fine-tuning batch."""


@dataclass(frozen=True)
class EpisodeConfig:
    """What one evaluation does."""

    fidelity: Fidelity | Literal["auto"] = "auto"
    """How the network of a policy comes by its numbers: closed-form least squares and statistics
    re-estimated, without a gradient step; the same and then fine-tuning (without least squares, if
    the recipe's repair is none); or as a part of one network that was trained once under random
    policies. auto is finetune, but reconstruct for pictures of more than 128 pixels a side on a
    CPU, where a gradient step takes seconds."""
    steps: Whole | None = None
    """Steps of fine-tuning; the other fidelities have none. Default: 4 where channels alone
    go and are repaired, which rank policies as 16 do; else 16."""
    batch: Count = 64
    """Images a fine-tuning step."""
    ghost_batches: Count | None = None
    """Parts of a fine-tuning batch that are normalised each by its own statistics, and whose
    gradients are averaged (ghost batch normalization, Hoffer et al. 2017). On a CPU every part
    is a core's work; 1 does without. Default: 2, but 4 for pictures of more than 128 pixels a side
    on a CPU, which take less memory so."""
    learning_rate: Positive = 0.005
    """Constant learning rate of the fine-tuning (Nesterov SGD, momentum 0.9). A larger one takes
    more in some ten steps than they give."""
    weight_decay: NotNegative = 5e-4
    """On kernels only."""
    statistics_images: Count = 256
    """Training images that batch-normalisation statistics are re-estimated from."""
    search_images: Count = 2_000
    """Images of the search split that the reward uses; the others are kept for re-scoring."""
    validation: str = "auto"
    """The runtime that judges: xla on the masked network; onnx, openvino, litert
    (float32) or openvino-bf16 (bfloat16 products) on the sliced one; onnx-int8 or litert-int8 on
    the file of integers of a rounded one; or auto, on a CPU whichever is fastest and agrees with
    XLA to a tenth of a point (integers with their simulation to half of one), measured once at the
    start, and elsewhere xla."""
    precision: Precision | Literal["auto"] = "auto"
    """Of the products in fine-tuning and in XLA's judging: all digits; those of TensorFloat-32, for
    GPUs; or bfloat16, with sums of float32, for GPUs, TPUs and CPUs with AMX or of AMD's Zen 4.
    Fewer digits are faster, and may rank close policies otherwise. auto is all digits; but networks
    without bit widths, on such a CPU, are fine-tuned and their statistics re-estimated in
    bfloat16."""
    early_stop: Literal["never", "bound", "race"] = "never"
    """When judging ends before all images were seen: as soon as the best accuracy so far is out of
    reach (bound), or the policy is behind the best one on their common images (race); see
    ``pfrl.evaluation.early_stopping``. Such an accuracy is an estimate."""
    supernet_steps: Count = 400
    """Training steps of the shared network of the fidelity supernet."""
    supernet_learning_rate: Positive = 0.02
    """Of the first of these steps; it falls as a cosine."""

    def __post_init__(self) -> None:
        """Raises RegistryError if there is no such runtime."""
        if self.validation != "auto":
            RUNTIMES[self.validation]

    def suited(self, input_shape: Sequence[int], recipe: Recipe, altered: bool) -> Self:
        """The same with a fidelity in place of 'auto', and numbers of steps and ghost batches.

        Args:
          input_shape: of one input of the network, ``[H, W, C]`` of an image.
          recipe: by which policies are carried out.
          altered: whether weights that stay may be rounded, or some of them be zeros.
        """
        # They import JAX, of which settings know nothing.
        from pfrl.cpu.backend import parts_of_batch, slow_steps

        fidelity, steps, ghosts = self.fidelity, self.steps, self.ghost_batches
        if fidelity == "auto":
            fidelity = "reconstruct" if slow_steps(input_shape) else "finetune"
        if steps is None:
            steps = MANY_STEPS if altered or recipe.repair == "none" else FEW_STEPS
        if ghosts is None:
            ghosts = parts_of_batch(input_shape, GHOSTS)
        return replace(self, fidelity=fidelity, steps=steps, ghost_batches=ghosts)

    @property
    def tuning_steps(self) -> int:
        """Gradient steps of one evaluation; of a ``suited`` configuration."""
        assert self.fidelity != "auto"
        if self.fidelity != "finetune":
            return 0
        assert self.steps is not None
        return self.steps

    @property
    def statistics_batches(self) -> int:
        """Batches that batch-normalisation statistics are re-estimated from."""
        return max(self.statistics_images // self.batch, 1)

    def images_each(self, searched: int) -> int:
        """Images that a whole evaluation looks at: trained on, estimated from, and judged.

        Args:
          searched: images of the search split.
        """
        trained = (self.tuning_steps + self.statistics_batches) * self.batch
        return trained + judged_images(searched, self.search_images)

    def carried_out(self, recipe: Recipe) -> Recipe:
        """Reconstruction is a repair; what was trained under all policies needs none."""
        if self.fidelity == "supernet":
            return replace(recipe, repair="none")
        if self.fidelity == "reconstruct" and recipe.repair == "none":
            return replace(recipe, repair="least_squares")
        return recipe


def judged_images(searched: int, count: int) -> int:
    """Images that rewards use: ``count``, but at most four fifths of the search split's."""
    return min(count, searched * 4 // 5)


class Evaluation(NamedTuple):
    """What a policy yielded.

    Attributes:
      accuracy: share of right answers on the search images, 0 if it diverged.
      costs: by metric.
      seconds: wall clock; of an evaluation from the cache, what it took when it was made.
      diverged: whether a loss or a logit was no number.
      exact: whether all search images were judged.
      images: that it looked at, to train on and to judge; of an evaluation from the cache, those
        that it looked at when it was made. 0 where nobody counts.
    """

    accuracy: float
    costs: dict[str, float]
    seconds: float
    diverged: bool
    exact: bool = True
    images: int = 0
