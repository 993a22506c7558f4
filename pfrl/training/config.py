"""What a user can set for a training in full."""

from dataclasses import dataclass
from typing import Literal, get_args

Optimizer = Literal["sgd", "adamw"]
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)


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
    """Seed of shuffling and augmentation."""
    optimizer: Optimizer = "sgd"
    """sgd (Nesterov momentum 0.9) or adamw (momenta 0.9 and 0.999, decoupled weight decay)."""
    quantizer_rate: float = 1.0
    """Factor on the learning rate of what quantizers learn: their steps and clips."""
    label_smoothing: float = 0.0
    """Share of a label's probability that is spread evenly over all classes; 0.1 is usual."""

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            expected = " or ".join(OPTIMIZERS)
            raise ConfigError(f"unknown optimizer '{self.optimizer}'; expected {expected}")
        if not 0 < self.quantizer_rate < float("inf"):
            raise ConfigError(f"quantizer_rate is a number above 0, got {self.quantizer_rate}")
        for name in ("warmup", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is a share from 0 to below 1, got {getattr(self, name)}")
