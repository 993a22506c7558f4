"""What a user can set for ``pfrl pareto``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from agents import AGENTS, AgentError
from experiments.settings.blocks import SettingsError
from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.evaluation.config import EpisodeConfig

LEAST = {"episodes": 1, "candidates": 1, "rescore_steps": 0, "seed": 0, "workers": 0}
"""Of settings that are whole numbers."""


@dataclass(frozen=True)
class ParetoSettings:
    """Search at several limits of one metric, and keep what is best in accuracy and costs."""

    FREE: ClassVar = ("limits", "pick", "workers", "out")
    """What may change when a study goes on."""

    model: str = "resnet8"
    """A network of the zoo."""
    data: str = "digits"
    """Data set: digits, fashion_mnist, cifar10 or imagefolder:PATH (a folder or .zip)."""
    weights: Path | None = None
    """Trained weights (.npz). Default: those that come with the package for this model and data."""
    metric: Literal["macs", "params", "bytes", "bops", "latency"] = "macs"
    """What is limited."""
    limits: tuple[float, ...] = (0.3, 0.5, 0.7)
    """Its limits, as shares of the base network's, each with a search of its own."""
    knobs: tuple[Literal["keep", "weight_bits", "act_bits"], ...] = ("keep",)
    """What the agent decides at every layer."""
    agent: str = "ddpg"
    """Who searches: an agent of 'pfrl compress'."""
    episodes: int = 60
    """Evaluations of every search."""
    seed: int = 0
    """Seed of the searches and of all training."""
    latency: bool = True
    """Whether latency is one of the objectives; a model of it is measured at the start."""
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
    workers: int = 0
    """Processes, each on a core of its own. Default: one a core."""
    out: Path = Path("runs/pareto")
    """Directory of the results. The same command goes on with what is there, and may ask for more
    limits or pick a row; another one is refused."""

    def __post_init__(self) -> None:
        if self.agent not in AGENTS:
            raise AgentError(f"unknown agent '{self.agent}'; expected one of {', '.join(AGENTS)}")
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise SettingsError(
                    f"{name} is a whole number from {least}, got {getattr(self, name)}"
                )
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


def folder_name(limit: float) -> str:
    """Of the search at a limit."""
    return f"limit-{limit:.2f}"
