"""What a user can set for ``pfrl apply``: a policy in place of a search."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from experiments.settings.blocks import (
    BitWidth,
    CommandSettings,
    Flat,
    KeepShare,
    NetworkBlock,
    SettingsError,
)
from experiments.settings.compression import FinishConfig
from pfrl.bounds import BelowOne, Count, Whole
from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.evaluation.config import EpisodeConfig


@dataclass(frozen=True)
class ApplySettings(CommandSettings):
    """Carry out a policy without a search: slice, fine-tune, export, measure, report."""

    FREE: ClassVar = ("out",)
    """What may change when a run goes on."""

    network: Flat[NetworkBlock] = field(default_factory=NetworkBlock)
    policy: Path | None = None
    """The policy.json of a run, or of your own making: in place of the next three."""
    keep: KeepShare | None = None
    """Share of its channels that every group keeps. Default: all."""
    bits: BitWidth | None = None
    """Bit width of weights and activations of every layer. Default: none is quantized."""
    sparsity: BelowOne | None = None
    """Share of every layer's weights that are zero. Default: none."""
    edge_bits: BitWidth = 8
    """Bit width of the first and the last layer, where --bits is less."""
    round_to: Count = 4
    """Kept channels are a multiple of this."""
    decompose: str | None = None
    """How layers were decomposed (svd, channel or spatial) that the policy gives ranks to."""
    seed: Whole = 0
    """Seed of the training."""
    out: Path = Path("runs/apply")
    """Run directory. The same command goes on with what is there; another one is refused."""
    statistics_images: Count = EpisodeConfig.statistics_images
    """Training images that batch-normalisation statistics are re-estimated from."""
    recipe: Recipe = REPAIRED
    """By which methods the policy is carried out."""
    finish: FinishConfig = field(default_factory=FinishConfig)
    """The training in full."""
    controls: bool = False
    """Whether the base and the uniform policy of as many MACs get this training too."""

    def resolved(self) -> "ApplySettings":
        """See ``CommandSettings``.

        Raises:
          SettingsError: if nothing says what is to be done, or two options do.
        """
        super().resolved()
        simple = [name for name in ("keep", "bits", "sparsity") if getattr(self, name) is not None]
        if self.policy is None and not simple:
            raise SettingsError(
                "nothing says what to do with the network; give --policy FILE, or --keep, --bits or"
                " --sparsity"
            )
        if self.policy is not None and simple:
            raise SettingsError(
                f"--policy and --{simple[0]} both say what to do; leave one of them out"
            )
        return self
