"""What a user can set for a training in full."""

from dataclasses import dataclass
from typing import Literal

from pfrl.bounds import BelowOne, Count, NotNegative, Positive, Whole, check

Precision = Literal["float32", "tensorfloat32", "bfloat16"]
"""Of products; see ``pfrl.cpu.precision.at_precision``."""


class ConfigError(ValueError):
    """Settings of a training that make no sense; the message says what was expected."""


@dataclass(frozen=True)
class FitConfig:
    """How a network is trained. Without more: Nesterov SGD, one rise and a cosine fall."""

    epochs: Positive = 1.0
    """Passes over the training split; a fraction is a part of a pass."""
    batch: Count = 64
    """Images a step, over all devices together."""
    learning_rate: Positive = 0.1
    """Peak learning rate; adamw wants about a hundredth of what sgd does."""
    warmup: BelowOne = 0.2
    """Share of the steps in which the learning rate rises linearly from a tenth of the peak."""
    weight_decay: NotNegative = 5e-4
    """Applied to kernels only; adamw wants about a hundred times of what sgd does."""
    seed: Whole = 0
    """Seed of shuffling and augmentation."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd (Nesterov momentum 0.9) or adamw (momenta 0.9 and 0.999, decoupled weight decay)."""
    quantizer_rate: Positive = 1.0
    """Factor on the learning rate of what quantizers learn: their steps and clips."""
    ghost_batches: Count | None = None
    """Parts of a batch that are normalised each by its own statistics, and whose gradients are
    averaged (ghost batch normalization, Hoffer et al. 2017). On a CPU two are computed at a time,
    which is faster, and may cost accuracy. Default: 1, but 4 for pictures of more than 128 pixels a
    side on a CPU, which take less memory so. On several devices together there is one."""
    label_smoothing: BelowOne = 0.0
    """Share of a label's probability that is spread evenly over all classes; 0.1 is usual."""
    precision: Precision | Literal["auto"] = "auto"
    """Of the products: float32 has all digits, tensorfloat32 those of that form (GPUs), bfloat16
    rounds what is multiplied and sums in float32, as automatic mixed precision does. auto is
    bfloat16 on a CPU that multiplies it faster (``pfrl.cpu.processor``), and elsewhere what the
    backend does by itself; where the network rounds its numbers to integers, float32 is better."""

    def __post_init__(self) -> None:
        check(self, ConfigError)
