"""The conformance table's rows, one a method, and what its cells have in common."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.compression.calibration import Survey, survey
from pfrl.compression.masked import MaskedNetwork
from pfrl.compression.policy import Policy
from pfrl.compression.prepare import Preparer
from pfrl.compression.recipe import Recipe
from pfrl.compression.rounding import Quantizer
from pfrl.compression.sliced import Compressed
from pfrl.graph import Graph, trace
from pfrl.methods.channels.criteria import CRITERIA
from pfrl.methods.low_rank.decompose import decomposable, decompose
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.models import catalogue as zoo
from pfrl.models.zoo.mobilenet import MobileNetV2
from pfrl.models.zoo.vit import VisionTransformer
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step
from tests.support.conformance import BATCH, random_inputs, random_source
from tests.support.narrow import V2
from tests.support.tiny import resnet8

SIDE = 32


def _full(name: str) -> tuple[Any, tuple[int, ...]]:
    return lambda rngs: zoo.build(name, 10, (SIDE, SIDE, 3), rngs), (SIDE, SIDE, 3)


# Time and memory of a cell grow with the number of layers: one or two blocks of each kind.
COLUMNS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "resnet": (resnet8, (8, 8, 1)),
    "mobilenet_v2": (
        lambda rngs: MobileNetV2(5, 2, 0.25, 0.2, True, 4, V2[:2], rngs=rngs),
        (16, 16, 2),
    ),
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
    """Pruned, every layer with one of these widths."""

    def policy(graph: Graph, seed: int) -> Policy:
        rng = np.random.default_rng([seed, 2])
        names = [layer.name for layer in graph.layers]
        weight_bits = {name: int(rng.choice(weights)) for name in names}
        act_bits = {name: int(rng.choice(activations)) for name in names}
        return replace(pruned(graph, seed), weight_bits=weight_bits, act_bits=act_bits)

    return policy


def together(first: MakePolicy, second: MakePolicy) -> MakePolicy:
    """The sparsity of the first and the widths of the second."""
    return lambda graph, seed: replace(second(graph, seed), sparsity=first(graph, seed).sparsity)


WIDTHS = (2, 3, 4, 8, FLOAT_BITS)
SHARES = (0.0, 0.3, 0.5, 0.9)
HALVES = (0.0, 0.5)
WEIGHTS, SPARSE = rounded(WIDTHS), sparse(*SHARES)
BOTH = rounded((4, 6, 8), (3, 4, 8, FLOAT_BITS))
SPARSE_AND_ROUNDED = together(SPARSE, BOTH)

ROWS: dict[str, Row] = {
    "l1": Row(Recipe(), pruned),
    "l2": Row(Recipe(criterion="l2"), pruned),
    "bn_scale": Row(Recipe(criterion="bn_scale"), pruned),
    "fpgm": Row(Recipe(criterion="fpgm"), pruned),
    "taylor": Row(Recipe(criterion="taylor", normalise=True), pruned),
    "activation": Row(Recipe(criterion="activation"), pruned),
    "random": Row(Recipe(criterion="random"), pruned),
    "lasso": Row(Recipe(criterion="lasso"), pruned),
    "proximal": Row(Recipe(criterion="proximal"), pruned),
    "discrimination": Row(Recipe(criterion="discrimination"), pruned),
    "least squares": Row(Recipe(repair="least_squares"), pruned),
    "asymmetric": Row(Recipe(repair="asymmetric"), pruned),
    "sparse": Row(Recipe(), SPARSE),
    "sparse, repaired": Row(Recipe(sparse_repair=True), SPARSE),
    "2:4": Row(Recipe(pattern="2:4"), sparse(*HALVES)),
    "4:8": Row(Recipe(pattern="4:8"), sparse(*HALVES)),
    "weights minmax": Row(Recipe(weights="minmax"), WEIGHTS),
    "weights mse": Row(Recipe(weights="mse"), WEIGHTS),
    "weights lsq": Row(Recipe(weights="lsq"), WEIGHTS),
    "codebook, weights": Row(Recipe(weights="codebook", codebook="weights"), WEIGHTS),
    "codebook, clusters": Row(Recipe(weights="codebook", codebook="clusters"), WEIGHTS),
    "codebook, both": Row(Recipe(weights="codebook", codebook="both"), rounded((1, 2, 4, 32))),
    "calibration minmax": Row(Recipe(calibration="minmax"), BOTH),
    "calibration percentile": Row(Recipe(calibration="percentile"), BOTH),
    "calibration mse": Row(Recipe(calibration="mse"), BOTH),
    "calibration entropy": Row(Recipe(calibration="entropy"), BOTH),
    "clips lsq": Row(Recipe(clips="lsq"), BOTH),
    "clips pact": Row(Recipe(clips="pact"), BOTH),
    "bias correction": Row(Recipe(bias_correction=True), WEIGHTS),
    "low rank, svd": Row(Recipe(criterion="l2"), pruned, False, "svd"),
    "low rank, channel": Row(Recipe(criterion="l2"), pruned, False, "channel"),
    "low rank, spatial": Row(Recipe(criterion="l2"), pruned, False, "spatial"),
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
def _seen(network: Any, low_rank: str, recipe: Recipe, quantized: bool) -> Survey:
    graph = traced(network, low_rank)
    return survey(graph, recipe, batches(network, low_rank), quantized=quantized)


def looked_up(network: Any, row: Row) -> Survey:
    """What the row's recipe needs to know; rows that need the same share it, as it compiles."""
    find = lambda recipe, quantized=False: _seen(network, row.low_rank, recipe, quantized)  # noqa: E731
    criterion = row.recipe.criterion if row.recipe.criterion in CRITERIA else "l1"
    scores = find(Recipe(criterion=criterion, normalise=row.recipe.normalise)).scores
    grams = find(Recipe(repair="least_squares"))
    observations = find(Recipe(), True).observations
    return grams._replace(recipe=row.recipe, scores=scores, observations=observations)


@cache
def prepared_by(network: Any, name: str) -> Preparer:
    """Of a row, for all its policies."""
    row = ROWS[name]
    return Preparer(traced(network, row.low_rank), looked_up(network, row))


def rounding(recipe: Recipe) -> Recipe:
    """All of a recipe that is in a network's program: rows that round alike share theirs."""
    return Recipe(weights=recipe.weights, codebook=recipe.codebook, clips=recipe.clips)


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
    original = Quantizer.hook

    def hook(self: Quantizer, *arguments: Any) -> Any:
        own = original(self, *arguments)

        def on_layer(name: str, x: Any, kernel: Any) -> Any:
            x, found[name] = own(name, x, kernel)
            return x, found[name]

        return on_layer

    with mock.patch.object(Quantizer, "hook", hook):
        yield found


_COMPILED: dict[Any, Any] = {}


def sliced_step(small: Compressed, x: Any, labels: Any) -> dict[str, Any]:
    """``a_step`` of a sliced network; equal programs compile once."""
    arguments = dict(small.variables), dict(small.support), x, labels

    def run(variables: Any, support: Any, x: Any, labels: Any) -> dict[str, Any]:
        own = replace(small, support=support)
        return a_step(own.apply, own.trainable)(variables, x, labels)

    lowered = jax.jit(run).lower(*arguments)
    text = lowered.as_text()
    if text not in _COMPILED:
        _COMPILED[text] = lowered.compile(compiler_options=QUICK)
    return _COMPILED[text](*arguments)


OFTEN = frozenset(
    {
        *("l1", "taylor", "lasso", "least squares", "sparse", "2:4", "weights lsq"),
        *("codebook, both", "calibration percentile", "clips pact", "bias correction"),
        *("low rank, svd", "prune, repair, sparsify, lsq"),
    }
)
"""Rows that are checked on every network every time: one or two of every kind of method."""
