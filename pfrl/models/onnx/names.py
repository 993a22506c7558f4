"""What the variables of an ONNX network are called: as the layers that they belong to."""

import re
from collections.abc import Mapping

from pfrl.models.onnx.program import OnnxProgram
from pfrl.models.onnx.reader import Node

ANONYMOUS = re.compile(r"(onnx::|_v_|val_|const|_to_copy|\d+$|tensor|unnamed)", re.IGNORECASE)
"""How names begin that an exporter has made up."""
LEAVES = frozenset(
    "weight weight_bias bias running_mean running_var kernel scale gamma beta mean var moving_mean"
    " moving_variance w b".split()
)
NOISE = re.compile(
    r"\.(ReadVariableOp|resource|BiasAdd|Conv2D|MatMul|FusedBatchNormV3|0|1)(?=\.|$)"
)
"""What TensorFlow puts behind the name of a layer."""


def variable_names(program: OnnxProgram) -> dict[str, str]:
    """The dotted names of a program's weights by those of the file, no two alike.

    ``layer1.0.conv1.weight`` of PyTorch is ``layer1.0.conv1.kernel`` here; what the exporter gave
    no name (``onnx::Conv_123``) is called as the node that reads it.
    """
    names: dict[str, str] = {}
    for weight in program.weights:
        role, node = _role(program, weight)
        name, number = _name(weight, role, node), 2
        stem, _, leaf = name.rpartition(".")
        while name in names.values():
            name = f"{stem}_{number}.{leaf}" if stem else f"{leaf}_{number}"
            number += 1
        names[weight] = name
    return names


def _role(program: OnnxProgram, weight: str) -> tuple[str | None, Node]:
    if weight in program.roles:
        return program.roles[weight]
    return None, next(node for node in program.nodes if weight in node.inputs)


def _name(weight: str, role: str | None, node: Node) -> str:
    if ANONYMOUS.match(weight):
        return f"{_path(node)}.{role or 'constant'}"
    name = re.sub(r"[/:]+", ".", weight).strip(".")
    while (shorter := NOISE.sub("", name)) != name and "/" in weight:
        name = shorter
    stem, _, leaf = name.rpartition(".")
    if role is None:
        return name
    return f"{stem}.{role}" if stem and leaf.lower() in LEAVES else f"{name}.{role}"


def _path(node: Node) -> str:
    """``layer1.0.conv1`` of a node ``/layer1/layer1.0/conv1/Conv``; else the node's own name."""
    *scopes, last = node.name.strip("/").split("/")
    path = ""
    for scope in scopes:
        inner = path.rpartition(".")[0]
        parent = f"{inner}." if inner else ""
        own = path.removeprefix(parent)
        path = f"{parent}{scope}" if own and scope.startswith(f"{own}.") else f"{path}.{scope}"
        path = path.strip(".")
    return path or re.sub(r"\W+", "_", last)


def renamed_roles(program: OnnxProgram, names: Mapping[str, str]) -> frozenset[str]:
    """The variables that are statistics: means and variances of normalisations."""
    return frozenset(
        names[weight]
        for weight, (role, _) in program.roles.items()
        if role in ("mean", "var") and weight in names
    )
