"""How the evaluator of a search is put together: a plain one, and what is laid around it."""

from pathlib import Path

from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.cost import CostModel
from pfrl.data import Dataset
from pfrl.evaluation.base import Evaluator
from pfrl.evaluation.cache import Cached, EvaluationCache
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.early_stopping import Bound, EarlyStopping
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.evaluation.recorded import Recorded
from pfrl.graph import Graph


def make_evaluator(
    graph: Graph,
    dataset: Dataset,
    costs: CostModel,
    config: EpisodeConfig,
    seed: int,
    quantized: bool,
    recipe: Recipe = REPAIRED,
    sparse: bool = False,
    cache: Path | None = None,
) -> Recorded:
    """The evaluator of a search: a plain one, its cache, early stopping, and records.

    Args:
      graph, dataset, costs, config, seed, quantized, recipe, sparse: see ``NetworkEvaluator``.
      cache: file of exact evaluations that searches share, beside which a shared network lies;
        None keeps none.

    Raises:
      FileError: if the cache cannot be used.
    """
    bound = Bound() if config.early_stop else None
    plain = NetworkEvaluator(
        graph, dataset, costs, config, seed, quantized, recipe, sparse, cache, bound
    )
    found: Evaluator = plain
    if cache is not None:
        names = plain.choice.runtime, "xla, vmapped"
        alone, batch = (EvaluationCache(cache, plain.identity(name)) for name in names)
        found = Cached(found, costs, alone, batch)
    if bound is not None:
        found = EarlyStopping(found, bound)
    return Recorded(found)
