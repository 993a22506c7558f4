"""What a user can set for ``pfrl pareto``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import tyro

from experiments.settings.blocks import (
    CommandSettings,
    Flat,
    KeepShare,
    NetworkBlock,
    SettingsError,
    SpaceBlock,
)
from experiments.settings.compression import PointsOfLoss
from experiments.settings.launching import LaunchBlock
from experiments.settings.study import StudySettings
from pfrl.bounds import Count, Whole
from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.cost.budget import Budget
from pfrl.evaluation.config import EpisodeConfig


@dataclass(frozen=True)
class ParetoSettings(StudySettings):
    """Search at several limits of one metric, and keep what is best in accuracy and costs."""

    FREE: ClassVar = ("limits", "pick", "launch", "out")

    network: Flat[NetworkBlock] = field(default_factory=NetworkBlock)
    metric: str = "macs"
    """What is limited: macs, params, bytes, litert, bops, latency, or a metric of your own."""
    limits: tuple[KeepShare, ...] = (0.3, 0.5, 0.7)
    """Its limits, as shares of the base network's."""
    portable: bool = False
    """As of 'compress': let the agent see only what is as long for every network."""
    space: Flat[SpaceBlock] = field(default_factory=lambda: SpaceBlock(("keep",)))
    agent: str = "ddpg"
    """Who searches: an agent of 'pfrl compress'."""
    episodes: Count = 60
    """Evaluations for every limit."""
    one_search: bool = True
    """Whether one search serves all limits, with the evaluations of all: every episode draws its
    limit between the lowest and the highest. That finds better networks, and takes longer where
    searches at several limits would share the cores. Agents that do not learn, but for nsga2 and
    motpe, search at every limit anyway."""
    seed: Whole = 0
    """Seed of the searches and of all training."""
    latency: bool = True
    """Whether latency is one of the objectives; a model of it is measured at the start."""
    candidates: Count = 3
    """Best policies of every search that are re-scored on images the reward did not use."""
    rescore_steps: Whole = 128
    """Fine-tuning steps of a re-scored policy."""
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    """What one evaluation does."""
    recipe: Recipe = REPAIRED
    """By which methods a policy is carried out."""
    pick: Count | None = None
    """Row of the table whose policy is written to policy.json."""
    launch: Flat[LaunchBlock] = field(default_factory=LaunchBlock)
    out: Path = Path("runs/pareto")
    """Directory of the results. The same command goes on with what is there, and may ask for more
    limits or pick a row; another one is refused."""

    def resolved(self) -> Self:
        settings = super().resolved()
        for limit in self.limits:
            Budget.parse(f"{self.metric}={limit:g}")
        if len({folder_name(limit) for limit in self.limits}) < len(self.limits):
            raise SettingsError("limits differ by a hundredth at least; leave some out")
        if self.metric == "latency" and not self.latency:
            raise SettingsError("a limit of latency needs its model; leave out --no-latency")
        return settings


@dataclass(frozen=True)
class PickSettings(CommandSettings):
    """Take a policy for a limit, or for a loss, from a finished run or study, at once."""

    run_dir: tyro.conf.Positional[Path]
    """A directory that 'compress', 'pareto' or 'sweep' wrote."""
    target: str = "macs"
    """METRIC=VALUE, as of 'compress': the best policy that meets it. With --max-drop the metric
    alone, or a limit besides."""
    max_drop: PointsOfLoss | None = None
    """The cheapest policy that lost at most so many points on the search images, such as 1.0."""
    plan: bool = False
    """Whether to take what the agent of 'pareto' plans for the target, which nobody
    has evaluated, in place of what was evaluated."""
    out: Path | None = None
    """File of the policy. Default: picked/policy.json in the directory."""

    def resolved(self) -> Self:
        """See ``CommandSettings``.

        Raises:
          SettingsError: if nothing says what is wanted, or a plan is to keep a loss.
        """
        if "=" not in self.target and self.max_drop is None:
            raise SettingsError(
                f"give --target a limit, such as {self.target}=0.37, or --max-drop POINTS"
            )
        if self.plan and self.max_drop is not None:
            raise SettingsError("nobody knows what a plan loses; leave out --plan or --max-drop")
        return super().resolved()


def folder_name(limit: float) -> str:
    """Of the search at a limit."""
    return f"limit-{limit:.2f}"
