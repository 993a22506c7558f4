"""What the fast paths of a search gain: ratios of times, measured in turns within one run.

Two times from two days differ by what else the machine did; a ratio within a
round does not.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from experiments.records.machine import machine
from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress, run_graph
from pfrl.deploy.onnx.export import export_onnx
from pfrl.deploy.runtimes.onnxruntime import Session
from pfrl.deploy.timing import interleave, median_interval
from pfrl.graph import Graph, Source, from_nnx, split_variables, trace
from pfrl.graph.masks import Masks
from pfrl.methods.channels.base import choose
from pfrl.methods.channels.criteria import l1_scores
from pfrl.models.zoo.layers import BatchNorm
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step

CLASSES = 10


class Ratio(NamedTuple):
    """How many times the seconds of the second thing the first one takes; 95 % interval."""

    what: str
    value: float
    low: float
    high: float


def ratios(
    runs: dict[str, Callable[[], None]],
    pairs: Sequence[tuple[str, str, str]],
    rounds: int,
    rng: np.random.Generator,
) -> list[Ratio]:
    """Ratios of times, each the median over rounds in which all functions run in turns.

    Args:
      runs: what is timed, by name.
      pairs: ``(what to call it, name of the numerator, name of the denominator)``.
    """
    functions = list(runs.values())
    times, _ = interleave(lambda: functions, 0.0, rng, fewest_rounds=rounds)
    columns = dict(zip(runs, times.T, strict=True))
    result = []
    for what, above, below in pairs:
        values = columns[above] / columns[below]
        result.append(Ratio(what, float(np.median(values)), *median_interval(values, rng)))
    return result


def with_flax_norms(model: nnx.Module) -> nnx.Module:
    """The network with Flax's batch normalisation in place of the hand-written one, fresh."""
    changed = nnx.clone(model)
    for _, parent in list(nnx.iter_graph(changed)):
        if not isinstance(parent, nnx.Module):
            continue
        for name, child in list(vars(parent).items()):
            if isinstance(child, BatchNorm):
                norm = nnx.BatchNorm(
                    child.scale.shape[0],
                    use_running_average=False,
                    momentum=child.momentum,
                    epsilon=child.epsilon,
                    rngs=nnx.Rngs(0),
                )
                setattr(parent, name, norm)
    return changed


def masked_apply(graph: Graph) -> Callable[..., Any]:
    """The function that a search evaluates: ``apply(variables, x, train, mask)``."""
    masks = Masks(graph)

    def apply(variables, x, train, mask):
        return run_graph(graph, masks.apply(variables, mask), x, train)

    return apply


def half(graph: Graph) -> tuple[Policy, np.ndarray]:
    """The policy that keeps half of every group, and its mask."""
    policy = Policy.uniform(graph, keep=0.5, round_to=4)
    kept = choose(l1_scores(graph, graph.source.variables), policy.counts(graph))
    return policy, Masks(graph).vector(kept)


def train_step(apply: Callable[..., Any], source: Source, x: Any, *extras: Any):
    """A compiled train step on a batch ``x``, as a function without arguments."""
    parameters, statistics = split_variables(source)
    optimizer = sgd(0.02, 5e-4)
    state = TrainState(parameters, statistics, optimizer.init(parameters))
    labels = np.arange(len(x), dtype=np.int32) % CLASSES
    step = jax.jit(make_train_step(apply, optimizer))

    def run() -> None:
        jax.block_until_ready(step(state, x, labels, None, *extras))

    run()
    return run


def training_ratios(
    model: nnx.Module, shape: tuple[int, ...], batch: int, rounds: int, rng: np.random.Generator
) -> list[Ratio]:
    """The masked program against the network itself; our batch normalisation against Flax's."""
    x = rng.standard_normal((batch, *shape), np.float32)
    source = from_nnx(model)
    flax = from_nnx(with_flax_norms(model))
    graph = trace(source, x)
    runs = {
        "masked": train_step(masked_apply(graph), source, x, half(graph)[1]),
        "plain": train_step(source.apply, source, x),
        "flax": train_step(flax.apply, flax, x),
    }
    step = f"train step, {batch} images"
    pairs = [
        (f"{step}: masked program / the nnx network", "masked", "plain"),
        (f"{step}: nnx.BatchNorm / hand-written", "flax", "plain"),
    ]
    return ratios(runs, pairs, rounds, rng)


def forward_ratios(
    model: nnx.Module, shape: tuple[int, ...], batch: int, rounds: int, rng: np.random.Generator
) -> tuple[list[Ratio], float]:
    """Validation in XLA against ONNX Runtime, and the seconds that a file for the latter takes."""
    x = rng.standard_normal((batch, *shape), np.float32)
    graph = trace(from_nnx(model), x)
    policy, mask = half(graph)
    apply = masked_apply(graph)
    predict = jax.jit(lambda variables, x, mask: apply(variables, x, False, mask)[0])
    variables, cores = graph.source.variables, machine()["cores"]

    def in_xla() -> None:
        jax.block_until_ready(predict(variables, x, mask))

    def load(folder: str) -> Session:
        small = compress(graph.source, policy, graph=graph)
        return Session(export_onnx(small, shape, Path(folder) / "half.onnx"), cores)

    in_xla()
    with tempfile.TemporaryDirectory() as folder:
        load(folder)
        start = time.perf_counter()
        runs = {"xla": in_xla, "ort": load(folder).bound(x)}
        seconds = time.perf_counter() - start
        what = f"forward, {batch} images: XLA, masked / ONNX Runtime, sliced, {cores} thread(s)"
        return ratios(runs, [(what, "xla", "ort")], rounds, rng), seconds
