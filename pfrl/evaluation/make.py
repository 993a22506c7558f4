"""How the evaluator of a search is put together: a plain one, and what is laid around it."""

from pathlib import Path

from pfrl.evaluation.base import Evaluator
from pfrl.evaluation.cache import Cached, EvaluationCache
from pfrl.evaluation.early_stopping import EarlyStopping
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.evaluation.recorded import Recorded


def make_evaluator(plain: NetworkEvaluator, cache: Path | None = None) -> Recorded:
    """The evaluator of a search: a plain one, its cache, early stopping, and records.

    Args:
      plain: evaluates what is not known yet.
      cache: file of exact evaluations that searches share; None keeps none.

    Raises:
      FileError: if the cache cannot be used.
    """
    found: Evaluator = plain
    if cache is not None:
        names = plain.choice.runtime, "xla, vmapped"
        alone, batch = (EvaluationCache(cache, plain.identity(name)) for name in names)
        found = Cached(found, plain.costs, alone, batch)
    if plain.bound is not None:
        found = EarlyStopping(found, plain.bound)
    return Recorded(found)
