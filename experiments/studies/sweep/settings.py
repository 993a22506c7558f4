"""What a user can set for ``pfrl sweep``."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

from experiments.settings.blocks import Flat, LengthBlock, NetworkBlock, SpaceBlock
from experiments.settings.launching import LaunchBlock
from experiments.settings.study import StudySettings
from pfrl.bounds import Count, Positive, Whole
from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.evaluation.config import EpisodeConfig

EPISODES = 150
"""Of a search whose length nobody says."""


@dataclass(frozen=True)
class SweepSettings(StudySettings):
    """Compare searchers with equal evaluation budgets, targets and seeds."""

    FREE: ClassVar = ("agents", "targets", "seeds", "launch", "out")

    network: Flat[NetworkBlock] = field(default_factory=lambda: NetworkBlock("resnet20", "cifar10"))
    agents: tuple[str, ...] = ("uniform", "random", "ddpg", "ppo")
    """Who searches: agents of 'pfrl compress'."""
    targets: tuple[str, ...] = ("macs=0.5",)
    """Budgets, as of 'pfrl compress'."""
    reward: str = "accuracy"
    """What episodes are rewarded by, and by what the best policy is chosen: accuracy, -error,
    -error*log(macs), haq, or one of your own."""
    seeds: tuple[Whole, ...] = (0, 1, 2, 3, 4)
    """Of the searches, and of the fine-tuning of what they find."""
    length: Flat[LengthBlock] = field(default_factory=LengthBlock)
    space: Flat[SpaceBlock] = field(default_factory=lambda: SpaceBlock(("keep",), round_to=1))
    episode: EpisodeConfig = field(default_factory=lambda: EpisodeConfig(fidelity="reconstruct"))
    """What one evaluation does."""
    recipe: Recipe = REPAIRED
    """By which methods a policy is carried out."""
    tuning_images: Count = 6_000
    """Training images of the fine-tuning before the test."""
    learning_rate: Positive = 0.02
    """Learning rate that the fine-tuning begins with."""
    launch: Flat[LaunchBlock] = field(default_factory=LaunchBlock)
    out: Path = Path("runs/sweep")
    """Where histories, search.csv and search.md go. The same command goes on with what is
    there, and may ask for more agents, targets and seeds; another one is refused."""

    def resolved(self) -> Self:
        """See ``StudySettings``."""
        settings = super().resolved()
        return replace(settings, length=settings.length.filled(EPISODES))
