"""What a user can set for ``pfrl tune``."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from experiments.settings.blocks import SettingsError


@dataclass(frozen=True)
class TuneSettings:
    """Search the hyper-parameters of a compression for one policy."""

    FREE: ClassVar = ("trials", "out")
    """What may change when a study goes on."""

    model: str = "resnet8"
    """A network of the zoo."""
    data: str = "digits"
    """Data set: digits, fashion_mnist, cifar10 or imagefolder:PATH (a folder or .zip)."""
    weights: Path | None = None
    """Trained weights (.npz). Default: those that come with the package for this model and data."""
    target: str | None = None
    """Budget of the uniform policy, as of 'pfrl compress'. Default: macs=0.5."""
    policy: Path | None = None
    """A policy.json to carry out instead of the uniform policy."""
    knobs: tuple[Literal["keep", "weight_bits", "act_bits"], ...] = ("keep",)
    """By what the uniform policy meets the budget."""
    sparsity: float = 0.0
    """Share of zeros in every kernel of the uniform policy."""
    keep_min: float = 0.2
    """Smallest share of a group's channels that the uniform policy keeps, before rounding."""
    round_to: int = 4
    """Kept channels of the uniform policy are a multiple of this."""
    tune: (
        tuple[
            Literal["lr", "decay", "distillation", "criterion", "repair", "quantizer", "sparsity"],
            ...,
        ]
        | None
    ) = None
    """What is searched; the rest has its defaults. Default: all that the policy makes use of."""
    trials: int = 20
    """Networks, the one with the defaults included."""
    steps: int = 400
    """Steps of the fine-tuning."""
    batch: int = 64
    """Images a step."""
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    """Who proposes: tree-structured Parzen estimators, a Gaussian process, or chance."""
    pruner: Literal["median", "halving", "none"] = "median"
    """Which trials are given up: those below the median at half or three quarters of their steps,
    or those outside of the better half at half of them (successive halving)."""
    seed: int = 0
    """Seed of the proposals and of all training."""
    out: Path = Path("runs/tune")
    """Directory of the results. The same command goes on with what is there, and may ask for more
    trials; another one is refused."""

    def __post_init__(self) -> None:
        for name, least in (("trials", 2), ("steps", 1), ("batch", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise SettingsError(
                    f"{name} is a whole number from {least}, got {getattr(self, name)}"
                )
        if not 0 <= self.sparsity < 1:
            raise SettingsError(f"sparsity is a share from 0 to below 1, got {self.sparsity}")
        if self.policy is not None and (self.target is not None or self.sparsity):
            raise SettingsError(
                "--policy comes with a cost and zeros of its own; leave out --target and --sparsity"
            )
