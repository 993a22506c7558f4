"""Measuring a network's latency model: its layers one by one, and some whole networks."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from envs import NetworkTask
from experiments.records.machine import machine
from experiments.settings.blocks import SpaceBlock
from experiments.watch.progress import say, stage
from pfrl.compression.policy import Policy, round_count
from pfrl.compression.sliced import Compressed, compress
from pfrl.cost.latency import NetworkLatency, layer_shape
from pfrl.cost.latency_table import measure_table
from pfrl.cost.model import Assignment
from pfrl.deploy.onnx.export import to_onnx
from pfrl.deploy.operators.program import ExportError
from pfrl.deploy.runtimes.base import file_runtime
from pfrl.deploy.timing import (
    STEADY,
    Measurement,
    Quantities,
    latency_ratio,
    measure_interleaved,
    ratios_to,
    together,
)
from pfrl.files import write_json
from pfrl.graph import Graph
from pfrl.methods.quantization.base import WEIGHT_QUANTIZERS
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.user_cache import digest, kept, user_cache

NETWORKS = 32
"""Whole networks that the model is fitted to, besides the base."""
INTEGER_BITS = 8
LATENCY_FILE = "latency.json"
"""In the folder of a run or a study: the model that its searches read."""
SECONDS = 10.0
"""Time spent at most on measuring the layers, and again on the whole networks."""


class IntegerShares(NamedTuple):
    """Latencies of networks with integers of 8 bits, over that of the base network in float.

    Attributes:
      base: of the base network.
      smallest: of the network that keeps as few channels as a policy may.
      smallest_float: of that network without integers.
    """

    base: float
    smallest: float
    smallest_float: float

    def removes_more(self, limit: float) -> bool:
        """Whether more channels have to go with integers than without for a share of the latency.

        As if latency fell evenly from all channels to the fewest. Of a small network's integers
        little is arithmetic, so that channels, which cost accuracy, hardly make it faster.
        """

        def left(whole: float, smallest: float) -> float:
            return min((limit - smallest) / max(whole - smallest, 1e-9), 1.0)

        return left(self.base, self.smallest) < left(1.0, self.smallest_float)


def measure_latency(
    graph: Graph,
    keep_min: float,
    round_to: int,
    seed: int,
    integers: bool = False,
    runtime: str = "onnx",
) -> NetworkLatency:
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
      integers: whether files of integers are measured besides those of floats.
      runtime: name of the ``FileRuntime`` that they are measured in.

    Returns:
      Predicted milliseconds of any of these policies, batch 1, one thread.

    Raises:
      ExportError: if the network cannot be exported.
      Unavailable: if the runtime is not installed.
    """
    key = _key(graph, keep_min, round_to, seed, integers, runtime)
    path = user_cache() / "latency" / f"{key[:32]}.json"

    def read(path: Path) -> NetworkLatency:
        found = NetworkLatency.from_json(graph, json.loads(path.read_text()))
        say(f"latencies as measured on this machine before; to measure anew, delete {path}")
        return found

    def make() -> NetworkLatency:
        widths = [FLOAT_BITS, INTEGER_BITS] if integers else [FLOAT_BITS]
        floats, *others = _measured(graph, keep_min, round_to, seed, widths, runtime)
        return replace(floats, integers=others[0]) if integers else floats

    return kept(path, read, make, lambda path, model: write_json(path, model.to_json()))


def latency_in(space: SpaceBlock, graph: Graph, task: NetworkTask, seed: int) -> NetworkLatency:
    """The latency model of a search space's policies: ``measure_latency`` as its settings say.

    Args:
      space: of the search.
      graph, task: of the base network.
      seed: as of ``measure_latency``.
    """
    return measure_latency(
        graph,
        space.keep_min,
        space.round_to,
        seed,
        writes_integers(task),
        space.latency_runtime,
    )


def integer_shares(graph: Graph, space: SpaceBlock) -> IntegerShares | None:
    """How fast integers are, measured in turns in the search space's runtime.

    None if the network cannot be written with integers.
    """
    bits = INTEGER_BITS
    policies = [
        Policy.uniform(graph),
        Policy.uniform(graph, 1.0, bits, bits),
        Policy.uniform(graph, space.keep_min, bits, bits, space.round_to),
        Policy.uniform(graph, space.keep_min, round_to=space.round_to),
    ]
    with stage("measuring integers"):
        try:
            floats, *others = measure_policies(graph, policies, SECONDS / 2, space.latency_runtime)
        except ExportError:
            return None
    return IntegerShares(*(latency_ratio(other, floats).value for other in others))


def writes_integers(task: NetworkTask) -> bool:
    """Whether the files of a task's policies that round all layers compute with integers."""
    return task.quantized and WEIGHT_QUANTIZERS[task.recipe.weights].steps is not None


def _key(
    graph: Graph, keep_min: float, round_to: int, seed: int, integers: bool, runtime: str
) -> str:
    """Digest of all that decides about a latency model but the moods of the machine."""
    source = graph.source
    exported = to_onnx(lambda x: source.apply(source.variables, x, False)[0], graph.input_shape)
    facts = {
        "machine": machine(),
        "runtime": [runtime, file_runtime(runtime).version()],
        "asked": [keep_min, round_to, seed, NETWORKS, SECONDS, integers],
        "operations": [[node.op_type, *node.input, *node.output] for node in exported.graph.node],
        "groups": {name: group.size for name, group in graph.groups.items()},
        "layers": [
            [asdict(layer_shape(layer, graph)), list(layer.c_in.groups), list(layer.c_out.groups)]
            for layer in graph.layers
        ],
    }
    return digest(facts)


def _measured(
    graph: Graph,
    keep_min: float,
    round_to: int,
    seed: int,
    widths: Sequence[int],
    runtime: str,
) -> list[NetworkLatency]:
    """A model for files of each bit width; all networks are measured in turns, so that a share of
    the float network's latency is one of the same moods of the machine."""
    shapes = [layer_shape(layer, graph) for layer in graph.layers]
    tables = []
    for bits in widths:
        with stage("measuring layers of integers" if bits < FLOAT_BITS else "measuring layers"):
            table = measure_table(
                shapes, seconds=SECONDS, seed=seed, integers=bits < FLOAT_BITS, runtime=runtime
            )
        tables.append(table)
    rng = np.random.default_rng([seed, 3])
    keeps: list[dict[str, float]] = [dict.fromkeys(graph.groups, 1.0)]
    for number in range(NETWORKS):
        keep = {}
        for name, group in graph.groups.items():
            even = number % 2 == 1 and rng.random() < 0.5
            share = rng.uniform(keep_min, 1)
            block = tables[0].block if even else round_to
            keep[name] = round_count(share * group.size, group.size, block) / group.size
        keeps.append(keep)
    policies = [
        replace(Policy.uniform(graph, 1.0, bits, bits), keep=keep)
        for bits in widths
        for keep in keeps
    ]
    with stage("measuring networks"):
        measured = measure_policies(graph, policies, SECONDS * len(widths), runtime, together)
    samples = [
        (policy.counts(graph), measurement.median_ms)
        for policy, measurement in zip(policies, measured, strict=True)
    ]
    return [
        NetworkLatency.fitted(graph, table, samples[start : start + len(keeps)])
        for table, start in zip(tables, range(0, len(samples), len(keeps)), strict=True)
    ]


def measure_policies(
    graph: Graph,
    policies: Sequence[Policy],
    seconds: float,
    runtime: str = "onnx",
    steady: Quantities | None = None,
) -> list[Measurement]:
    """Latencies of a network's policies as files of untrained weights, measured in turns.

    A policy that rounds all layers is measured as a file of integers of 8 bits, which is as fast
    as one of fewer; any other one as the float network, as simulated bits are no part of what a
    runtime would spend.

    Args:
      graph: of the base network.
      policies: what is measured.
      seconds: spent on measuring at most, besides making the files: all that is to be
        steady being so ends it.
      runtime: name of the ``FileRuntime`` that they are measured in.
      steady: what is to be steady; by default the ratios to the first policy's latency.

    Returns:
      A measurement a policy, in their order.

    Raises:
      ExportError: if the network cannot be exported.
    """
    steady = steady or ratios_to([0] * len(policies))
    with tempfile.TemporaryDirectory() as scratch:
        where = file_runtime(runtime)
        paths = [Path(scratch) / f"{place}{where.suffix}" for place in range(len(policies))]
        for path, policy in zip(paths, policies, strict=True):
            path.write_bytes(where.written(_alike(graph, policy), graph.input_shape))
        return measure_interleaved(paths, seconds=seconds, precision=STEADY, steady=steady)


def _alike(graph: Graph, policy: Policy) -> Compressed:
    """A network that takes as long as the policy's, whatever its numbers."""
    bits = INTEGER_BITS if Assignment.of(policy, graph).rounded else FLOAT_BITS
    alike = Policy.uniform(graph, 1.0, bits, bits)
    alike = replace(alike, keep=policy.keep, round_to=policy.round_to)
    ranges = {site.name: (-1.0, 1.0) for site in graph.sites}
    return compress(graph.source, alike, graph=graph, ranges=ranges)
