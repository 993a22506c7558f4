"""The conformance table's rows, one a registered method, and what its cells have in common."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.compression.calibration import CalibrationStatistics, gather_statistics
from pfrl.compression.masked import MaskedNetwork
from pfrl.compression.policy import Policy
from pfrl.compression.prepare import Preparer
from pfrl.compression.recipe import METHODS, Recipe
from pfrl.compression.rounding import Quantizer, Rounding
from pfrl.compression.sliced import Compressed
from pfrl.graph import Graph, trace
from pfrl.methods.low_rank.base import DECOMPOSITIONS
from pfrl.methods.low_rank.decompose import decomposable, decompose
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.models import catalogue as zoo
from pfrl.models.zoo.vit import VisionTransformer
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step
from tests.support.conformance import BATCH, random_inputs, random_source
from tests.support.narrow import CLASSIC

SIDE = 32


def _full(name: str) -> tuple[Any, tuple[int, ...]]:
    return lambda rngs: zoo.build(name, 10, (SIDE, SIDE, 3), rngs), (SIDE, SIDE, 3)


COLUMNS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "resnet": CLASSIC["resnet20b"],
    "mobilenet_v2": CLASSIC["mobilenet_v2"],
    "vit_tiny": (
        lambda rngs: VisionTransformer(5, 3, (8, 12), 4, 12, 1, 3, 2, 0.1, rngs=rngs),
        (8, 12, 3),
    ),
}
FULL = {name: _full(name) for name in ("resnet20", "mobilenet_v2", "vit_tiny")}
# Compiling is nearly all of the time, and less than half as long without these.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}

MakePolicy = Callable[[Graph, int], Policy]
"""``(graph, seed) -> policy``, another one for every seed."""


class Row(NamedTuple):
    """A method: by which recipe, and what kind of policies.

    Attributes:
      recipe: see ``Recipe``.
      policy: random policies of a kind.
      precise: whether masked and sliced are compared in float64. Sums over removed channels
        differ in their last digit from those without them; where that digit decides to which
        side a number is rounded, the results differ by a whole step of the grid.
      low_rank: how layers are decomposed first, where they can be.
    """

    recipe: Recipe
    policy: MakePolicy
    precise: bool = True
    low_rank: str = ""


def pruned(graph: Graph, seed: int) -> Policy:
    """Random shares of all groups, the same ones in every row."""
    rng = np.random.default_rng(seed)
    keep = {name: float(rng.uniform(0.4, 0.9)) for name in graph.groups}
    return replace(Policy.uniform(graph), keep=keep)


def sparse(*shares: float) -> MakePolicy:
    """Pruned, and of every layer's weights one of these shares zero."""

    def policy(graph: Graph, seed: int) -> Policy:
        rng = np.random.default_rng([seed, 1])
        sparsity = {layer.name: float(rng.choice(shares)) for layer in graph.layers}
        return replace(pruned(graph, seed), sparsity=sparsity)

    return policy


def rounded(weights: tuple[int, ...], activations: tuple[int, ...] = (FLOAT_BITS,)) -> MakePolicy:
    """Pruned, every layer with one of these bit widths."""

    def policy(graph: Graph, seed: int) -> Policy:
        rng = np.random.default_rng([seed, 2])
        names = [layer.name for layer in graph.layers]
        weight_bits = {name: int(rng.choice(weights)) for name in names}
        act_bits = {name: int(rng.choice(activations)) for name in names}
        return replace(pruned(graph, seed), weight_bits=weight_bits, act_bits=act_bits)

    return policy


def together(first: MakePolicy, second: MakePolicy) -> MakePolicy:
    """The sparsity of the first and the bit widths of the second."""
    return lambda graph, seed: replace(second(graph, seed), sparsity=first(graph, seed).sparsity)


WIDTHS = (2, 3, 4, 8, FLOAT_BITS)
SHARES = (0.0, 0.3, 0.5, 0.9)
HALVES = (0.0, 0.5)
WEIGHTS, SPARSE = rounded(WIDTHS), sparse(*SHARES)
BOTH = rounded((4, 6, 8), (3, 4, 8, FLOAT_BITS))
SPARSE_AND_ROUNDED = together(SPARSE, BOTH)

KINDS: dict[str, tuple[str, MakePolicy]] = {
    "criterion": ("", pruned),
    "repair": ("repair ", pruned),
    "pattern": ("pattern ", SPARSE),
    "weights": ("weights ", WEIGHTS),
    "calibration": ("calibration ", BOTH),
    "clips": ("clips ", BOTH),
    "equalize": ("equalize ", BOTH),
    "rounding": ("rounding ", WEIGHTS),
}
"""By field of a recipe, how the rows of its methods begin, and their policies."""
OTHER_POLICIES = {
    "pattern 2:4": sparse(*HALVES),
    "pattern 4:8": sparse(*HALVES),
    "weights codebook": rounded((1, 2, 4, 32)),
}


def rows_of(field: str, names: Iterable[str]) -> dict[str, Row]:
    """A row for every registered method of a kind, by default expectations."""
    start, policy = KINDS[field]
    return {
        start + name: Row(
            replace(Recipe(), **{field: name}), OTHER_POLICIES.get(start + name, policy)
        )
        for name in names
    }


ROWS: dict[str, Row] = {
    **{name: row for field in KINDS for name, row in rows_of(field, METHODS[field]).items()},
    "normalised": Row(Recipe(criterion="taylor", normalise=True), pruned),
    "sparse, repaired": Row(Recipe(sparse_repair=True), SPARSE),
    "bias correction": Row(Recipe(bias_correction=True), WEIGHTS),
    **{
        f"low rank, {kind}": Row(Recipe(criterion="l2"), pruned, False, kind)
        for kind in DECOMPOSITIONS
    },
    "prune, repair, sparsify, lsq": Row(
        Recipe(
            repair="least_squares",
            sparse_repair=True,
            weights="lsq",
            clips="lsq",
            calibration="mse",
            bias_correction=True,
        ),
        SPARSE_AND_ROUNDED,
    ),
    "prune, codebook": Row(
        Recipe(repair="least_squares", weights="codebook"), together(SPARSE, WEIGHTS)
    ),
}


@cache
def traced(network: Any, low_rank: str = "", precise: bool = False) -> Graph:
    """A network with random arrays, some of its layers decomposed; float64 if precise.

    Args:
      network: ``(constructor, shape of an image)``, as in ``COLUMNS``.
    """
    constructor, image = network
    dtype = jnp.float64 if precise else jnp.float32
    with jax.enable_x64(precise):
        x = jax.ShapeDtypeStruct((BATCH, *image), dtype)
        graph = trace(random_source(constructor, dtype=dtype), x)
        if low_rank:
            kinds = decomposable(graph)
            layers = {name: low_rank for name in kinds if low_rank in kinds[name]}
            assert layers
            graph = trace(decompose(graph, layers), x)
    return graph


@cache
def batches(network: Any, low_rank: str = "") -> list[tuple[np.ndarray, np.ndarray]]:
    """Inputs and labels that a recipe may look at; the first ones are trained on."""
    graph, rng = traced(network, low_rank), np.random.default_rng(0)
    return [(random_inputs(rng, graph.inputs[0]), rng.integers(0, 4, BATCH)) for _ in range(4)]


@cache
def _seen(network: Any, low_rank: str, recipe: Recipe, quantized: bool) -> CalibrationStatistics:
    graph = traced(network, low_rank)
    return gather_statistics(graph, recipe, batches(network, low_rank), quantized=quantized)


def looked_up(network: Any, row: Row) -> CalibrationStatistics:
    """What the row's recipe needs to know; rows that need the same share it, as it compiles."""
    everything = Recipe(repair="least_squares", calibration="mse", bias_correction=True)
    seen = _seen(network, row.low_rank, everything, True)
    return replace(seen, recipe=row.recipe, select=_select(network, row))


def _select(network: Any, row: Row) -> Any:
    criterion = Recipe(criterion=row.recipe.criterion, normalise=row.recipe.normalise)
    return _chosen(network, row.low_rank, criterion)


@cache
def _chosen(network: Any, low_rank: str, recipe: Recipe) -> Any:
    return _seen(network, low_rank, recipe, False).select


@cache
def prepared_by(network: Any, name: str) -> Preparer:
    """Of a row, for all its policies."""
    row = ROWS[name]
    return Preparer(looked_up(network, row))


def rounding(recipe: Recipe) -> Recipe:
    """All of a recipe that is in a network's program: rows that round alike share theirs."""
    return Recipe(weights=recipe.weights, clips=recipe.clips)


@cache
def masked(
    network: Any, recipe: Recipe, low_rank: str = "", precise: bool = False
) -> tuple[MaskedNetwork, Callable[..., Any]]:
    """The masked network of all rows that round alike, and ``a_step`` of it, jitted.

    Rows that round nothing or have no zeros are policies of it too, at 32 bits and all
    weights; decomposed networks leave out the code of both.
    """
    graph = traced(network, low_rank, precise)
    found = MaskedNetwork(graph, recipe, quantized=not low_rank, sparse=not low_rank)
    return found, jax.jit(a_step(found.apply, found.trainable), compiler_options=QUICK)


def a_step(apply: Callable[..., Any], trainable: frozenset[str]) -> Callable[..., Any]:
    """All that is compared as one function, so that it compiles once.

    ``(variables, x, labels, *extras)`` to outputs in both modes, the kernels that layers
    use, and statistics and parameters after one step of training.
    """
    optimizer = sgd(0.1, 0.01)

    def told(variables: Any, x: Any, train: bool, *extras: Any) -> Any:
        outputs, statistics = apply(variables, x, train, *extras)
        return outputs, {**statistics, "outputs": outputs}

    step = make_train_step(told, optimizer)

    def run(variables: Any, x: Any, labels: Any, *extras: Any) -> dict[str, Any]:
        parameters = {k: v for k, v in variables.items() if k in trainable}
        statistics = {k: v for k, v in variables.items() if k not in trainable}
        with used_kernels() as kernels:
            evaluated, _ = apply(variables, x, False, *extras)
        state = TrainState(parameters, statistics, optimizer.init(parameters))
        state, loss = step(state, x, labels, None, *extras)
        trained = state.statistics.pop("outputs")
        return {
            "evaluated": evaluated,
            "trained": trained,
            "loss": loss,
            "kernels": kernels,
            "statistics": state.statistics,
            "parameters": state.parameters,
        }

    return run


@contextmanager
def used_kernels() -> Iterator[dict[str, Any]]:
    """By layer, the kernels as quantizers hand them over."""
    found: dict[str, Any] = {}
    original = Quantizer.rounding

    def rounding(self: Quantizer, *arguments: Any) -> Rounding:
        own = original(self, *arguments)

        def kernel(layer: str, value: Any) -> Any:
            found[layer] = own.kernel(layer, value)
            return found[layer]

        return own._replace(kernel=kernel)

    with mock.patch.object(Quantizer, "rounding", rounding):
        yield found


_COMPILED: dict[Any, Any] = {}


def sliced_step(small: Compressed, x: Any, labels: Any) -> dict[str, Any]:
    """``a_step`` of a sliced network; equal programs compile once, so bit widths are arguments."""
    quantizer = Quantizer(small.graph, small.recipe)
    widths = quantizer.bit_widths(small.policy, small.ranges) if small.quantized else None
    arguments = dict(small.variables), dict(small.weight_masks), widths, x, labels

    def run(variables: Any, masks: Any, widths: Any, x: Any, labels: Any) -> dict[str, Any]:
        own = replace(small, weight_masks=masks)
        with mock.patch.object(Quantizer, "bit_widths", lambda *_: widths):
            return a_step(own.apply, own.trainable)(variables, x, labels)

    lowered = jax.jit(run).lower(*arguments)
    text = lowered.as_text()
    if text not in _COMPILED:
        _COMPILED[text] = lowered.compile(compiler_options=QUICK)
    return _COMPILED[text](*arguments)


STRUCTURAL = frozenset(
    {
        *("l1", "lasso", "repair least_squares", "pattern magnitude", "low rank, svd"),
        "prune, repair, sparsify, lsq",
    }
)
"""Rows whose arithmetic depends on how layers are joined, and one with all of it: every column has
these. What rounds a kernel rounds those of any network alike."""
