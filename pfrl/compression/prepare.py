"""From a policy to arrays of full size: what stays, repaired, with zeros where weights go.

Everything that training starts from, made for the masked network; the sliced one
is a part of it, so that both begin at the same numbers.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np

from pfrl.compression.calibration import CalibrationStatistics
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import RecipeError
from pfrl.compression.rounding import Quantizer
from pfrl.graph import Variables
from pfrl.graph.masks import alive_elements
from pfrl.methods.channels.base import Kept
from pfrl.methods.quantization.base import ROUNDINGS
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.methods.repair.base import REPAIRS
from pfrl.methods.repair.bias_correction import BiasCorrection
from pfrl.methods.repair.sparse_repair import repair_sparse
from pfrl.methods.sparsity.base import SPARSIFIERS


class Prepared(NamedTuple):
    """Where the training of a policy's network starts.

    Attributes:
      kept: channels that stay, by group.
      variables: arrays of full size.
      weight_masks: by variable the weights of sparse layers that are not zero, bool of the
        kernel's full size.
    """

    kept: Kept
    variables: Variables
    weight_masks: dict[str, np.ndarray]


class Preparer:
    """Prepares policies of one network; what it compiles, it compiles once for all of them.

    Args:
      statistics: of the base network, with the recipe that they were gathered for.
    """

    def __init__(self, statistics: CalibrationStatistics):
        self._statistics = statistics
        self._graph, self._recipe = statistics.graph, statistics.recipe
        self._kernels = [layer.kernel for layer in self._graph.layers]
        self._chosen: dict[tuple[int, ...], Kept] = {}
        self._compiled = False

    def __call__(self, policy: Policy) -> Prepared:
        """Choose channels, repair, make sparse and correct biases, as policy and recipe say."""
        graph, statistics, recipe = self._graph, self._statistics, self._recipe
        kept = self._channels(policy.counts(graph))
        variables = self._repaired(kept)
        masks = self._weight_masks(policy, kept, variables)
        if recipe.sparse_repair and masks:
            alive = alive_elements(graph, kept, self._kernels)
            variables = repair_sparse(
                graph, statistics.moments, statistics.variables, alive | masks, recipe.ridge
            )
        zeroed = {name: np.asarray(variables[name]) * mask for name, mask in masks.items()}
        variables = {**variables, **zeroed}
        if recipe.rounding != "nearest" and min(policy.weight_bits.values()) < FLOAT_BITS:
            alive = alive_elements(graph, kept, self._kernels) | masks
            variables = self._rounded(variables, policy.weight_bits, alive)
        if recipe.bias_correction and min(policy.weight_bits.values()) < FLOAT_BITS:
            variables = self._corrected(policy, kept, variables, masks)
        return Prepared(kept, variables, masks)

    @cached_property
    def _repaired(self) -> Callable[[Kept], Variables]:
        return REPAIRS[self._recipe.repair].prepare(self._statistics)

    @cached_property
    def _rounded(self) -> Callable[..., Variables]:
        return ROUNDINGS[self._recipe.rounding].prepare(self._statistics)

    @cached_property
    def _mask(self) -> Callable[..., jax.Array]:
        return jax.jit(SPARSIFIERS[self._recipe.pattern].mask)

    @cached_property
    def _correction(self) -> tuple[Quantizer, BiasCorrection]:
        return Quantizer(self._graph, self._recipe), BiasCorrection(self._graph)

    def _corrected(
        self, policy: Policy, kept: Kept, variables: Variables, masks: Mapping[str, np.ndarray]
    ) -> Variables:
        """With biases that take out the mean shift of what will be rounded."""
        quantizer, correct = self._correction
        widths = quantizer.bit_widths(policy, self._statistics.ranges(policy))
        alive = {**alive_elements(self._graph, kept, self._kernels), **masks}
        rounded = quantizer.rounded(variables, widths, alive)
        means = {name: seen.mean for name, seen in self._statistics.inputs.items()}
        return correct(variables, rounded, means)

    def _channels(self, counts: Mapping[str, int]) -> Kept:
        """The channels that stay; equal counts are not chosen anew."""
        key = tuple(counts.values())
        if key not in self._chosen:
            assert self._statistics.select is not None
            self._chosen[key] = self._statistics.select(counts)
        return self._chosen[key]

    def _weight_masks(
        self, policy: Policy, kept: Kept, variables: Variables
    ) -> dict[str, np.ndarray]:
        """The weights that stay in every sparse layer; its first layer's share counts."""
        shares: dict[str, float] = {}
        for layer in self._graph.layers:
            if policy.sparsity.get(layer.name, 0):
                shares.setdefault(layer.kernel, float(policy.sparsity[layer.name]))
        if not policy.sparsity or (self._compiled and not shares):
            return {}
        self._check(shares)
        alive = alive_elements(self._graph, kept, self._kernels)
        # The first time of all kernels, of dense ones too where others may be sparse, so that no
        # later policy compiles for a shape of its own.
        names = set(shares) if self._compiled else set(self._kernels)
        self._compiled = True
        masks = {
            name: self._mask(variables[name], shares.get(name, 0.0), alive[name])
            for name in sorted(names)
        }
        return {name: np.asarray(masks[name]) for name in shares}

    def _check(self, shares: Mapping[str, float]) -> None:
        pattern = self._recipe.pattern
        possible = SPARSIFIERS[pattern].shares
        for name, share in shares.items():
            if possible and share not in possible:
                known = " or ".join(f"{each:g}" for each in (0, *possible))
                raise RecipeError(
                    f"with the pattern {pattern} a layer's sparsity is {known};"
                    f" got {share:g} for '{name}'"
                )
