"""Rounding of kernels and activations in the network's program, as a recipe says; widths traced.

What a quantizer learns, or found out before training, are variables beside the network's
own: ``quantizer.<kernel>.step``, ``.centers`` and ``.indices``, ``quantizer.<layer>.input``.
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
from pfrl.methods.quantization.codebook import ENTRIES, assign, codebook_quantize
from pfrl.methods.quantization.kmeans import kmeans
from pfrl.methods.quantization.lsq import lsq, lsq_weights
from pfrl.methods.quantization.pact import pact
from pfrl.methods.quantization.ranges import weight_scales
from pfrl.methods.quantization.uniform import (
    FLOAT_BITS,
    activation_grid,
    fake_quantize_activations,
    fake_quantize_weights,
)
from pfrl.training.optimizers import QUANTIZER

LayerHook = Callable[[str, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""``(layer name, activation, kernel) -> (activation, kernel)``."""
Ranges = Mapping[str, tuple[float, float]]
"""Calibrated ``(low, high)`` of every layer's input."""


class Widths(NamedTuple):
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
        self._place = {layer.name: i for i, layer in enumerate(graph.layers)}
        self._kernels: dict[str, list[Layer]] = {}
        for layer in graph.layers:
            self._kernels.setdefault(layer.kernel, []).append(layer)
        self._rounded = jax.jit(self._round_all)

    @property
    def trained(self) -> frozenset[str]:
        """Names of the variables that gradients go to."""
        names: list[str] = []
        if self._recipe.weights == "lsq":
            names += [f"{QUANTIZER}{kernel}.step" for kernel in self._kernels]
        if self._recipe.weights == "codebook" and self._recipe.codebook != "weights":
            names += [f"{QUANTIZER}{kernel}.centers" for kernel in self._kernels]
        if self._recipe.clips != "fixed":
            names += [f"{QUANTIZER}{layer}.input" for layer in self._place]
        return frozenset(names)

    def widths(self, policy: Policy, ranges: Ranges) -> Widths:
        """A policy's bit widths as arrays.

        Raises:
          RecipeError: if a width does not fit the recipe, or a layer has no range.
        """
        for name, bits in policy.weight_bits.items():
            if bits == 1 and self._recipe.weights != "codebook":
                raise RecipeError(
                    f"'{name}' has 1 bit, which is for codebooks only; choose 2 to 8 bits, or 32"
                )
        bare = [n for n, bits in policy.act_bits.items() if bits < FLOAT_BITS and n not in ranges]
        if bare:
            raise RecipeError(
                f"layer '{bare[0]}' has quantized activations but no calibrated range;"
                " give survey=pfrl.survey(..., quantized=True) or ranges=..."
            )
        counts, full = policy.counts(self._graph), self._graph.full_counts()
        elements = [
            np.prod(layer.input_shape) * _share(layer, counts, full) for layer in self._graph.layers
        ]
        return Widths(
            np.asarray([policy.weight_bits[name] for name in self._place], np.int32),
            np.asarray([policy.act_bits[name] for name in self._place], np.int32),
            np.asarray([ranges.get(name, (0.0, 1.0)) for name in self._place], np.float32),
            np.asarray(elements, np.float32),
        )

    def start(
        self, variables: Variables, widths: Widths, alive: Mapping[str, np.ndarray]
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
            name, value = QUANTIZER + kernel, jnp.asarray(variables[kernel])
            if self._recipe.weights in ("mse", "lsq"):
                found[f"{name}.step"] = weight_scales(value, bits, "mse", -1, alive.get(kernel))
            elif self._recipe.weights == "codebook":
                found[f"{name}.centers"] = _centers(np.asarray(value), bits, alive.get(kernel))
                if self._recipe.codebook == "clusters":
                    used = 2 ** min(bits, 8)
                    found[f"{name}.indices"] = np.asarray(
                        assign(value, found[f"{name}.centers"], used)
                    )
        for layer, i in self._place.items():
            low, high = widths.ranges[i]
            if self._recipe.clips == "lsq":
                grid = activation_grid(widths.activations[i], low, high)
                found[f"{QUANTIZER}{layer}.input"] = np.asarray(grid.scale, np.float32)
            elif self._recipe.clips == "pact":
                found[f"{QUANTIZER}{layer}.input"] = np.float32(1.0)
        return found

    def rounded(
        self, variables: Variables, widths: Widths, alive: Mapping[str, Any]
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
            mine = self._round_kernel(QUANTIZER + name, own, kernel * there, widest, there)
            found[name] = jnp.where(there > 0, mine, kernel)
        return found

    def hook(self, variables: Variables, widths: Widths, alive: Mapping[str, Any]) -> LayerHook:
        """What a layer's operands become; for ``run_graph``."""

        def quantize(name: str, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
            i = self._place[name]
            owner = self._graph.layers[i].kernel
            kernel = self._round_kernel(
                QUANTIZER + owner, variables, kernel, widths.weights[i], alive.get(owner)
            )
            return self._round_input(f"{QUANTIZER}{name}.input", variables, x, widths, i), kernel

        return quantize

    def _round_kernel(
        self, name: str, variables: Variables, kernel: Any, bits: Any, alive: Any
    ) -> jax.Array:
        if self._recipe.weights == "minmax":
            return fake_quantize_weights(kernel, bits)
        if self._recipe.weights == "codebook":
            present = jnp.asarray(kernel.size if alive is None else alive.sum(), jnp.float32)
            # The mean gradient of a center's weights, not their sum: it learns as fast as they do.
            share = 2.0 ** jnp.minimum(bits, 8) / jnp.maximum(present, 1)
            centers = _scaled_gradient(variables[f"{name}.centers"], share)
            return codebook_quantize(
                kernel,
                centers,
                bits,
                alive,
                train=self._recipe.codebook,
                indices=variables.get(f"{name}.indices"),
            )
        step = variables[f"{name}.step"]
        if self._recipe.weights == "mse":
            return fake_quantize_weights(kernel, bits, scale=step)
        return lsq_weights(kernel, step, bits, alive)

    def _round_input(
        self, name: str, variables: Variables, x: jax.Array, widths: Widths, i: int
    ) -> jax.Array:
        bits, (low, high) = widths.activations[i], widths.ranges[i]
        if self._recipe.clips == "fixed":
            return fake_quantize_activations(x, bits, low, high)
        if self._recipe.clips == "pact":
            return pact(x, variables[name], bits, low, high)
        grid = activation_grid(bits, low, high)
        top = grid.levels - grid.zero_point
        return lsq(x, variables[name], bits, -grid.zero_point, top, widths.elements[i])


def _scaled_gradient(x: jax.Array, share: jax.Array) -> jax.Array:
    """``x`` with so much of its gradient."""
    return jax.lax.stop_gradient(x * (1 - share)) + x * share


def _share(layer: Layer, counts: Mapping[str, int], full: Mapping[str, int]) -> float:
    """The share of a layer's inputs that stays; a depthwise layer reads what it makes."""
    axis = layer.c_out if layer.kind == "depthwise" else layer.c_in
    return axis.at(counts) / axis.at(full)


def _centers(kernel: np.ndarray, bits: int, alive: np.ndarray | None) -> np.ndarray:
    """float32 ``[256]``, the first ``2^bits`` in use; of no weights or no codebook zeros."""
    values = kernel if alive is None else kernel[np.broadcast_to(alive > 0, kernel.shape)]
    if bits >= FLOAT_BITS or not values.size:
        return np.zeros(ENTRIES, np.float32)
    centers = kmeans(values, 2**bits)
    return np.pad(centers, (0, ENTRIES - len(centers)), mode="edge").astype(np.float32)


def slice_quantizers(
    graph: Graph, variables: Variables, kept: Mapping[str, np.ndarray]
) -> Variables:
    """The quantizers' variables of a network of full size, for its sliced kernels.

    Steps are one an output channel, indices one a weight; all else has no channels.
    """
    places, found = kept_places(graph, kept), {}
    for name in variables:
        kernel, _, part = name.removeprefix(QUANTIZER).rpartition(".")
        if name.startswith(QUANTIZER) and kernel in places:
            value = np.asarray(variables[name])
            if part == "step":
                value = value[places[kernel][-1]]
            elif part == "indices":
                value = value[np.ix_(*places[kernel])]
            found[name] = value
    return found
