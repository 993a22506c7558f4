"""Channel groups of ``pfrl.trace`` beside those of Torch-Pruning's DepGraph (arXiv 2301.12900).

    pip install -c constraints.txt -e '.[benchmarks]'
    python -m benchmarks.depgraph

For ResNet-50 and ViT-tiny (queries, keys and values from three layers, and from one), with
equal random weights in both libraries: every group of DepGraph and how it stands to ours, and
what is left when both remove half the channels. Prints tables and writes
``benchmarks/depgraph.json``.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

import pfrl
from benchmarks.coupling import (
    Channel,
    Counterpart,
    find_counterparts,
    our_groups,
    relate,
    untouched,
)
from benchmarks.pytorch.models import ResNet50, ViTTiny, randomise
from benchmarks.torch_side import DepGraph, attention_units, attentions, count_params, prune
from pfrl.files import write_json
from pfrl.graph import Graph, Variables
from pfrl.graph.masks import Masks
from pfrl.models.zoo.imagenet_resnet import ImageNetResNet
from pfrl.models.zoo.vit import VisionTransformer

CLASSES = 10
IMAGES = 2
OUTPUT = Path(__file__).with_suffix(".json")
PACKAGES = ("torch-pruning", "torch", "jax", "flax", "numpy")


class Twins(NamedTuple):
    """One network in two libraries, and the side of its images in pixels."""

    theirs: Callable[[], nn.Module]
    ours: Callable[..., nnx.Module]
    size: int


def _vit(fused: bool, depth: int = 12, size: int = 32, patch: int = 4) -> Twins:
    return Twins(
        partial(ViTTiny, CLASSES, size, patch, depth, fused),
        partial(
            VisionTransformer,
            CLASSES,
            image_size=(size, size),
            patch=patch,
            depth=depth,
            fused_qkv=fused,
        ),
        size,
    )


NETWORKS = {
    "resnet50": Twins(partial(ResNet50, CLASSES), partial(ImageNetResNet, CLASSES), 64),
    "vit_tiny": _vit(fused=False),
    "vit_tiny_fused": _vit(fused=True),
}


class Pair(NamedTuple):
    """Twins with the same weights.

    Attributes:
      model: the torch network.
      graph: of ours.
      variables: of ours.
      counterparts: our arrays by the names of torch's.
      images: ``[N, 3, H, W]``.
    """

    model: nn.Module
    graph: Graph
    variables: Variables
    counterparts: dict[str, Counterpart]
    images: torch.Tensor

    @property
    def x(self) -> np.ndarray:
        """The images as ours takes them, ``[N, H, W, 3]``."""
        return self.images.numpy().transpose(0, 2, 3, 1)


def make_pair(twins: Twins, seed: int = 0) -> Pair:
    """Both networks with the same random weights, and random images."""
    model = randomise(twins.theirs(), seed).eval()
    arrays = {name: array for name, array in model.state_dict().items() if array.ndim > 0}
    ours = nnx.eval_shape(lambda: twins.ours(rngs=nnx.Rngs(0)))
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((IMAGES, 3, twins.size, twins.size), generator=generator)
    spec = jax.ShapeDtypeStruct((IMAGES, twins.size, twins.size, 3), np.float32)
    graph = pfrl.trace(ours, spec)
    shapes = {name: np.shape(array) for name, array in graph.source.variables.items()}
    counterparts = find_counterparts({n: tuple(a.shape) for n, a in arrays.items()}, shapes)
    variables = {
        counterparts[name].name: counterparts[name].convert(array.numpy())
        for name, array in arrays.items()
    }
    return Pair(model, graph, variables, counterparts, images)


def compare_groups(pair: Pair) -> dict[str, Any]:
    """How every group of DepGraph stands to ours, and which of ours it does not have.

    Behind every group's name is the number of its channels; members are the axes
    of arrays that they lie on.
    """
    depgraph = DepGraph(pair.model, pair.images, pair.counterparts)
    ours = our_groups(pair.graph, pair.counterparts.values())
    groups = depgraph.groups()
    units = attention_units(pair.model, depgraph)
    return {
        "depgraph_groups": len(groups),
        "our_groups": len(ours),
        "groups": [_row(name, channels, ours) for name, channels in groups.items()],
        "with_number_of_heads": [_row(name, channels, ours) for name, channels in units.items()],
        "only_ours": untouched(ours, groups.values()),
    }


def _row(name: str, channels: list[Channel], ours: Mapping[str, list[Channel]]) -> dict[str, Any]:
    relation = relate(channels, ours)
    return {
        "depgraph": f"{name} ({len(channels)})",
        "members": len({(array, axes) for channel in channels for array, axes, _ in channel}),
        "relation": relation.kind,
        "ours": [f"{each} ({len(ours[each])})" for each in relation.ours],
    }


def collapse(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that are the same but for the numbers of blocks (``blocks.*.mlp.fc1``) as one."""
    kinds: dict[str, dict[str, Any]] = {}
    for row in rows:
        starred = re.sub(r"\.\d+\.", ".*.", json.dumps(row))
        kind = kinds.setdefault(starred, {"groups": 0, **json.loads(starred)})
        kind["groups"] += 1
    return list(kinds.values())


def compare_pruned(pair: Pair, ratio: float = 0.5) -> list[dict[str, Any]]:
    """Costs when both remove half of everything; of attention with and without whole heads."""
    heads = {name: group for name, group in pair.graph.groups.items() if group.kind == "heads"}
    everything = pfrl.Policy.uniform(pair.graph, 1 - ratio)
    rows = []
    if heads:
        whole = {**everything.keep, **dict.fromkeys(heads, 1.0)}
        policy = dataclasses.replace(everything, keep=whole)
        rows.append(_pruned(pair, "half the channels, all heads", policy, ratio, 0.0))
    what = "half the channels" + (" and heads" if heads else "")
    rows.append(_pruned(pair, what, everything, ratio, ratio if heads else 0.0))
    if heads:
        left = {name: rows[-1]["depgraph"]["heads"] / group.size for name, group in heads.items()}
        policy = dataclasses.replace(everything, keep={**everything.keep, **left})
        rows.append(_pruned(pair, "half the channels, as many heads", policy, ratio, ratio))
    return rows


def _pruned(
    pair: Pair, what: str, policy: pfrl.Policy, ratio: float, head_ratio: float
) -> dict[str, Any]:
    theirs = prune(pair.model, pair.images, ratio, head_ratio)
    ours = pfrl.compress(None, policy, graph=pair.graph, variables=pair.variables)
    masks = Masks(pair.graph)
    masked = masks.apply(pair.variables, jnp.asarray(masks.vector(ours.kept)))
    heads = [attention.heads for attention in attentions(theirs.model).values()]
    counts = policy.counts(pair.graph)
    kinds = {name: group.kind for name, group in pair.graph.groups.items()}
    our_heads = [count for name, count in counts.items() if kinds[name] == "heads"]
    return {
        "what": what,
        "depgraph": {
            "macs": theirs.macs,
            "params": theirs.params,
            "heads": max(heads, default=0),
            "masked_minus_pruned": gap(
                torch_logits(theirs.masked, pair), torch_logits(theirs.model, pair)
            ),
        },
        "ours": {
            "macs": ours.macs,
            "params": ours.params,
            "heads": max(our_heads, default=0),
            "masked_minus_pruned": gap(
                our_logits(pair.graph.source.apply, masked, pair),
                our_logits(ours.apply, ours.variables, pair),
            ),
        },
    }


def torch_logits(model: nn.Module, pair: Pair) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(pair.images).numpy()


def our_logits(apply: Callable, variables: Variables, pair: Pair) -> np.ndarray:
    run = jax.jit(
        lambda variables, x: apply(variables, x, False)[0],
        # Compiling is most of the time, and shorter without LLVM's optimisations.
        compiler_options={"xla_backend_optimization_level": 0},
    )
    return np.asarray(run(variables, pair.x))


def gap(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference, over the largest value."""
    return float(np.abs(first - second).max() / np.abs(first).max())


def compare(name: str) -> dict[str, Any]:
    """Everything about one of ``NETWORKS``."""
    pair = make_pair(NETWORKS[name])
    ours = our_logits(pair.graph.source.apply, pair.variables, pair)
    groups = compare_groups(pair)
    return {
        "input": list(pair.x.shape),
        "macs": pair.graph.macs,
        "params": {"depgraph": count_params(pair.model), "ours": pair.graph.params},
        "logits_differ_by": gap(torch_logits(pair.model, pair), ours),
        **groups,
        **{part: collapse(groups[part]) for part in PARTS},
        "pruned": compare_pruned(pair),
    }


PARTS = {
    "groups": "DepGraph's groups",
    "with_number_of_heads": "attention, once told the number of heads",
}


def table(result: Mapping[str, Any]) -> str:
    """What ``compare`` found, as text."""
    lines = [
        f"groups: DepGraph {result['depgraph_groups']}, ours {result['our_groups']};"
        f" only ours: {', '.join(result['only_ours']) or 'none'}"
    ]
    for part, title in PARTS.items():
        if result[part]:
            lines.append(f"\n{title}{'members':>{57 - len(title)}}  relation   ours")
        for row in result[part]:
            lines.append(
                f"{row['groups']:4} x {row['depgraph']:<42}{row['members']:>8}"
                f"  {row['relation']:<10} {', '.join(row['ours'])}"
            )
    lines.append(f"\n{'pruned':<44}{'MACs':>13}{'params':>12}{'heads':>7}{'masked - pruned':>17}")
    for row in result["pruned"]:
        for side in ("depgraph", "ours"):
            cost = row[side]
            lines.append(
                f"{row['what'] + ': ' + side:<44}{cost['macs']:>13,}{cost['params']:>12,}"
                f"{cost['heads']:>7}{cost['masked_minus_pruned']:>17.1e}"
            )
    return "\n".join(lines)


def main() -> None:
    results = {}
    for name in NETWORKS:
        results[name] = compare(name)
        print(f"\n== {name} ==\n{table(results[name])}")
    versions = {package: version(package) for package in PACKAGES}
    command = "python -m benchmarks.depgraph"
    write_json(OUTPUT, {"command": command, "versions": versions, "networks": results})
    print(f"\n{OUTPUT}")


if __name__ == "__main__":
    main()
