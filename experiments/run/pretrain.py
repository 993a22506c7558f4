"""``pfrl pretrain``: train a network of the zoo and save its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flax import nnx

from experiments.records.run_folder import command
from experiments.settings.compression import SettingsError
from experiments.watch.progress import stage
from pfrl.data import Split, load
from pfrl.files import save_arrays
from pfrl.graph import from_nnx
from pfrl.models.catalogue import build, check_answers
from pfrl.training.backend import compiled
from pfrl.training.fit import FitConfig, fit, mean_quality


@dataclass(frozen=True)
class PretrainSettings:
    """Train a network on the training split, for ``pfrl compress`` to start from."""

    model: str = "resnet8"
    """A network of the zoo: such as resnet20 or mobilenet_v2, for heat maps pose8."""
    data: str = "digits"
    """Data set: digits, fashion_mnist, cifar10, imagefolder:PATH (a folder or .zip), npz:PATH, or
    for points digits_landmarks and digits_pose."""
    epochs: float = 16.0
    """Passes over the training images."""
    batch: int = 64
    """Images a step."""
    learning_rate: float = 0.1
    """Peak learning rate; rises over a fifth of the steps and falls as a cosine."""
    weight_decay: float = 5e-4
    """On kernels only."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd (Nesterov momentum) or adamw, which heat maps need: with --learning-rate 0.003."""
    label_smoothing: float = 0.0
    """Share of a label's probability that is spread over all classes; 0.1 is usual."""
    seed: int = 0
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
    if settings.epochs <= 0 or settings.batch < 1:
        raise SettingsError(
            f"epochs and batch must be above zero, got {settings.epochs} and {settings.batch}"
        )
    if settings.seed < 0:
        raise SettingsError(f"seed is a whole number from 0, got {settings.seed}")
    dataset = load(settings.data)
    task = dataset.task
    check_answers(settings.model, task.dense)
    outputs = task.outputs(len(dataset.classes))
    network = build(settings.model, outputs, dataset.image_shape, nnx.Rngs(settings.seed))
    source = from_nnx(network)
    data_name = settings.data.replace(":", "_").replace("/", "_")
    out = settings.out or Path("runs/pretrained") / f"{settings.model}_{data_name}.npz"
    config = FitConfig(
        settings.epochs,
        settings.batch,
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        optimizer=settings.optimizer,
        label_smoothing=settings.label_smoothing,
        seed=settings.seed,
    )
    with stage(f"training {settings.model} on {settings.data}") as progress:
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
        "model": settings.model,
        "data": settings.data,
        "command": command(),
        f"search_{task.wording.metric}": score(dataset.search),
        f"test_{task.wording.metric}": score(dataset.open_test()) if settings.test else None,
    }
    return save_arrays(out, variables, meta)
