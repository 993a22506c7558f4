"""Rounding of kernels and activations in the network's program; bit widths are traced.

What a quantizer learns, or found out before training, are variables beside the network's
own: ``quantizer.<kernel>.<name>``, such as ``.step``, and ``quantizer.<layer>.input``.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe, RecipeError
from pfrl.graph import Graph, Layer, Variables
from pfrl.graph.masks import kept_places
from pfrl.methods.quantization.base import ACTIVATION_QUANTIZERS, WEIGHT_QUANTIZERS
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.training.optimizers import QUANTIZER

LayerHook = Callable[[str, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""``(layer name, activation, kernel) -> (activation, kernel)``."""
Ranges = Mapping[str, tuple[float, float]]
"""Calibrated ``(low, high)`` of every layer's input."""


class BitWidths(NamedTuple):
    """How finely every layer is rounded; all may be traced.

    Attributes:
      weights, activations: bits ``[L]``, in the order of the graph's layers.
      ranges: calibrated ``(low, high)`` of the layers' inputs, ``[L, 2]``.
      elements: how many inputs a layer reads of one example, ``[L]``.
    """

    weights: Any
    activations: Any
    ranges: Any
    elements: Any


class Quantizer:
    """The rounding of one network.

    Args:
      graph: of the network.
      recipe: how kernels and activations are rounded.
    """

    def __init__(self, graph: Graph, recipe: Recipe):
        self._graph, self._recipe = graph, recipe
        self._weights = WEIGHT_QUANTIZERS[recipe.weights]
        self._inputs = ACTIVATION_QUANTIZERS[recipe.clips]
        self._place = {layer.name: i for i, layer in enumerate(graph.layers)}
        self._kernels: dict[str, list[Layer]] = {}
        for layer in graph.layers:
            self._kernels.setdefault(layer.kernel, []).append(layer)
        self._rounded = jax.jit(self._round_all)

    @property
    def trained(self) -> frozenset[str]:
        """Names of the variables that gradients go to."""
        names = {f"{QUANTIZER}{k}.{part}" for k in self._kernels for part in self._weights.trained}
        if self._inputs.start is not None:
            names |= {f"{QUANTIZER}{layer}.input" for layer in self._place}
        return frozenset(names)

    def bit_widths(self, policy: Policy, ranges: Ranges) -> BitWidths:
        """A policy's bit widths as arrays.

        Raises:
          RecipeError: if a width does not fit the recipe, or a layer has no range.
        """
        for name, bits in policy.weight_bits.items():
            if bits < (least := self._weights.least_bits):
                raise RecipeError(
                    f"'{name}' has {bits} bits, too few for kernels that are rounded by"
                    f" '{self._recipe.weights}'; choose {least} to 8 bits, or 32"
                )
        bare = [n for n, bits in policy.act_bits.items() if bits < FLOAT_BITS and n not in ranges]
        if bare:
            raise RecipeError(
                f"layer '{bare[0]}' has quantized activations but no calibrated range;"
                " give statistics=pfrl.gather_statistics(..., quantized=True) or ranges=..."
            )
        counts, full = policy.counts(self._graph), self._graph.full_counts()
        elements = [
            np.prod(layer.input_shape) * _share(layer, counts, full) for layer in self._graph.layers
        ]
        return BitWidths(
            np.asarray([policy.weight_bits[name] for name in self._place], np.int32),
            np.asarray([policy.act_bits[name] for name in self._place], np.int32),
            np.asarray([ranges.get(name, (0.0, 1.0)) for name in self._place], np.float32),
            np.asarray(elements, np.float32),
        )

    def start(
        self, variables: Variables, widths: BitWidths, alive: Mapping[str, np.ndarray]
    ) -> Variables:
        """The quantizers' own variables, where training starts.

        Args:
          variables: the network's, of full size.
          widths: of the policy.
          alive: 0 and 1 by kernel: the weights that are there.
        """
        found: Variables = {}
        for kernel, layers in self._kernels.items():
            bits = max(int(widths.weights[self._place[layer.name]]) for layer in layers)
            own = self._weights.start(jnp.asarray(variables[kernel]), bits, alive.get(kernel))
            found |= {f"{QUANTIZER}{kernel}.{part}": value for part, value in own.items()}
        if self._inputs.start is not None:
            for layer, i in self._place.items():
                start = self._inputs.start(widths.activations[i], *widths.ranges[i])
                found[f"{QUANTIZER}{layer}.input"] = start
        return found

    def rounded(
        self, variables: Variables, widths: BitWidths, alive: Mapping[str, Any]
    ) -> dict[str, jax.Array]:
        """Every kernel as training starts to round it, by variable; compiled once.

        Args:
          variables, widths, alive: as of ``start``. Weights that are not alive stay as they are.
        """
        own = self.start(variables, widths, alive)
        kernels = {name: jnp.asarray(variables[name]) for name in self._kernels}
        return self._rounded(kernels, own, widths.weights, dict(alive))

    def _round_all(
        self, kernels: Variables, own: Variables, bits: Any, alive: Mapping[str, Any]
    ) -> dict[str, jax.Array]:
        found = {}
        for name, layers in self._kernels.items():
            kernel, widest = (
                kernels[name],
                bits[jnp.array([self._place[x.name] for x in layers])].max(),
            )
            there = jnp.asarray(alive[name], kernel.dtype)
            mine = self._round_kernel(name, own, kernel * there, widest, there)
            found[name] = jnp.where(there > 0, mine, kernel)
        return found

    def hook(self, variables: Variables, widths: BitWidths, alive: Mapping[str, Any]) -> LayerHook:
        """What a layer's operands become; for ``run_graph``."""

        def quantize(name: str, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
            i = self._place[name]
            owner = self._graph.layers[i].kernel
            kernel = self._round_kernel(
                owner, variables, kernel, widths.weights[i], alive.get(owner)
            )
            own, (low, high) = variables.get(f"{QUANTIZER}{name}.input"), widths.ranges[i]
            bits, elements = widths.activations[i], widths.elements[i]
            return self._inputs.round(x, own, bits, low, high, elements), kernel

        return quantize

    def _round_kernel(
        self, name: str, variables: Variables, kernel: Any, bits: Any, alive: Any
    ) -> jax.Array:
        return self._weights.round(kernel, own_arrays(variables, name), bits, alive)


def own_arrays(variables: Variables, kernel: str) -> Variables:
    """The arrays of a kernel's quantizer, by the quantizer's names for them."""
    start = f"{QUANTIZER}{kernel}."
    return {
        name.removeprefix(start): value
        for name, value in variables.items()
        if name.startswith(start) and "." not in name.removeprefix(start)
    }


def _share(layer: Layer, counts: Mapping[str, int], full: Mapping[str, int]) -> float:
    """The share of a layer's inputs that stays; a depthwise layer reads what it makes."""
    axis = layer.c_out if layer.kind == "depthwise" else layer.c_in
    return axis.at(counts) / axis.at(full)


def slice_quantizers(
    graph: Graph, recipe: Recipe, variables: Variables, kept: Mapping[str, np.ndarray]
) -> Variables:
    """The quantizers' variables of a network of full size, for its sliced kernels."""
    places, found = kept_places(graph, kept), {}
    cut = WEIGHT_QUANTIZERS[recipe.weights].cut
    for name in variables:
        kernel, _, part = name.removeprefix(QUANTIZER).rpartition(".")
        if name.startswith(QUANTIZER) and kernel in places:
            value = np.asarray(variables[name])
            if cut.get(part) == "outputs":
                value = value[places[kernel][-1]]
            elif cut.get(part) == "weights":
                value = value[np.ix_(*places[kernel])]
            found[name] = value
    return found
