"""``pfrl pretrain``: train a network and save its weights."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from experiments.records.run_folder import command
from experiments.records.wording import percent
from experiments.settings.training import PretrainSettings
from experiments.watch.progress import stage
from pfrl.cpu.backend import compiled
from pfrl.data import DataError, Split, load
from pfrl.data.seen import seen
from pfrl.files import save_arrays
from pfrl.graph import trace
from pfrl.graph.ending import ends_in_softmax
from pfrl.models.network import initial
from pfrl.tasks.agreement import Unlabelled
from pfrl.tasks.classification import as_network_ends
from pfrl.training.fit import FitConfig, fit, mean_quality


def run(settings: PretrainSettings) -> Path:
    """Train a network and save its weights. A training that was interrupted goes on.

    Args:
      settings: of the command.

    Returns:
      The path of the weights, whose meta tells the command and what the task's metric was on the
      search split; it is said on standard error, too.

    Raises:
      RegistryError, DataError, ModelError, UserCodeError: if there is no such data set or network.
      Diverged: if the loss is no number.
      FileError: if the file cannot be written.
    """
    model, data = settings.network.model, settings.network.data
    with stage(f"loading {data}"):
        dataset = load(data)
    print(dataset.summary, file=sys.stderr)
    task = dataset.task
    if isinstance(task, Unlabelled):
        raise DataError(
            f"'{data}' has no labels to train with; give imagefolder: with a folder a class"
        )
    outputs = task.outputs(len(dataset.classes))
    source, view = initial(model, outputs, dataset.image_shape, task.dense, nnx.Rngs(settings.seed))
    dataset = seen(dataset, *view)
    graph = trace(source, jax.ShapeDtypeStruct((1, *dataset.image_shape), np.float32))
    dataset = replace(dataset, task=as_network_ends(task, ends_in_softmax(graph)))
    stem = Path(model).name.replace(".py:", "_").removesuffix(".onnx")
    name = stem + "_" + re.sub(r"\W+", "_", data)
    out = settings.out or Path("runs/pretrained") / f"{name}.npz"
    config = FitConfig(
        settings.epochs,
        settings.batch,
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        optimizer=settings.optimizer,
        label_smoothing=settings.label_smoothing,
        precision=settings.precision,
        ghost_batches=settings.ghost_batches,
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

    with stage("judging"):
        found = {"search": score(dataset.search)}
        if settings.test:
            found["test"] = score(dataset.open_test())
    for split, value in found.items():
        print(f"{task.wording.metric} on the {split} split: {percent(value, 2)}", file=sys.stderr)
    meta = {
        "model": model,
        "data": data,
        "command": command(),
        **{f"{split}_{task.wording.metric}": value for split, value in found.items()},
    }
    return save_arrays(out, variables, meta)
