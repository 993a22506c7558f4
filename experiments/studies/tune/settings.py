"""What a user can set for ``pfrl tune``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from experiments.settings.blocks import Flat, NetworkBlock, SettingsError, SpaceBlock
from experiments.settings.study import StudySettings
from pfrl.bounds import BelowOne, Bounds, Count, Whole


@dataclass(frozen=True)
class TuneSettings(StudySettings):
    """Search the hyper-parameters of a compression for one policy."""

    FREE: ClassVar = ("trials", "out")

    network: Flat[NetworkBlock] = field(default_factory=NetworkBlock)
    target: str | None = None
    """Budget of the uniform policy, as of 'pfrl compress'. Default: macs=0.5."""
    policy: Path | None = None
    """A policy.json to carry out instead of the uniform policy."""
    space: Flat[SpaceBlock] = field(default_factory=lambda: SpaceBlock(("keep",)))
    sparsity: BelowOne = 0.0
    """Share of zeros in every kernel of the uniform policy, whatever the budget."""
    tune: (
        tuple[
            Literal["lr", "decay", "distillation", "criterion", "repair", "quantizer", "sparsity"],
            ...,
        ]
        | None
    ) = None
    """What is searched; the rest has its defaults. Default: all that the policy makes use of."""
    trials: Annotated[int, Bounds(2)] = 20
    """Networks, the one with the defaults included."""
    steps: Count = 400
    """Steps of the fine-tuning."""
    batch: Count = 64
    """Images a step."""
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    """Who proposes: tree-structured Parzen estimators, a Gaussian process, or chance."""
    pruner: Literal["median", "halving", "none"] = "median"
    """Which trials are given up: those below the median at half or three quarters of their steps,
    or those outside of the better half at half of them (successive halving)."""
    seed: Whole = 0
    """Seed of the proposals and of all training."""
    out: Path = Path("runs/tune")
    """Directory of the results. The same command goes on with what is there, and may ask for more
    trials; another one is refused."""

    def resolved(self) -> Self:
        settings = super().resolved()
        if self.policy is not None and (self.target is not None or self.sparsity):
            raise SettingsError(
                "--policy comes with a cost and zeros of its own; leave out --target and --sparsity"
            )
        self.space.check_rank()
        return settings
