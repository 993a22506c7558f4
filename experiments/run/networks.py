"""The networks that a report compares, exported."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pfrl.data import Dataset
from pfrl.deploy.litert.export import export_litert
from pfrl.deploy.onnx.export import export_onnx
from pfrl.graph import Graph, Variables
from pfrl.training.step import Apply


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


def export(network: Network, graph: Graph, dataset: Dataset, path: Path) -> Path:
    """The network as a file (float32) with what a user needs to feed it.

    Args:
      network: what is exported.
      graph: for the shape of one image.
      dataset: whose scaling and classes are written into the file.
      path: of the file, ``.onnx`` or ``.tflite``; one that is there already is kept.

    Returns:
      The path.

    Raises:
      ExportError: if the network has an operation that has no counterpart in the format.
      Unavailable: if the format needs LiteRT, which is not installed.
    """
    if not path.exists():
        metadata = {
            "mean": ", ".join(map(str, dataset.mean)),
            "std": ", ".join(map(str, dataset.std)),
            "classes": ", ".join(dataset.classes),
            "made_by": f"pocketflow-rl {version('pocketflow-rl')}",
        }
        write = export_litert if path.suffix == ".tflite" else export_onnx
        write(network.outputs, graph.input_shape, path, metadata)
    return path
