"""Compression of neural networks on JAX and Flax: trace, decide, compress, export, measure.

The names below load on first use, so that ``import pfrl`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfrl.compression.calibration import CalibrationStatistics, gather_statistics
    from pfrl.compression.policy import Policy
    from pfrl.compression.recipe import Recipe
    from pfrl.compression.saved import Loaded, load, save
    from pfrl.compression.sliced import Compressed, compress
    from pfrl.cost import Budget, CostModel
    from pfrl.data import Dataset
    from pfrl.data import load as load_data
    from pfrl.deploy.litert.export import export_litert
    from pfrl.deploy.onnx.export import export_onnx
    from pfrl.deploy.operators.biases import with_rounded_biases
    from pfrl.deploy.timing import Measurement, measure, measure_interleaved
    from pfrl.evaluation.base import Evaluator
    from pfrl.evaluation.config import EpisodeConfig, Evaluation
    from pfrl.evaluation.evaluator import NetworkEvaluator
    from pfrl.evaluation.make import make_evaluator
    from pfrl.graph import Graph, Source, trace
    from pfrl.graph.frontends import from_function, from_linen
    from pfrl.graph.source import from_nnx
    from pfrl.models.onnx.source import from_onnx
    from pfrl.registry import register

__all__ = [
    "Budget",
    "CalibrationStatistics",
    "Compressed",
    "CostModel",
    "Dataset",
    "EpisodeConfig",
    "Evaluation",
    "Evaluator",
    "Graph",
    "Loaded",
    "Measurement",
    "NetworkEvaluator",
    "Policy",
    "Recipe",
    "Source",
    "compress",
    "export_litert",
    "export_onnx",
    "from_function",
    "from_linen",
    "from_nnx",
    "from_onnx",
    "gather_statistics",
    "load",
    "load_data",
    "make_evaluator",
    "measure",
    "measure_interleaved",
    "register",
    "save",
    "trace",
    "with_rounded_biases",
]

_PUBLIC = {
    "Budget": ("pfrl.cost", "Budget"),
    "CalibrationStatistics": ("pfrl.compression.calibration", "CalibrationStatistics"),
    "Compressed": ("pfrl.compression.sliced", "Compressed"),
    "CostModel": ("pfrl.cost", "CostModel"),
    "Dataset": ("pfrl.data", "Dataset"),
    "EpisodeConfig": ("pfrl.evaluation.config", "EpisodeConfig"),
    "Evaluation": ("pfrl.evaluation.config", "Evaluation"),
    "Evaluator": ("pfrl.evaluation.base", "Evaluator"),
    "Graph": ("pfrl.graph", "Graph"),
    "Loaded": ("pfrl.compression.saved", "Loaded"),
    "Measurement": ("pfrl.deploy.timing", "Measurement"),
    "NetworkEvaluator": ("pfrl.evaluation.evaluator", "NetworkEvaluator"),
    "Policy": ("pfrl.compression.policy", "Policy"),
    "Recipe": ("pfrl.compression.recipe", "Recipe"),
    "Source": ("pfrl.graph", "Source"),
    "compress": ("pfrl.compression.sliced", "compress"),
    "export_litert": ("pfrl.deploy.litert.export", "export_litert"),
    "export_onnx": ("pfrl.deploy.onnx.export", "export_onnx"),
    "from_function": ("pfrl.graph.frontends", "from_function"),
    "from_linen": ("pfrl.graph.frontends", "from_linen"),
    "from_nnx": ("pfrl.graph.source", "from_nnx"),
    "from_onnx": ("pfrl.models.onnx.source", "from_onnx"),
    "gather_statistics": ("pfrl.compression.calibration", "gather_statistics"),
    "load": ("pfrl.compression.saved", "load"),
    "load_data": ("pfrl.data", "load"),
    "make_evaluator": ("pfrl.evaluation.make", "make_evaluator"),
    "measure": ("pfrl.deploy.timing", "measure"),
    "measure_interleaved": ("pfrl.deploy.timing", "measure_interleaved"),
    "register": ("pfrl.registry", "register"),
    "save": ("pfrl.compression.saved", "save"),
    "trace": ("pfrl.graph", "trace"),
    "with_rounded_biases": ("pfrl.deploy.operators.biases", "with_rounded_biases"),
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'pfrl' has no attribute '{name}'")
    home, original = _PUBLIC[name]
    globals()[name] = value = getattr(importlib.import_module(home), original)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
