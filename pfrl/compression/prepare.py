"""From a policy to arrays of full size: what stays, repaired, with zeros where weights go.

Everything that training starts from, made for the masked network; the sliced one
is a part of it, so that both begin at the same numbers.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from threadpoolctl import ThreadpoolController

from pfrl.compression.calibration import Survey
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import RecipeError
from pfrl.compression.rounding import Quantizer
from pfrl.graph import Graph, Variables
from pfrl.graph.masks import alive_elements
from pfrl.methods.channels.choose import choose
from pfrl.methods.channels.discrimination import Discrimination
from pfrl.methods.channels.lasso import lasso
from pfrl.methods.channels.proximal import proximal
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.methods.repair.asymmetric import AsymmetricRepair
from pfrl.methods.repair.bias_correction import BiasCorrection
from pfrl.methods.repair.reconstruct import repair
from pfrl.methods.repair.sparse_repair import repair_sparse
from pfrl.methods.sparsity.sparsify import magnitude_mask, n_of_m_mask

Kept = dict[str, np.ndarray]
"""By group, the channels that stay, in ascending order."""


class Prepared(NamedTuple):
    """Where the training of a policy's network starts.

    Attributes:
      kept: channels that stay, by group.
      variables: arrays of full size.
      support: the weights of sparse layers that are not zero, bool of the kernel's full
        size, by variable.
    """

    kept: Kept
    variables: Variables
    support: dict[str, np.ndarray]


class Preparer:
    """Prepares policies of one network; what it compiles, it compiles once for all of them.

    Args:
      graph: of the base network.
      survey: what the recipe needs to know of it.
    """

    def __init__(self, graph: Graph, survey: Survey):
        self._graph, self._survey = graph, survey
        self._chosen: dict[tuple[int, ...], Kept] = {}
        self._largest = jax.jit(magnitude_mask)
        self._blocks = jax.jit(n_of_m_mask, static_argnames=("n", "m"))
        self._kernels = [layer.kernel for layer in graph.layers]
        self._compiled = False
        self._libraries = ThreadpoolController()
        recipe, variables = survey.recipe, survey.variables
        if recipe.criterion == "discrimination":
            self._discrimination = Discrimination(
                graph, variables, survey.batches, loss=survey.loss
            )
        if recipe.repair == "asymmetric":
            inputs = [x for x, _ in survey.batches]
            self._asymmetric = AsymmetricRepair(
                graph, variables, inputs, recipe.positions, recipe.ridge
            )
        if recipe.bias_correction:
            self._quantizer = Quantizer(graph, recipe)
            self._correction = BiasCorrection(graph)

    def __call__(self, policy: Policy) -> Prepared:
        """Choose channels, repair, make sparse and correct biases, as policy and recipe say."""
        graph, survey = self._graph, self._survey
        recipe, base = survey.recipe, survey.variables
        kept = self._select(policy.counts(graph))
        variables = base
        if recipe.repair == "least_squares":
            # The solves are small: threads would wait for each other longer than they work.
            with self._libraries.limit(limits=1, user_api="blas"):
                variables = repair(graph, survey.grams, base, kept, recipe.ridge)
        elif recipe.repair == "asymmetric":
            variables = self._asymmetric(kept)
        support = self._find_support(policy, kept, variables)
        if recipe.sparse_repair and support:
            alive = alive_elements(graph, kept, self._kernels)
            variables = repair_sparse(graph, survey.grams, base, alive | support, recipe.ridge)
        zeroed = {name: np.asarray(variables[name]) * mask for name, mask in support.items()}
        variables = {**variables, **zeroed}
        if recipe.bias_correction and min(policy.weight_bits.values()) < FLOAT_BITS:
            variables = self._corrected(policy, kept, variables, support)
        return Prepared(kept, variables, support)

    def _corrected(
        self, policy: Policy, kept: Kept, variables: Variables, support: Mapping[str, np.ndarray]
    ) -> Variables:
        """With biases that take out the mean shift of what will be rounded."""
        observations = self._survey.observations
        assert observations is not None
        widths = self._quantizer.widths(policy, self._survey.ranges(policy))
        alive = {**alive_elements(self._graph, kept, self._kernels), **support}
        rounded = self._quantizer.rounded(variables, widths, alive)
        means = {name: seen.mean for name, seen in observations.items()}
        return self._correction(variables, rounded, means)

    def _select(self, counts: Mapping[str, int]) -> Kept:
        """The channels that stay; equal counts are not chosen anew."""
        key = tuple(counts.values())
        if key not in self._chosen:
            graph, survey = self._graph, self._survey
            match survey.recipe.criterion:
                case "lasso":
                    kept = lasso(graph, survey.variables, survey.grams, counts)
                case "proximal":
                    kept = proximal(graph, survey.variables, survey.grams, counts)
                case "discrimination":
                    kept = self._discrimination(counts)
                case _:
                    kept = choose(survey.scores, counts)
            self._chosen[key] = kept
        return self._chosen[key]

    def _find_support(
        self, policy: Policy, kept: Kept, variables: Variables
    ) -> dict[str, np.ndarray]:
        """The weights that stay in every sparse layer; its first layer's share counts."""
        shares: dict[str, float] = {}
        for layer in self._graph.layers:
            if policy.sparsity.get(layer.name, 0):
                shares.setdefault(layer.kernel, policy.sparsity[layer.name])
        if not shares:
            return {}
        alive = alive_elements(self._graph, kept, self._kernels)
        # The first time of all kernels, so that no later policy compiles for a shape of its own.
        names = set(shares) if self._compiled else set(self._kernels)
        self._compiled = True
        usual = next(iter(shares.values()))
        masks = {
            name: self._stays(name, variables[name], shares.get(name, usual), alive[name])
            for name in sorted(names)
        }
        return {name: np.asarray(masks[name]) for name in shares}

    def _stays(self, name: str, kernel: np.ndarray, share: float, alive: np.ndarray) -> jax.Array:
        pattern = self._survey.recipe.pattern
        if pattern == "magnitude":
            return self._largest(kernel, share, alive)
        n, m = map(int, pattern.split(":"))
        if share != 1 - n / m:
            raise RecipeError(
                f"with the pattern {pattern} a layer's sparsity is 0 or {1 - n / m:g};"
                f" got {share:g} for '{name}'"
            )
        return self._blocks(kernel, n=n, m=m, alive=alive)
