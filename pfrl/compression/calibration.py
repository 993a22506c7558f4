"""What a recipe needs to know of the base network: gathered once, before any policy is tried."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe, RecipeError
from pfrl.data import Dataset
from pfrl.graph import Graph, Variables
from pfrl.methods.channels.criteria import CRITERIA, NEEDS_BATCHES, Loss, channel_scores
from pfrl.methods.quantization.ranges import Observations, observe
from pfrl.methods.quantization.ranges import ranges as calibrated
from pfrl.methods.repair.reconstruct import Grams, gather

REGRESSIONS = frozenset({"lasso", "proximal"})
"""The criteria that choose by Gram matrices."""


class Survey(NamedTuple):
    """What was gathered; fields that the recipe does not ask for are empty.

    Attributes:
      recipe: that it is for.
      variables: arrays of the base network.
      batches: ``(inputs, targets)`` that were looked at.
      loss: of the task.
      scores: of the channels of every group, where the criterion scores.
      grams: see ``pfrl.methods.repair.reconstruct``.
      observations: of the inputs of all layers; see ``pfrl.methods.quantization.ranges``.
    """

    recipe: Recipe
    variables: Variables
    batches: tuple[tuple[Any, Any], ...]
    loss: Loss | None
    scores: Mapping[str, np.ndarray]
    grams: Grams
    observations: Observations | None

    def ranges(self, policy: Policy) -> dict[str, tuple[float, float]]:
        """Of the inputs of all layers, as the recipe calibrates them for a policy's widths."""
        if self.observations is None:
            return {}
        return calibrated(self.observations, self.recipe.calibration, policy.act_bits)


def survey(
    graph: Graph,
    recipe: Recipe,
    batches: Iterable[tuple[Any, Any]] = (),
    *,
    variables: Variables | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    quantized: bool = False,
) -> Survey:
    """Look at the base network and the data as far as the recipe asks for it.

    Args:
      graph: of the base network.
      recipe: which methods will be used.
      batches: ``(normalised training inputs [N, ...], targets)``, best all of one shape.
      variables: the network's arrays; those of the graph by default.
      loss: ``(outputs, targets) -> scalar``; by default cross-entropy.
      seed: of random scores and positions.
      quantized: whether activations will be quantized.

    Raises:
      RecipeError: if the recipe looks at data and there is no batch.
    """
    variables = graph.source.variables if variables is None else variables
    grams_for = [
        f"criterion '{recipe.criterion}'" if recipe.criterion in REGRESSIONS else "",
        f"repair '{recipe.repair}'" if recipe.repair == "least_squares" else "",
        "repair of sparse layers" if recipe.sparse_repair else "",
    ]
    data_for = [
        *grams_for,
        f"repair '{recipe.repair}'" if recipe.repair == "asymmetric" else "",
        f"criterion '{recipe.criterion}'"
        if recipe.criterion in NEEDS_BATCHES | {"discrimination"}
        else "",
        "calibration of activations" if quantized else "",
        "bias correction" if recipe.bias_correction else "",
    ]
    found = tuple(batches) if any(data_for) else ()
    if any(data_for) and not found:
        raise RecipeError(
            f"the {next(filter(None, data_for))} looks at data and got none;"
            " give batches=[(inputs, targets), ...] of training data"
        )
    inputs = [x for x, _ in found]
    scores: Mapping[str, np.ndarray] = {}
    if recipe.criterion in CRITERIA:
        scores = channel_scores(
            graph,
            variables,
            recipe.criterion,
            batches=found,
            loss=loss,
            seed=seed,
            normalise=recipe.normalise,
        )
    grams: Grams = ()
    if any(grams_for):
        grams = gather(graph, variables, inputs, recipe.positions, seed)
    looked = quantized or recipe.bias_correction
    seen = observe(graph, variables, inputs) if looked else None
    return Survey(recipe, variables, found, loss, scores, grams, seen)


def survey_network(
    graph: Graph, recipe: Recipe, dataset: Dataset, seed: int, quantized: bool
) -> Survey:
    """What a recipe needs to know, from training images in batches of 64, augmented."""
    rng = np.random.default_rng([seed, 2])
    batches = dataset.training_batches(64, rng, max(recipe.images // 64, 1))
    return survey(graph, recipe, batches, loss=dataset.task.loss, seed=seed, quantized=quantized)
