"""The networks that a report compares: each trained in full, exported and kept in the run."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.settings.compression import FinishConfig
from experiments.watch.progress import stage
from pfrl.data import Dataset
from pfrl.deploy.onnx.export import export_onnx
from pfrl.files import load_arrays, save_arrays
from pfrl.graph import Graph, Variables
from pfrl.training.backend import compiled
from pfrl.training.fit import Diverged, FitConfig, fit
from pfrl.training.step import Apply, Distillation

FEWEST_STEPS = 1_000
FEWEST_EPOCHS = 1.0


@dataclass(frozen=True)
class Network:
    """A function with its variables.

    Attributes:
      name: what the report and the files call it.
      apply: see ``pfrl.training.step.Apply``.
      variables, trainable: as of a ``Source``.
      macs, params: counted in the graph and in the arrays.
    """

    name: str
    apply: Apply
    variables: Variables
    trainable: frozenset[str]
    macs: int
    params: int

    def outputs(self, x: Any) -> Any:
        """What it answers in evaluation mode, parameters as constants; logits where classes are."""
        return self.apply(self.variables, x, False)[0]


def fit_config(finish: FinishConfig, dataset: Dataset, seed: int) -> FitConfig:
    """The full training: the same for the compressed network and for the controls.

    Args:
      finish: what the user set.
      dataset: whose size decides how many epochs make ``FEWEST_STEPS``.
      seed: of the training.
    """
    epochs = finish.epochs
    if epochs is None:
        steps = max(len(dataset.train) // finish.batch, 1)
        epochs = max(FEWEST_EPOCHS, FEWEST_STEPS / steps)
    return FitConfig(
        epochs=epochs, batch=finish.batch, learning_rate=finish.learning_rate, seed=seed
    )


def train_fully(
    network: Network,
    base: Network,
    dataset: Dataset,
    finish: FinishConfig,
    seed: int,
    folder: Path,
    note: Callable[[str], None],
) -> Network:
    """Train with distillation from ``base``; what an earlier start finished is read back.

    A training that diverges is repeated once at a tenth of the learning rate.

    Args:
      network: what is trained.
      base: the teacher.
      dataset: whose training split it is trained on.
      finish: how.
      seed: of shuffling and augmentation.
      folder: where its arrays and checkpoints are kept.
      note: is told a sentence for the report, if the training diverged.

    Returns:
      The network with the arrays that it ended with.

    Raises:
      Diverged: if it diverges at a tenth of the learning rate, too.
      FileError: if the folder cannot be written to.
    """
    path = folder / f"{network.name}.npz"
    if path.exists():
        arrays, meta = load_arrays(path)
        if meta["diverged"]:
            note(_divergence(network.name))
        return dataclasses.replace(network, variables=arrays)
    config = fit_config(finish, dataset, seed)
    soft = Distillation(
        finish.distillation_weight, finish.temperature, divergence=dataset.task.divergence
    )
    parameters = base.variables
    teach = compiled(lambda v, x: base.apply(v, x, False)[0])

    def train(config: FitConfig) -> Variables:
        with stage(f"training {network.name.replace('_', ' ')}") as progress:
            return fit(
                network.apply,
                network.variables,
                network.trainable,
                dataset,
                config,
                teacher=(lambda x: teach(parameters, x)) if soft.weight > 0 else None,
                distillation=soft,
                progress=progress,
                checkpoint=folder / f"{network.name}.checkpoint.npz",
            )

    diverged = False
    try:
        variables = train(config)
    except Diverged:
        diverged = True
        note(_divergence(network.name))
        variables = train(dataclasses.replace(config, learning_rate=config.learning_rate / 10))
    arrays = {name: np.asarray(value) for name, value in variables.items()}
    save_arrays(path, arrays, {"network": network.name, "diverged": diverged})
    return dataclasses.replace(network, variables=arrays)


def _divergence(name: str) -> str:
    return f"The training of '{name}' diverged and was repeated at a tenth of the learning rate."


def export(network: Network, graph: Graph, dataset: Dataset, path: Path) -> Path:
    """The network as an ONNX file (float32) with what a user needs to feed it.

    Args:
      network: what is exported.
      graph: for the shape of one image.
      dataset: whose scaling and classes are written into the file.
      path: of the file; one that is there already is kept.

    Returns:
      The path.

    Raises:
      ExportError: if the network has an operation that has no counterpart in ONNX.
    """
    if not path.exists():
        metadata = {
            "mean": ", ".join(map(str, dataset.mean)),
            "std": ", ".join(map(str, dataset.std)),
            "classes": ", ".join(dataset.classes),
        }
        export_onnx(network.outputs, graph.input_shape, path, metadata)
    return path
