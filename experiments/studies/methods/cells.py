"""What the comparison of methods compares: sections of cells, each a policy and a recipe."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from pfrl.compression.policy import Policy
from pfrl.compression.recipe import METHODS, Recipe
from pfrl.cost import BudgetError, CostModel, largest_that_fits
from pfrl.graph import Graph
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.methods.sparsity.sparsify import allocate

HALF = 0.5
"""Share of the MACs that the channel criteria keep."""
EDGE_BITS = 8
"""Of the first and the last layer, as HAQ has it."""
BIT_WIDTHS = (8, 6, 4, 3, 2)
"""Bits of weights and activations that are compared."""
PRUNED_FOR_LSQ = (8, 6)
"""Bits that pruning is combined with."""
ALONE = 4
"""Bits of quantization alone, whose bytes the others get."""


@dataclass(frozen=True)
class Cell:
    """One compressed network of a seed.

    Attributes:
      section, name: what it is for, and what is compared there.
      policy: makes it, of the graph.
      recipe: how it is carried out.
      before: what is evaluated before fine-tuning, by name: recipes.
      gradual: whether weights go one after the other during the fine-tuning (Zhu-Gupta).
      trained: whether there is a fine-tuning. Without, the normalisations keep the base
        network's statistics, too.
    """

    section: str
    name: str
    policy: Callable[[Graph], Policy]
    recipe: Recipe
    before: tuple[tuple[str, Recipe], ...]
    gradual: bool = False
    trained: bool = True


def cells() -> Iterator[Cell]:
    """All of them, sections one after the other."""
    yield from channels()
    yield from sparsity()
    yield from rounding()
    yield from bits()
    yield from codebooks()
    yield from together()


def channels() -> Iterator[Cell]:
    """Every criterion at half of the MACs, the same share of every group."""
    for criterion in METHODS["criterion"]:
        plain = Recipe(criterion=criterion)
        repaired = replace(plain, repair="least_squares")
        yield Cell("channels", criterion, half_of_macs, repaired, (("statistics", plain),))


def sparsity() -> Iterator[Cell]:
    """Zeros by magnitude over all kernels."""
    for share in (0.5, 0.75, 0.9, 0.95):
        plain = Recipe()
        before = (("zeroed", plain), ("repaired", replace(plain, sparse_repair=True)))
        yield Cell("sparsity", f"{share:.0%}", _sparse(share), plain, before, gradual=True)


def rounding() -> Iterator[Cell]:
    """Weights and activations of so many bits, by ways to calibrate."""
    ways = {
        "min-max": Recipe(),
        "percentile": Recipe(weights="mse", calibration="percentile"),
        "entropy": Recipe(weights="mse", calibration="entropy"),
        "mse": Recipe(weights="mse", calibration="mse"),
        "mse, biases corrected": Recipe(weights="mse", calibration="mse", bias_correction=True),
    }
    for bits in BIT_WIDTHS:
        policy, before = _rounded(bits, bits), tuple(ways.items())
        yield Cell("rounding", f"{bits} bits", policy, ways["mse"], before, trained=False)


def bits() -> Iterator[Cell]:
    """Weights and activations of so many bits, by ways to train them."""
    trained = {
        "min-max": Recipe(),
        "LSQ": Recipe(weights="lsq", clips="lsq", calibration="mse"),
    }
    after = Recipe(weights="mse", calibration="mse")
    for bits in BIT_WIDTHS:
        for name, recipe in trained.items():
            before = (("min-max", Recipe()), ("mse", after)) if name == "min-max" else ()
            policy = _rounded(bits, bits)
            yield Cell("bits", f"{bits} bits, {name}", policy, recipe, before)


def codebooks() -> Iterator[Cell]:
    """Kernels of so many different values, activations in float."""
    for bits in (4, 3, 2):
        recipe = Recipe(weights="codebook")
        yield Cell(
            "codebooks",
            f"{bits} bits",
            _rounded(bits, FLOAT_BITS),
            recipe,
            (("rounded", recipe),),
        )


def together() -> Iterator[Cell]:
    """Pruning and quantization, alone and together, at the bytes of 4-bit weights."""
    learned = Recipe(weights="lsq", clips="lsq", calibration="mse", repair="least_squares")
    for bits in (FLOAT_BITS, *PRUNED_FOR_LSQ, ALONE):
        name = "pruned, float" if bits == FLOAT_BITS else f"pruned, {bits} bits"
        name = f"{bits} bits alone" if bits == ALONE else name
        yield Cell("together", name, _of_equal_bytes(bits), learned, (("compressed", learned),))


def half_of_macs(graph: Graph) -> Policy:
    """The largest share, the same for all groups, at which half of the MACs are left."""
    return _largest_share(graph, Policy.uniform(graph), "macs", HALF * graph.macs)


def _sparse(share: float) -> Callable[[Graph], Policy]:
    def policy(graph: Graph) -> Policy:
        shares = allocate(graph, graph.source.variables, share)
        return replace(Policy.uniform(graph), sparsity=shares)

    return policy


def _rounded(weights: int, activations: int) -> Callable[[Graph], Policy]:
    return lambda graph: Policy.uniform(graph, 1.0, weights, activations).with_edges(
        graph, EDGE_BITS
    )


def _of_equal_bytes(bits: int) -> Callable[[Graph], Policy]:
    def policy(graph: Graph) -> Policy:
        costs = CostModel(graph)
        limit = costs.of(_rounded(ALONE, 8)(graph))["bytes"]
        activations = FLOAT_BITS if bits == FLOAT_BITS else 8
        return _largest_share(graph, _rounded(bits, activations)(graph), "bytes", limit)

    return policy


def _largest_share(graph: Graph, policy: Policy, metric: str, limit: float) -> Policy:
    costs = CostModel(graph)

    def pruned(share: float) -> Policy:
        return replace(policy, keep=dict.fromkeys(graph.groups, share))

    def fits(share: float) -> bool:
        return costs.of(pruned(share))[metric] <= limit

    share = largest_that_fits(np.linspace(1, 0.02, 981)[::-1].tolist(), fits, monotone=True)
    if not fits(share):
        raise BudgetError(f"no share of the channels meets {metric} {limit:g}")
    return pruned(share)
