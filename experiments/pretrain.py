"""``pfrl pretrain``: train a network of the zoo and save its weights."""

from dataclasses import dataclass
from pathlib import Path

import jax
from flax import nnx

from experiments.progress import stage
from experiments.run_folder import command
from experiments.settings import SettingsError
from pfrl.data import load
from pfrl.files import save_arrays
from pfrl.graph import from_nnx
from pfrl.models.zoo import DENSE_MODELS, MODELS, ModelError, build
from pfrl.training.fit import FitConfig, accuracy, fit


@dataclass(frozen=True)
class PretrainSettings:
    """Train a network on the training split, for ``pfrl compress`` to start from."""

    model: str = "resnet8"
    """A network of the zoo that classifies images, such as resnet20 or mobilenet_v2."""
    data: str = "digits"
    """Data set: digits, fashion_mnist, cifar10 or imagefolder:PATH (a folder or .zip)."""
    epochs: float = 16.0
    """Passes over the training images."""
    batch: int = 64
    """Images a step."""
    learning_rate: float = 0.1
    """Peak learning rate; rises over a fifth of the steps and falls as a cosine."""
    weight_decay: float = 5e-4
    """On kernels only."""
    seed: int = 0
    """Seed of the initial weights, of shuffling and of augmentation."""
    out: Path | None = None
    """The .npz file. Default: runs/pretrained/MODEL_DATA.npz. Goes on from OUT.checkpoint.npz."""
    test: bool = False
    """Also report the accuracy on the test split, once, at the end."""


def run(settings: PretrainSettings) -> Path:
    """Train, save, and return the path of the weights.

    The file's meta tells the command, the accuracies and the settings. An
    interrupted training goes on from its last checkpoint when started again.
    """
    if settings.epochs <= 0 or settings.batch < 1:
        raise SettingsError(
            f"epochs and batch must be above zero, got {settings.epochs} and {settings.batch}"
        )
    if settings.seed < 0:
        raise SettingsError(f"seed is a whole number from 0, got {settings.seed}")
    if settings.model in DENSE_MODELS:
        raise ModelError(
            f"'{settings.model}' classifies every pixel, which no data set here is labelled for;"
            f" expected one of {', '.join(MODELS)}"
        )
    dataset = load(settings.data)
    network = build(
        settings.model, len(dataset.classes), dataset.image_shape, nnx.Rngs(settings.seed)
    )
    source = from_nnx(network)
    data_name = settings.data.replace(":", "_").replace("/", "_")
    out = settings.out or Path("runs/pretrained") / f"{settings.model}_{data_name}.npz"
    config = FitConfig(
        settings.epochs,
        settings.batch,
        settings.learning_rate,
        weight_decay=settings.weight_decay,
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
    logits = jax.jit(lambda v, x: source.apply(v, x, False)[0])

    def score(split):
        return accuracy(lambda x: logits(variables, x), dataset, split)

    meta = {
        "model": settings.model,
        "data": settings.data,
        "command": command(),
        "search_accuracy": score(dataset.search),
        "test_accuracy": score(dataset.open_test()) if settings.test else None,
    }
    return save_arrays(out, variables, meta)
