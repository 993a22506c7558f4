"""What a user can set for ``pfrl methods``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from experiments.settings.blocks import Flat, NetworkBlock
from experiments.settings.launching import LaunchBlock
from experiments.settings.study import StudySettings
from pfrl.bounds import Count, Positive

SectionName = Literal["channels", "sparsity", "rounding", "bits", "codebooks", "together"]


@dataclass(frozen=True)
class MethodsSettings(StudySettings):
    """Compare channel criteria, sparsity, bit widths and codebooks after the same fine-tuning."""

    FREE: ClassVar = ("sections", "seeds", "launch", "out")

    network: Flat[NetworkBlock] = field(
        default_factory=lambda: NetworkBlock("resnet20", "fashion_mnist")
    )
    sections: tuple[SectionName, ...] = (
        "channels",
        "sparsity",
        "rounding",
        "bits",
        "codebooks",
        "together",
    )
    """Which parts of the comparison."""
    seeds: Count = 3
    """How often everything is repeated."""
    images: Count = 8_000
    """Training images of a fine-tuning, those that come twice counted twice."""
    learning_rate: Positive = 0.02
    """Peak learning rate of the fine-tuning."""
    out: Path = Path("runs/methods")
    """Directory of results.jsonl, one line a network, and methods.md. The same command goes on with
    what is there, and may ask for more sections and seeds; another one is refused."""
    launch: Flat[LaunchBlock] = field(default_factory=LaunchBlock)
