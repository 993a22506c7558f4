"""The settings that experiments begin with at each scale: they differ in numbers alone."""

from collections.abc import Mapping
from typing import Any

from experiments.ablations.experiment import SCALES, Scale, Shared, changed
from experiments.settings.blocks import LengthBlock, NetworkBlock, SpaceBlock
from pfrl.compression.recipe import Recipe
from pfrl.evaluation.config import EpisodeConfig

BASE: Mapping[Scale, Shared] = {
    "smoke": Shared(
        network=NetworkBlock("resnet8", "digits"),
        length=LengthBlock(episodes=8),
        space=SpaceBlock(("keep",), round_to=4),
        episode=EpisodeConfig("reconstruct", search_images=120, statistics_images=64),
        recipe=Recipe(repair="least_squares", images=200),
        tuning_images=256,
    ),
    "small": Shared(
        network=NetworkBlock("resnet20", "cifar10"),
        length=LengthBlock(episodes=60),
        space=SpaceBlock(("keep",), round_to=1),
        episode=EpisodeConfig("reconstruct", search_images=2_000),
        tuning_images=12_800,
    ),
    "paper": Shared(
        network=NetworkBlock("resnet56", "cifar10"),
        length=LengthBlock(episodes=400),
        space=SpaceBlock(("keep",), round_to=1),
        episode=EpisodeConfig("reconstruct", search_images=4_000),
        tuning_images=4_500_000,
    ),
}
"""AMC searches for 400 episodes on 5,000 images; 4.5 million images are 100 epochs of CIFAR-10."""

SHARES: Mapping[Scale, float] = {"smoke": 0.12, "small": 0.3, "paper": 0.5}
HARD = {scale: {"targets": (f"macs={share}",)} for scale, share in SHARES.items()}
"""Limits at which policies of a scale's network differ enough to be told apart."""

SECONDS: Mapping[Scale, tuple[float, float]] = {
    "smoke": (0.03, 1.0),
    "small": (1.0, 45.0),
    "paper": (0.5, 3_600.0),
}
"""By scale what an evaluation and what the rest of a job takes, about, on one core (on the GPU
for 'paper', where nothing was measured yet)."""


def at_scales(**changes: Mapping[str, Any]) -> dict[Scale, Shared]:
    """The settings of every scale, with other values at some paths.

    Args:
      changes: by scale, or 'every' for all, what ``changed`` takes.
    """
    every = changes.get("every", {})
    return {scale: changed(changed(BASE[scale], every), changes.get(scale, {})) for scale in SCALES}
