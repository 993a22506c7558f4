"""``pfrl inspect``: what a network is made of, what can go from it together, and what stays."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.report.coupling import coupling_figure, save_dot, save_svg
from experiments.report.graph_tables import output_console, show
from experiments.settings.inspection import InspectError, InspectSettings
from pfrl.compression.policy import Policy
from pfrl.data import load
from pfrl.graph import Count, Graph, trace
from pfrl.models.catalogue import DENSE_MODELS, MODELS, ImageShape, build
from pfrl.models.network import ONNX, is_own, trace_own

IMAGES: dict[str, tuple[ImageShape, int]] = {
    "digits": ((8, 8, 1), 10),
    "fashion_mnist": ((28, 28, 1), 10),
    "cifar10": ((32, 32, 3), 10),
}
"""Image shape and classes of the data sets that have a name: known without their files."""
DEFAULT_IMAGE: ImageShape = (32, 32, 3)
DEFAULT_CLASSES = 10
BATCH = 2
MEETS_FROZEN = "it meets places that cannot be removed"
"""The reason for channels that are frozen by others alone."""


def run(settings: InspectSettings) -> list[Path]:
    """Print the facts, write the pictures, and return their paths.

    Raises:
      InspectError, ModuleError, ModelError, GraphError, DataError: if there is
        no such network, or it does not run.
      FileError: if a file cannot be written.
    """
    name, graph = traced(settings)
    found = facts(name, graph)
    console = output_console()
    if settings.json:
        console.out(json.dumps(found, indent=2), highlight=False)
    else:
        show(console, found)
    groups = f"{len(graph.layers)} layers, {len(graph.groups)} channel groups"
    title = f"What goes together in {name}: {groups}"
    written = []
    if settings.dot is not None:
        written.append(save_dot(settings.dot, graph, title))
    if settings.svg is not None:
        written.append(save_svg(settings.svg, coupling_figure(graph, title)))
    return written


def traced(settings: InspectSettings) -> tuple[str, Graph]:
    """The name and the graph of the network that is asked for."""
    name = settings.model
    if name is None:
        raise InspectError(
            "expected --model NAME, FILE.py:FUNCTION or FILE.onnx; the networks of the zoo are"
            f" {', '.join(MODELS | DENSE_MODELS)}"
        )
    if is_own(name):
        given = {"--data": settings.data, "--classes": settings.classes}
        if not name.lower().endswith(ONNX):
            given["--input"] = settings.input
        strange = [option for option, value in given.items() if value is not None]
        if strange:
            raise InspectError(
                f"{strange[0]} is for networks of the zoo; one of your own has its inputs with it"
            )
        image = _image_shape(settings.input) if settings.input is not None else None
        return Path(name).name, trace_own(name, image)
    image, classes = _images(settings)
    network = nnx.eval_shape(lambda: build(name, classes, image, seed=0))
    return name, trace(network, jax.ShapeDtypeStruct((BATCH, *image), jnp.float32))


def _images(settings: InspectSettings) -> tuple[ImageShape, int]:
    """Image shape and classes."""
    if settings.data is not None and settings.input is not None:
        raise InspectError("--data and --input both say what the images are; leave one of them out")
    image, classes = DEFAULT_IMAGE, DEFAULT_CLASSES
    if settings.input is not None:
        image = _image_shape(settings.input)
    elif settings.data in IMAGES:
        image, classes = IMAGES[settings.data]
    elif settings.data is not None:
        dataset = load(settings.data)
        image, classes = dataset.image_shape, len(dataset.classes) or DEFAULT_CLASSES
    if settings.classes is not None:
        classes = settings.classes
    return image, classes


def _image_shape(text: str) -> ImageShape:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise InspectError(f"expected --input HEIGHT,WIDTH,CHANNELS (224,224,3), got '{text}'")
    height, width, channels = map(int, parts)
    return height, width, channels


def facts(name: str, graph: Graph) -> dict[str, Any]:
    """All that ``inspect`` tells, as plain data; docs/guide/graph.md says what the keys mean."""
    full = graph.full_counts()
    half = Policy.uniform(graph, keep=0.5).counts(graph)
    macs = graph.macs_at(half)
    frozen = _frozen(graph)
    layers = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "kernel": layer.kernel,
            "kernel_shape": list(layer.kernel_shape),
            "input_shape": list(layer.input_shape),
            "output_shape": list(layer.output_shape),
            "macs": layer.macs,
            "params": layer.params,
            "c_in": _plain(layer.c_in),
            "c_out": _plain(layer.c_out),
            "frozen": frozen.get(layer.name, {}),
        }
        for layer in graph.layers
    ]
    groups = [
        {
            "name": group.name,
            "size": group.size,
            "kind": group.kind,
            "producers": list(group.producers),
            "consumers": list(group.consumers),
            "members": [
                {"parameter": m.parameter, "axis": m.axis, "places": m.indices.shape[1]}
                for m in group.members
            ],
            "half": {
                "channels": half[group.name],
                "macs_saved": graph.macs - graph.macs_at({**full, group.name: half[group.name]}),
            },
        }
        for group in graph.groups.values()
    ]
    return {
        "network": name,
        "inputs": [{"shape": list(x.shape), "dtype": str(x.dtype)} for x in graph.inputs],
        "layers": layers,
        "groups": groups,
        "frozen": _by_reason(frozen),
        "unknown": sorted(graph.unknown),
        "macs": graph.macs,
        "product_macs": sum(count.at(full) for count in graph.products),
        "params": graph.params,
        "half": {
            "macs": macs,
            "macs_share": macs / graph.macs if graph.macs else 1.0,
            "params": graph.params_at(half),
        },
    }


def _plain(count: Count) -> dict[str, Any]:
    terms = [{"places": places, "groups": list(groups)} for places, groups in count.terms]
    return {"fixed": count.fixed, "terms": terms}


def _frozen(graph: Graph) -> dict[str, Counter[str]]:
    """Frozen output channels by layer and reason; none is without a reason."""
    found: dict[str, Counter[str]] = {}
    for layer, reasons in graph.frozen.items():
        found[layer] = Counter()
        for reason, channels in reasons.items():
            found[layer][reason or MEETS_FROZEN] += channels
    return found


def _by_reason(frozen: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Frozen output channels put together by reason, in order of appearance."""
    found: dict[str, dict[str, int]] = {}
    for layer, reasons in frozen.items():
        for reason, channels in reasons.items():
            found.setdefault(reason, {})[layer] = channels
    return [{"reason": reason, "layers": layers} for reason, layers in found.items()]
