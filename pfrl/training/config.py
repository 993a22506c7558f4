"""What a user can set for a training in full."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args, get_type_hints


class ConfigError(ValueError):
    """Settings of a training that make no sense; the message says what was expected."""


@dataclass(frozen=True)
class FitConfig:
    """How a network is trained. Without more: Nesterov SGD, one rise and a cosine fall."""

    epochs: float = 1.0
    """Passes over the training split; a fraction is a part of a pass."""
    batch: int = 64
    """Images a step, over all devices together."""
    learning_rate: float = 0.1
    """Peak learning rate; adamw wants about a hundredth of what sgd does."""
    warmup: float = 0.2
    """Share of the steps in which the learning rate rises linearly from a tenth of the peak."""
    weight_decay: float = 5e-4
    """Applied to kernels only; adamw wants about a hundred times of what sgd does."""
    seed: int = 0
    """Seed of shuffling, augmentation and mixup."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd (Nesterov momentum 0.9) or adamw (momenta 0.9 and 0.999, decoupled weight decay)."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """The learning rate after its rise: cosine falls to zero with the last step, step is multiplied
    by the factor at every milestone, constant stays at the peak."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Of the schedule step: shares of all steps, ascending, behind the rise."""
    factor: float = 0.1
    """Of the schedule step: what the learning rate is multiplied by."""
    quantizer_rate: float = 1.0
    """Factor on the learning rate of what quantizers learn: their steps and clips."""
    label_smoothing: float = 0.0
    """Share of a label's probability that is spread evenly over all classes; 0.1 is usual."""
    mixup: float = 0.0
    """Images are mixed in pairs by shares drawn from Beta(mixup, mixup), 0.1 to 1; 0 is none."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value, choices = getattr(self, name), get_args(kind)
            if isinstance(value, str) and value not in choices:
                raise ConfigError(f"unknown {name} '{value}'; expected {' or '.join(choices)}")
        for name in ("factor", "quantizer_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is a number above 0, got {getattr(self, name)}")
        for name in ("warmup", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is a share from 0 to below 1, got {getattr(self, name)}")
        if not 0 <= self.mixup < float("inf"):
            raise ConfigError(f"mixup is a number above 0, or 0 for none, got {self.mixup}")
        marks = pairwise((self.warmup, *self.milestones, 1.0))
        if self.schedule == "step" and not all(before <= after for before, after in marks):
            raise ConfigError(
                f"milestones are shares of the steps, ascending, between warmup ({self.warmup})"
                f" and 1, got {self.milestones}"
            )
