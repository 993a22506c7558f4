"""What a user can set for ``pfrl inspect``."""

from dataclasses import dataclass
from pathlib import Path

from experiments.settings.blocks import CommandSettings
from pfrl.bounds import Count


class InspectError(ValueError):
    """Options that contradict each other or name no network."""


@dataclass(frozen=True)
class InspectSettings(CommandSettings):
    """Show a network's layers, its channel groups, what is frozen and why, and what it costs."""

    model: str | None = None
    """A network of the zoo, which is not initialised: any size shows at once. Or your own:
    FILE.py:FUNCTION, which takes nothing and returns (model, x, ...): an nnx.Module, or the pair
    (module, variables) of a Linen module or a function of its parameters, and arrays or
    jax.ShapeDtypeStruct as inputs, whose code is run. Or FILE.onnx."""
    data: str | None = None
    """Data set whose image shape and classes a network of the zoo is for: digits, fashion_mnist,
    cifar10 or imagefolder:PATH. Default: see input and classes."""
    input: str | None = None
    """Image shape HEIGHT,WIDTH,CHANNELS in pixels, of a network of the zoo or of an ONNX file that
    leaves it free. Default: 32,32,3; of a file its own."""
    classes: Count | None = None
    """Width of the logits. Default: 10."""
    json: bool = False
    """Print one JSON document (its keys: docs/guide/graph.md) in place of tables."""
    dot: Path | None = None
    """Write the coupling of layers and groups as Graphviz source into this file."""
    svg: Path | None = None
    """Draw the coupling of layers and groups into this file."""
