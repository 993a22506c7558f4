"""A network and its data by name: what a problem is opened from."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from envs.problem import OpenedTask, ProblemError, Task
from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.cost import Budget, CostModel
from pfrl.cost.latency import NetworkLatency
from pfrl.cpu.backend import compiled
from pfrl.data import Dataset, load
from pfrl.data.seen import seen
from pfrl.data.taught import taught
from pfrl.deploy.metadata import metadata
from pfrl.deploy.onnx.size import OnnxSize
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.evaluation.make import make_evaluator
from pfrl.evaluation.remembered import base_quality
from pfrl.files import FileError
from pfrl.graph import Graph, trace
from pfrl.graph.ending import ends_in_softmax
from pfrl.methods.low_rank.base import DECOMPOSITIONS
from pfrl.methods.low_rank.decompose import decomposable, decompose
from pfrl.models.network import Network, View
from pfrl.tasks.agreement import Unlabelled
from pfrl.tasks.classification import as_network_ends
from pfrl.tasks.outputs import as_one


@dataclass(frozen=True)
class NetworkTask(Task):
    """A model of the zoo with trained weights, and a data set.

    Opening it loads the data, traces the network and makes the evaluator; the
    compiled functions live as long as the process.
    """

    model: str
    """Name in the zoo, ``FILE.py:FUNCTION`` or ``FILE.onnx``; see ``pfrl.models.network``."""
    data: str
    """Data set, as of ``pfrl.data.load``."""
    weights: str
    """Path of an ``.npz`` file, or of the file whose function returns the trained network."""
    seed: int = 0
    """Of the batches that episodes are fine-tuned on."""
    quantized: bool = False
    """Whether bit widths are knobs."""
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    """What an evaluation does."""
    recipe: Recipe = REPAIRED
    """By which methods policies are carried out."""
    latency_table: str | None = None
    """Path of a measured latency table (JSON); None if latency does not matter."""
    cache: str | None = None
    """Path of a cache of evaluations, which any number of searches may share."""
    sparse: bool = False
    """Whether shares of zeros are knobs."""
    decompose: str | None = None
    """How layers become two with a rank between them: a name that is registered for it, see
    ``pfrl.methods.low_rank.factors``. All layers that can, but the first and the last one. At full
    rank, at which the network computes what it did, and takes more than before; shares of a budget
    are of what it was before. A latency table, and the base's latency, is of the network at full
    rank. Goes with the criterion 'l2', by which a smaller rank keeps the largest singular
    values."""

    litert: bool = False
    """Whether the size of the LiteRT file is a cost; a problem that limits it sees to it."""

    def __post_init__(self) -> None:
        if self.decompose is None:
            return
        _ = DECOMPOSITIONS[self.decompose]  # raises if there is none
        if self.recipe.criterion != "l2":
            raise ProblemError(
                "ranks are chosen by the criterion 'l2', which keeps the largest singular values;"
                f" got the recipe's criterion '{self.recipe.criterion}'"
            )

    def judged_by(self, runtime: str) -> Self:
        return replace(self, episode=replace(self.episode, validation=runtime))

    def counting(self, *budgets: Budget | None) -> Self:
        return replace(self, litert=any(each is not None and each.needs_litert for each in budgets))

    def network(self) -> tuple[Dataset, Graph]:
        """The data set and the network that policies are about: decomposed, if it is to be."""
        dataset, graph = load_network(self.model, self.data, self.weights)
        return dataset, graph if self.decompose is None else at_full_rank(graph, self.decompose)

    def suited(self, graph: Graph) -> EpisodeConfig:
        """What an evaluation does, with the defaults that suit ``network``'s graph."""
        altered = self.quantized or self.sparse
        return self.episode.suited(graph.input_shape, self.recipe, altered)

    def costs(self, graph: Graph, latency: NetworkLatency | None) -> CostModel:
        """Costs of policies on ``network``'s graph; shares refer to the one before decomposition.

        Args:
          graph: of ``network``.
          latency: a latency model of it, if latency matters.
        """
        dataset, before = load_network(self.model, self.data, self.weights)

        def model(of: Graph, latency: NetworkLatency | None = None) -> CostModel:
            written, litert = (of, self.recipe, metadata(dataset)), None
            if self.litert:
                from pfrl.deploy.litert.size import LiteRTSize  # its schema takes a while to load

                litert = LiteRTSize(*written)
            integers = latency and latency.integers
            return CostModel(of, latency, self.recipe, OnnxSize(*written), integers, litert)

        costs = model(graph, latency)
        if self.decompose is not None:
            costs.base |= model(before).base
        return costs

    def open(self) -> OpenedTask:
        dataset, graph = self.network()
        latency = None
        if self.latency_table is not None:
            latency = read_latency(graph, Path(self.latency_table))
        costs = self.costs(graph, latency)
        cache = None if self.cache is None else Path(self.cache)
        plain = NetworkEvaluator(
            graph,
            dataset,
            costs,
            self.episode,
            self.seed,
            self.quantized,
            self.recipe,
            self.sparse,
            beside=cache,
        )
        return OpenedTask(graph, costs, make_evaluator(plain, cache), base_quality(graph, dataset))


SETTLED, BATCH = 512, 64
"""Training images, in batches, of which a network takes statistics that its file has not."""


@lru_cache(maxsize=2)
def load_network(model: str, data: str, weights: str) -> tuple[Dataset, Graph]:
    """The data set as the network sees it, and the traced network with its weights.

    Where the data have no labels the network's own answers are put in place of them.

    Args:
      model, data, weights: as of ``NetworkTask``.

    Raises:
      ModelError, DataError, FileError: each with a sentence for the user.
    """
    dataset = load(data)
    outputs = dataset.task.outputs(len(dataset.classes))
    network = Network(model, Path(weights))

    def batches(view: View) -> Iterator[np.ndarray]:
        """Training images as the network sees them, the same ones at every start."""
        mine = seen(dataset, *view)
        count = min(len(mine.train), SETTLED)
        few = mine.train.take(np.linspace(0, len(mine.train) - 1, count).round().astype(int))
        return (x for x, _ in mine.batches(few, min(BATCH, count)))

    source, view = network.load(outputs, dataset.image_shape, dataset.task.dense, batches)
    example = jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32)
    dataset = seen(dataset, *view)
    graph = trace(source, example)
    probabilities = ends_in_softmax(graph)
    if isinstance(dataset.task, Unlabelled):

        def outputs_of(variables: Any, x: Any) -> Any:
            return source.apply(variables, x, False)[0]

        shapes = [
            each.shape[1:]
            for each in jax.tree.leaves(jax.eval_shape(outputs_of, source.variables, example))
        ]
        answer = compiled(lambda v, x: as_one(outputs_of(v, x)))
        dataset = taught(
            dataset,
            lambda x: np.asarray(answer(source.variables, x)),
            shapes if len(shapes) > 1 else (),
            probabilities,
        )
    return replace(dataset, task=as_network_ends(dataset.task, probabilities)), graph


def at_full_rank(graph: Graph, kind: str) -> Graph:
    """The network with every layer but the first and the last as two, where that can be cheaper.

    Raises:
      ProblemError: if there is no such layer.
    """
    edges = {graph.layers[0].name, graph.layers[-1].name}
    names = [n for n, kinds in decomposable(graph).items() if kind in kinds and n not in edges]
    if not names:
        raise ProblemError(
            f"no layer between the first and the last one can become '{kind}' at less cost; choose"
            " another kind of decomposition"
        )
    return trace(decompose(graph, dict.fromkeys(names, kind), full=True), *graph.inputs)


def read_latency(graph: Graph, path: Path) -> NetworkLatency:
    """A latency model of a graph from the table that ``measure_network`` froze.

    Raises:
      FileError: if the file is missing or no such table.
    """
    try:
        return NetworkLatency.from_json(graph, json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path} is no latency table ({error}); measure it again") from error
