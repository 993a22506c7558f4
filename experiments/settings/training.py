"""What a user can set for ``pfrl pretrain``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from experiments.settings.blocks import CommandSettings, Flat, ModelBlock
from pfrl.bounds import BelowOne, Count, NotNegative, Positive, Whole
from pfrl.training.config import Precision


@dataclass(frozen=True)
class PretrainSettings(CommandSettings):
    """Train a network on the training split, for ``pfrl compress`` to start from."""

    network: Flat[ModelBlock] = field(default_factory=ModelBlock)
    epochs: Positive = 16.0
    """Passes over the training images."""
    batch: Count = 64
    """Images a step."""
    learning_rate: Positive = 0.1
    """Peak learning rate; rises over a fifth of the steps and falls as a cosine."""
    weight_decay: NotNegative = 5e-4
    """On kernels only."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd (Nesterov momentum) or adamw, which heat maps need: with --learning-rate 0.003."""
    label_smoothing: BelowOne = 0.0
    """Share of a label's probability that is spread over all classes; 0.1 is usual."""
    precision: Precision | Literal["auto"] = "auto"
    """Of the products: float32, tensorfloat32 (GPUs) or bfloat16 (sums in float32); auto is
    bfloat16 on a CPU that multiplies it faster (AMX, or AMD's Zen 4), which trains ResNets up to
    twice as fast."""
    ghost_batches: Count | None = None
    """Parts of a batch that are normalised each by its own statistics; 1 is the usual batch
    normalisation. 2 may be faster on a CPU, and costs accuracy in a short training. Default: 1, but
    4 for pictures of more than 128 pixels a side on a CPU."""
    seed: Whole = 0
    """Seed of the initial weights, of shuffling and of augmentation."""
    out: Path | None = None
    """The .npz file. Default: runs/pretrained/MODEL_DATA.npz. Goes on from OUT.checkpoint.npz."""
    test: bool = False
    """Also write the metric on the test split, once, at the end."""
