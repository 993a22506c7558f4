"""Compression of neural networks on JAX and Flax: trace, decide, compress, export, measure.

The names below load on first use, so that ``import pfrl`` costs nothing.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfrl.artefact import Loaded, load, save
    from pfrl.compress import Compressed, compress
    from pfrl.cost import Budget, CostModel
    from pfrl.data import Dataset
    from pfrl.data import load as load_data
    from pfrl.deploy.measure import Measurement, measure, measure_interleaved
    from pfrl.deploy.onnx import export_onnx
    from pfrl.evaluate import EpisodeConfig, Evaluation, Evaluator
    from pfrl.graph import Graph, Source, trace
    from pfrl.graph.frontends import from_function, from_linen
    from pfrl.graph.source import from_nnx
    from pfrl.policy import Policy
    from pfrl.recipe import Recipe
    from pfrl.survey import Survey, survey

__all__ = [
    "Budget",
    "Compressed",
    "CostModel",
    "Dataset",
    "EpisodeConfig",
    "Evaluation",
    "Evaluator",
    "Graph",
    "Loaded",
    "Measurement",
    "Policy",
    "Recipe",
    "Source",
    "Survey",
    "compress",
    "export_onnx",
    "from_function",
    "from_linen",
    "from_nnx",
    "load",
    "load_data",
    "measure",
    "measure_interleaved",
    "save",
    "survey",
    "trace",
]

_PUBLIC = {
    "Budget": ("pfrl.cost", "Budget"),
    "Compressed": ("pfrl.compress", "Compressed"),
    "CostModel": ("pfrl.cost", "CostModel"),
    "Dataset": ("pfrl.data", "Dataset"),
    "EpisodeConfig": ("pfrl.evaluate", "EpisodeConfig"),
    "Evaluation": ("pfrl.evaluate", "Evaluation"),
    "Evaluator": ("pfrl.evaluate", "Evaluator"),
    "Graph": ("pfrl.graph", "Graph"),
    "Loaded": ("pfrl.artefact", "Loaded"),
    "Measurement": ("pfrl.deploy.measure", "Measurement"),
    "Policy": ("pfrl.policy", "Policy"),
    "Recipe": ("pfrl.recipe", "Recipe"),
    "Source": ("pfrl.graph", "Source"),
    "Survey": ("pfrl.survey", "Survey"),
    "compress": ("pfrl.compress", "compress"),
    "export_onnx": ("pfrl.deploy.onnx", "export_onnx"),
    "from_function": ("pfrl.graph.frontends", "from_function"),
    "from_linen": ("pfrl.graph.frontends", "from_linen"),
    "from_nnx": ("pfrl.graph.source", "from_nnx"),
    "load": ("pfrl.artefact", "load"),
    "load_data": ("pfrl.data", "load"),
    "measure": ("pfrl.deploy.measure", "measure"),
    "measure_interleaved": ("pfrl.deploy.measure", "measure_interleaved"),
    "save": ("pfrl.artefact", "save"),
    "survey": ("pfrl.survey", "survey"),
    "trace": ("pfrl.graph", "trace"),
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'pfrl' has no attribute '{name}'")
    home, original = _PUBLIC[name]
    globals()[name] = value = getattr(importlib.import_module(home), original)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps ``pfrl.compress`` the function: importing the module of that name would replace it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
