"""A search whose best policy is measured, in the runtimes of this machine, beside the base."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.ablations.experiment import Context, Job
from experiments.ablations.works.searching import find
from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.cost.metrics import METRICS, Metric
from pfrl.deploy.litert.export import export_litert
from pfrl.deploy.onnx.export import export_onnx
from pfrl.deploy.runtimes import litert
from pfrl.deploy.timing import latency_ratio, measure_interleaved
from pfrl.graph import Graph
from pfrl.registry import register

COSTS = ("macs", "bytes", "array")
ROWS = COLUMNS = 16
"""Processing elements of the array."""


def _array(costs: Any, at: Any) -> float:
    """Cycles of a weight-stationary array of 16 x 16 elements that holds one tile at a time."""
    return sum(
        layer.places.at(at.counts)
        * -(-layer.kernel_elements_at(at.counts) // (layer.c_out.at(at.counts) * ROWS))
        * -(-layer.c_out.at(at.counts) // COLUMNS)
        for layer in costs.graph.layers
    )


# Here and not beside the experiment: listing experiments adds no metric to other commands.
register("metric", "array", Metric(_array, True, "cycles of a 16 x 16 array", "cycles"))


def search(context: Context, job: Job) -> dict[str, Any]:
    """The line of the search, with what its policy costs by every measure, over the base."""
    found = find(context, context.cell(job.cell), job.seed)
    opened, policy = found.problem.open(), found.best
    computed = opened.costs.of(policy)
    ratios = {name: computed[name] / opened.costs.base[name] for name in COSTS if name in METRICS}
    seconds = 2.0 if found.line["episodes"] < 20 else 10.0
    return {**found.line, **ratios, **measured(opened.graph, policy, seconds)}


def measured(graph: Graph, policy: Policy, seconds: float) -> dict[str, float]:
    """Latency of a policy's network over the base's, one image on one thread, by runtime.

    Args:
      graph: of the base network.
      policy: whose network is exported as it is before fine-tuning.
      seconds: of measuring in each runtime.
    """
    small = compress(graph.source, policy, graph=graph)
    base = compress(graph.source, Policy.uniform(graph), graph=graph)
    kinds: dict[str, tuple[Callable[..., Path], str]] = {"measured": (export_onnx, "onnx")}
    if litert.installed():
        kinds["litert"] = (export_litert, "tflite")
    ratios = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (export, suffix) in kinds.items():
            paths = [
                export(network, graph.input_shape, Path(scratch) / f"{stem}.{suffix}")
                for stem, network in (("small", small), ("base", base))
            ]
            found, whole = measure_interleaved(paths, seconds=seconds)
            ratios[name] = latency_ratio(found, whole).value
    return ratios
