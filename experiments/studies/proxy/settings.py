"""What a user can set for ``pfrl proxy``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from experiments.settings.blocks import Flat, KeepShare, NetworkBlock, SettingsError
from experiments.settings.launching import LaunchBlock
from experiments.settings.study import StudySettings
from pfrl.bounds import Bounds, Count, Positive, Whole


@dataclass(frozen=True)
class ProxySettings(StudySettings):
    """Compare the ranks that each fidelity gives to policies of equal cost with those after a
    long fine-tuning."""

    FREE: ClassVar = ("policies", "fidelities", "launch", "out")

    network: Flat[NetworkBlock] = field(
        default_factory=lambda: NetworkBlock("resnet20", "fashion_mnist")
    )
    target: str = "macs=0.5"
    """Cost that all policies have: METRIC=VALUE with macs, params, bytes or bops."""
    policies: Annotated[int, Bounds(2)] = 60
    """Random policies."""
    fidelities: tuple[Literal["reconstruct", "finetune", "supernet"], ...] = (
        "reconstruct",
        "finetune",
        "supernet",
    )
    """What is compared."""
    long_images: Count = 16_000
    """Training images of the long fine-tuning, those that come twice counted twice."""
    learning_rate: Positive = 0.02
    """Of the first step of the long fine-tuning; it falls as a cosine."""
    search_images: Count = 2_000
    """Images of the search split that judge evaluations; the others of the split are held out."""
    supernet_steps: Count = 400
    """Training steps of the shared network of the fidelity supernet."""
    keep_min: KeepShare = 0.2
    """Smallest share of a group's channels that a policy may keep, before rounding."""
    round_to: Count = 4
    """Kept channels are a multiple of this."""
    seed: Whole = 0
    """Seed of the policies and of all training."""
    out: Path = Path("runs/proxy")
    """Directory of results.jsonl, one line a policy and fidelity, of the tables and the picture.
    The same command goes on with what is there, and may ask for more policies and fidelities;
    another one is refused."""
    launch: Flat[LaunchBlock] = field(default_factory=LaunchBlock)

    def resolved(self) -> Self:
        settings = super().resolved()
        if len(set(self.fidelities)) != len(self.fidelities):
            raise SettingsError(f"fidelities are different ones; got {list(self.fidelities)}")
        return settings
