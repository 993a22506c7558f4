"""``pfrl pretrain``: train a network of the zoo and save its weights."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flax import nnx

from experiments.records.run_folder import command
from experiments.settings.blocks import CommandSettings, Flat, ModelBlock
from experiments.watch.progress import stage
from pfrl.bounds import Count, NotNegative, Positive, Whole
from pfrl.data import Split, load
from pfrl.files import save_arrays
from pfrl.graph import from_nnx
from pfrl.models.catalogue import build, check_answers
from pfrl.training.backend import compiled
from pfrl.training.config import BelowOne
from pfrl.training.fit import FitConfig, fit, mean_quality


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
    seed: Whole = 0
    """Seed of the initial weights, of shuffling and of augmentation."""
    out: Path | None = None
    """The .npz file. Default: runs/pretrained/MODEL_DATA.npz. Goes on from OUT.checkpoint.npz."""
    test: bool = False
    """Also write the metric on the test split, once, at the end."""


def run(settings: PretrainSettings) -> Path:
    """Train, save, and return the path of the weights.

    The file's meta tells the command and what the task's metric was on the search split. An
    interrupted training goes on from its last checkpoint when started again.
    """
    model, data = settings.network.model, settings.network.data
    dataset = load(data)
    print(f"{data}: {dataset.summary}", file=sys.stderr)
    task = dataset.task
    check_answers(model, task.dense)
    outputs = task.outputs(len(dataset.classes))
    network = build(model, outputs, dataset.image_shape, nnx.Rngs(settings.seed))
    source = from_nnx(network)
    data_name = data.replace(":", "_").replace("/", "_")
    out = settings.out or Path("runs/pretrained") / f"{model}_{data_name}.npz"
    config = FitConfig(
        settings.epochs,
        settings.batch,
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        optimizer=settings.optimizer,
        label_smoothing=settings.label_smoothing,
        seed=settings.seed,
    )
    with stage(f"training {model} on {data}") as progress:
        variables = fit(
            source.apply,
            source.variables,
            source.trainable,
            dataset,
            config,
            progress=progress,
            checkpoint=out.with_name(out.name + ".checkpoint.npz"),
        )
    predict = compiled(lambda v, x: source.apply(v, x, False)[0])

    def score(split: Split) -> float:
        return task.wording.value(mean_quality(lambda x: predict(variables, x), dataset, split))

    meta = {
        "model": model,
        "data": data,
        "command": command(),
        f"search_{task.wording.metric}": score(dataset.search),
        f"test_{task.wording.metric}": score(dataset.open_test()) if settings.test else None,
    }
    return save_arrays(out, variables, meta)
