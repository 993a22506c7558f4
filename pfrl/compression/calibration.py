"""What a recipe needs to know of the base network: gathered once, before any policy is tried."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pfrl.compression.kept import Gathered, kept_gathered
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import METHODS, Recipe, RecipeError
from pfrl.compression.rounding import site_bits
from pfrl.cpu.backend import slow_steps
from pfrl.data import Dataset
from pfrl.graph import Graph, Variables
from pfrl.methods.channels.base import CRITERIA, Select
from pfrl.methods.inputs import Reducer, collect
from pfrl.methods.quantization.base import CALIBRATIONS, EQUALIZERS
from pfrl.methods.quantization.ranges import (
    MeanInputs,
    Observations,
    as_means,
    as_observations,
    means,
    ranges,
    site_extremes,
    with_histograms,
)
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.methods.repair.reconstruct import Grams, as_grams, second_moments
from pfrl.tasks.losses import Loss, cross_entropy

FEW, PLACES = 512, 4
"""Images that are looked at where each takes long, and how many times as many positions of each."""


@dataclass(frozen=True, eq=False)
class CalibrationStatistics:
    """What was gathered of the base network for a recipe; what it does not ask for is empty.

    Attributes:
      graph: of the base network.
      recipe: whose methods are given this; see ``pfrl.methods.base.Statistics``.
      variables: arrays of the base network.
      batches: ``(inputs, targets)`` that were looked at; they may be made when they are indexed.
      loss: of the task, ``(outputs, targets) -> scalar``.
      seed: of random scores and positions.
      moments: of what every kernel reads; see ``pfrl.methods.repair.reconstruct``.
      inputs: of what every layer reads; see ``pfrl.methods.quantization.ranges``.
      sites: of what every site holds; see there.
      select: ``channels of every group -> which stay``, chosen on these arrays. It goes on
        choosing the same ones when the arrays are replaced.
    """

    graph: Graph
    recipe: Recipe
    variables: Variables
    batches: Sequence[tuple[Any, Any]]
    loss: Loss
    seed: int
    moments: Grams
    inputs: MeanInputs
    sites: Observations
    select: Select | None = None

    def ranges(self, policy: Policy) -> dict[str, tuple[float, float]]:
        """Of all sites, as the recipe calibrates them for a policy's bit widths.

        Sites that share a grid have the smallest range that holds those of all of them.
        """
        if not self.sites:
            return {}
        bits = site_bits(self.graph, policy)
        found = ranges(self.sites, CALIBRATIONS[self.recipe.calibration], bits)
        shared: dict[str, tuple[float, float]] = {}
        for site in self.graph.sites:
            if bits[site.name] < FLOAT_BITS:
                low, high = found[site.name]
                before = shared.get(site.grid, (low, high))
                shared[site.grid] = min(low, before[0]), max(high, before[1])
        return found | {
            site.name: shared[site.grid]
            for site in self.graph.sites
            if bits[site.name] < FLOAT_BITS
        }

    def with_criterion(self) -> "CalibrationStatistics":
        """With ``select`` of the recipe's criterion."""
        return replace(self, select=CRITERIA[self.recipe.criterion].prepare(self))


def gather_statistics(
    graph: Graph,
    recipe: Recipe,
    batches: Iterable[tuple[Any, Any]] = (),
    *,
    variables: Variables | None = None,
    loss: Loss = cross_entropy,
    seed: int = 0,
    quantized: bool = False,
    keep: bool = False,
) -> CalibrationStatistics:
    """Look at the base network and the data as far as the recipe asks for it.

    Args:
      graph: of the base network.
      recipe: which methods will be used.
      batches: ``(normalised training inputs [N, ...], targets)``, best all of one shape.
      variables: the network's arrays; those of the graph by default.
      loss: ``(outputs, targets) -> scalar``.
      seed: of random scores and positions.
      quantized: whether activations will be quantized.
      keep: whether what is gathered goes into the user's cache folder, and is found there.

    Raises:
      RecipeError: if the recipe names an unknown method, or looks at data and there is none.
    """
    wanted = needs_of(recipe.checked(), quantized)
    found: Sequence[tuple[Any, Any]] = ()
    if wanted:
        found = batches if isinstance(batches, Sequence) else tuple(batches)
    if wanted and not found:
        method = next(iter(wanted.values()))
        raise RecipeError(
            f"the {method} looks at data and got none;"
            " give batches=[(inputs, targets), ...] of training data"
        )
    variables = graph.source.variables if variables is None else variables
    bare = CalibrationStatistics(graph, recipe, variables, found, loss, seed, (), {}, {})
    equalized = EQUALIZERS[recipe.equalize].prepare(bare)

    def look() -> Gathered:
        return _look(graph, equalized, found, wanted.keys(), recipe, seed)

    if keep and wanted:
        asked = {"wanted": sorted(wanted), "recipe": recipe.to_json(), "seed": seed}
        gathered = kept_gathered(graph, equalized, found, asked, look)
    else:
        gathered = look()
    seen = CalibrationStatistics(graph, recipe, equalized, found, loss, seed, *gathered)
    return seen.with_criterion()


def _look(
    graph: Graph,
    variables: Variables,
    batches: Sequence[tuple[Any, Any]],
    wanted: Collection[str],
    recipe: Recipe,
    seed: int,
) -> Gathered:
    reducers: dict[str, Reducer] = {}
    if "moments" in wanted:
        reducers["moments"] = second_moments(graph, recipe.positions, seed)
    if "inputs" in wanted:
        reducers["inputs"] = means(graph)
    if "sites" in wanted:
        reducers["sites"] = site_extremes(graph)
    collected = collect(graph, variables, (x for x, _ in batches), list(reducers.values()))
    kept = dict(zip(reducers, collected, strict=True))
    moments = as_grams(graph, kept["moments"]) if "moments" in wanted else ()
    read = as_means(kept["inputs"]) if "inputs" in wanted else {}
    observed = as_observations(kept["sites"]) if "sites" in wanted else {}
    if "histograms" in wanted:
        observed = with_histograms(graph, variables, (x for x, _ in batches), observed)
    return Gathered(moments, read, observed)


def needs_of(recipe: Recipe, quantized: bool) -> dict[str, str]:
    """The statistics that a recipe's methods need, each with what needs it, in words."""
    found: dict[str, str] = {}
    for field in ("criterion", "repair", "equalize", *(("calibration", "rounding") * quantized)):
        name = getattr(recipe, field)
        for need in sorted(METHODS[field][name].needs):
            found.setdefault(need, f"{field} '{name}'")
    if recipe.sparse_repair:
        found.setdefault("moments", "repair of sparse layers")
    if recipe.bias_correction:
        found.setdefault("inputs", "bias correction")
    return found


def gather_from(
    graph: Graph, recipe: Recipe, dataset: Dataset, seed: int, quantized: bool
) -> CalibrationStatistics:
    """``gather_statistics`` from training images in batches of 64, augmented.

    Args:
      graph: of the base network.
      recipe: says what is needed, and by ``images`` of how many images; of large pictures a CPU
        looks at no more than 512, at more positions of each.
      dataset: whose training images are looked at, and whose task gives the loss.
      seed: of their order and augmentation.
      quantized: whether activations will be rounded, so that their ranges are needed.

    Raises:
      RecipeError: if the recipe names an unknown method.
    """
    if slow_steps(graph.input_shape):
        recipe = replace(
            recipe,
            images=min(recipe.images, FEW),
            positions=recipe.positions * PLACES,
        )
    rng = np.random.default_rng([seed, 2])
    batches = dataset.held_batches(64, rng, max(recipe.images // 64, 1))
    return gather_statistics(
        graph, recipe, batches, loss=dataset.task.loss, seed=seed, quantized=quantized, keep=True
    )
