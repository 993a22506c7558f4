"""What a policy's network takes in the runtimes of this machine, beside the base's."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.deploy.litert.export import export_litert
from pfrl.deploy.onnx.export import export_onnx
from pfrl.deploy.runtimes import litert
from pfrl.deploy.timing import latency_ratio, measure_interleaved
from pfrl.graph import Graph


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
