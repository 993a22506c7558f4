"""What a user can set for ``pfrl pareto``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from experiments.settings.blocks import NetworkBlock, SettingsError, SpaceBlock
from experiments.settings.compression import CompressSettings, FinishConfig
from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.evaluation.config import EpisodeConfig


@dataclass(frozen=True)
class ParetoSettings:
    """Search at several limits of one metric, and keep what is best in accuracy and costs."""

    model: str = "resnet8"
    """A network of the zoo."""
    data: str = "digits"
    """Data set: digits, fashion_mnist, cifar10 or imagefolder:PATH (a folder or .zip)."""
    weights: Path | None = None
    """Trained weights (.npz). Default: those that come with the package for this model and data."""
    metric: Literal["macs", "params", "bytes", "bops", "latency"] = "macs"
    """What is limited."""
    limits: tuple[float, ...] = (0.3, 0.5, 0.7)
    """Its limits, as shares of the base network's, each with a search of its own. Those that are
    there already are not searched again with --resume."""
    knobs: tuple[Literal["keep", "weight_bits", "act_bits"], ...] = ("keep",)
    """What the agent decides at every layer."""
    agent: str = "ddpg"
    """Who searches: an agent of 'pfrl compress'."""
    episodes: int = 60
    """Evaluations of every search."""
    seed: int = 0
    """Seed of the searches and of all training."""
    latency: bool = True
    """Whether latency is one of the wishes; a model of it is measured at the start."""
    candidates: int = 3
    """Best policies of every search that are re-scored on images the reward did not use."""
    rescore_steps: int = 128
    """Fine-tuning steps of a re-scored policy."""
    keep_min: float = 0.2
    """Smallest share of a group's channels that a policy may keep, before rounding."""
    round_to: int = 4
    """Kept channels are a multiple of this."""
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    """What one evaluation does."""
    recipe: Recipe = REPAIRED
    """By which methods a policy is carried out."""
    pick: int | None = None
    """Row of the table whose policy is written to policy.json."""
    out: Path = Path("runs/pareto")
    """Directory of the results."""
    resume: bool = False
    """Go on with the searches in the directory, which must have the same settings."""

    def __post_init__(self) -> None:
        if not self.limits or not all(0 < limit <= 1 for limit in self.limits):
            raise SettingsError(
                f"limits are shares above 0 and up to 1, at least one; got {list(self.limits)}"
            )
        if len({folder_name(limit) for limit in self.limits}) < len(self.limits):
            raise SettingsError("limits differ by a hundredth at least; leave some out")
        if self.pick is not None and self.pick < 1:
            raise SettingsError(f"pick is a row of the table, from 1; got {self.pick}")
        if self.metric == "latency" and not self.latency:
            raise SettingsError("a limit of latency needs its model; leave out --no-latency")

    def at(self, limit: float) -> CompressSettings:
        """The settings of the search at a limit."""
        return CompressSettings(
            network=NetworkBlock(self.model, self.data, self.weights),
            target=f"{self.metric}={limit:g}",
            space=SpaceBlock(self.knobs, self.keep_min, self.round_to),
            reward="accuracy",
            agent=self.agent,
            episodes=self.episodes,
            seed=self.seed,
            out=self.out / folder_name(limit),
            resume=True,
            episode=self.episode,
            recipe=self.recipe,
            finish=FinishConfig(candidates=self.candidates, rescore_steps=self.rescore_steps),
        ).resolved()


def folder_name(limit: float) -> str:
    """Of the search at a limit."""
    return f"limit-{limit:.2f}"
