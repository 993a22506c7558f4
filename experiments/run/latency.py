"""Measuring a network's latency model: its layers one by one, and some whole networks."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from experiments.records.machine import machine
from experiments.watch.progress import say, stage
from pfrl.compression.policy import Policy, round_count
from pfrl.compression.sliced import compress
from pfrl.cost.latency import NetworkLatency, layer_shape
from pfrl.cost.latency_table import measure_table
from pfrl.deploy.onnx.export import export_onnx, to_onnx
from pfrl.deploy.timing import Measurement, measure_interleaved
from pfrl.files import FileError, write_json
from pfrl.graph import Graph
from pfrl.user_cache import user_cache

NETWORKS = 32
"""Whole networks that the model is fitted to, besides the base."""
SECONDS = 10.0
"""Time spent on measuring the layers, and again on the whole networks."""


def measure_latency(graph: Graph, keep_min: float, round_to: int, seed: int) -> NetworkLatency:
    """The latency model for policies that keep at least ``keep_min``, rounded to ``round_to``.

    One that was measured before, of the same network on the same machine by the same versions, is
    taken from the user's cache folder: measuring takes longer than all else before a search.

    Half of the whole networks are random; in the other half every group fills
    whole blocks of the runtime's kernels with probability one half, so that
    the fit can tell what even and uneven counts cost.

    Args:
      graph: of the base network.
      keep_min, round_to: of the policies that will be asked for.
      seed: of the policies, of weights and images, and of the order of measuring.

    Returns:
      Predicted milliseconds of any of these policies, batch 1, one thread.

    Raises:
      ExportError: if the network cannot be exported.
    """
    path = user_cache() / "latency" / f"{_digest(graph, keep_min, round_to, seed)}.json"
    if (known := _read(graph, path)) is not None:
        say(f"latencies as measured on this machine before; to measure anew, delete {path}")
        return known
    model = _measured(graph, keep_min, round_to, seed)
    with suppress(FileError):  # a cache that cannot be written is no reason to stop
        write_json(path, model.to_json())
    return model


def _digest(graph: Graph, keep_min: float, round_to: int, seed: int) -> str:
    """Of all that decides about a latency model but the moods of the machine."""
    source = graph.source
    exported = to_onnx(lambda x: source.apply(source.variables, x, False)[0], graph.input_shape)
    facts = {
        "machine": machine(),
        "runtime": version("onnxruntime"),
        "asked": [keep_min, round_to, seed, NETWORKS, SECONDS],
        "operations": [[node.op_type, *node.input, *node.output] for node in exported.graph.node],
        "groups": {name: group.size for name, group in graph.groups.items()},
        "layers": [
            [asdict(layer_shape(layer, graph)), layer.c_in.groups, layer.c_out.groups]
            for layer in graph.layers
        ],
    }
    return hashlib.sha256(json.dumps(facts, default=list).encode()).hexdigest()[:24]


def _read(graph: Graph, path: Path) -> NetworkLatency | None:
    """The model of a file; None if there is none, or it is damaged."""
    try:
        return NetworkLatency.from_json(graph, json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _measured(graph: Graph, keep_min: float, round_to: int, seed: int) -> NetworkLatency:
    with stage("measuring layers"):
        table = measure_table(
            (layer_shape(layer, graph) for layer in graph.layers), seconds=SECONDS, seed=seed
        )
    rng = np.random.default_rng([seed, 3])
    policies = [Policy.uniform(graph)]
    for number in range(NETWORKS):
        keep = {}
        for name, group in graph.groups.items():
            even = number % 2 == 1 and rng.random() < 0.5
            share = rng.uniform(keep_min, 1)
            count = round_count(share * group.size, group.size, table.block if even else round_to)
            keep[name] = count / group.size
        policies.append(Policy(keep, policies[0].weight_bits, policies[0].act_bits))
    with stage("measuring networks"):
        measured = measure_policies(graph, policies, SECONDS)
    samples = [
        (policy.counts(graph), measurement.median_ms)
        for policy, measurement in zip(policies, measured, strict=True)
    ]
    return NetworkLatency.fitted(graph, table, samples)


def measure_policies(graph: Graph, policies: Sequence[Policy], seconds: float) -> list[Measurement]:
    """Latencies of a network's policies as ONNX files of untrained weights, measured in turns.

    Of quantized policies the float network is measured: the rounding steps of
    simulated bits are no part of what a runtime would spend.

    Args:
      graph: of the base network.
      policies: what is measured.
      seconds: spent on measuring, besides making the files.

    Returns:
      A measurement a policy, in their order.

    Raises:
      ExportError: if the network cannot be exported.
    """
    full = Policy.uniform(graph)
    with tempfile.TemporaryDirectory() as scratch:
        paths = []
        for place, policy in enumerate(policies):
            small = compress(
                graph.source,
                Policy(policy.keep, full.weight_bits, full.act_bits, policy.round_to),
                graph=graph,
            )
            paths.append(export_onnx(small, graph.input_shape, Path(scratch) / f"{place}.onnx"))
        return measure_interleaved(paths, seconds=seconds)
