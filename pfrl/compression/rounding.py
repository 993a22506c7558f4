"""Rounding of kernels and activations in the network's program; bit widths are traced.

What a quantizer learns, or found out before training, are variables beside the network's
own: ``quantizer.<kernel>.<name>``, such as ``.step``, and ``quantizer.<site>.input``.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe, RecipeError
from pfrl.graph import Graph, Layer, Site, Variables
from pfrl.graph.masks import kept_places
from pfrl.methods.quantization.base import (
    ACTIVATION_QUANTIZERS,
    WEIGHT_QUANTIZERS,
    ActivationGrid,
)
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.training.optimizers import QUANTIZER

Ranges = Mapping[str, tuple[float, float]]
"""Calibrated ``(low, high)`` of every site."""


class Rounding(NamedTuple):
    """How a network is rounded while it runs; for ``run_graph``.

    Attributes:
      kernel: ``(layer, kernel) -> kernel``.
      site: ``(place in the list of sites, value) -> value``; None to leave activations alone.
      result: ``(layer, what it makes) -> what it makes``, for who wants to mark it.
    """

    kernel: Callable[[str, jax.Array], jax.Array]
    site: Callable[[int, jax.Array], jax.Array] | None = None
    result: Callable[[str, jax.Array], jax.Array] | None = None


class BitWidths(NamedTuple):
    """How finely everything is rounded; all may be traced.

    Attributes:
      weights: bits ``[L]``, in the order of the graph's layers.
      activations: bits ``[S]``, in the order of its sites.
      ranges: calibrated ``(low, high)`` of the sites, ``[S, 2]``.
      elements: of every site in one example, ``[S]``.
    """

    weights: Any
    activations: Any
    ranges: Any
    elements: Any


def site_bits(graph: Graph, policy: Policy) -> dict[str, int]:
    """Bits of every site: the most that a quantized layer that reads it is given for its input.

    What no layer reads has 8 bits if all that it is made of is quantized, and 32 otherwise: the
    result of a layer whose weights and input are, the sum of what is. Sites that share a grid
    have the most bits that any of them has, save those with 32, which are not rounded.
    """
    bits: dict[str, int] = {}
    for site in graph.sites:
        wanted = [policy.act_bits[layer] for layer in site.readers]
        if site.readers:
            narrow = [each for each in wanted if each < FLOAT_BITS]
            bits[site.name] = max(narrow, default=FLOAT_BITS)
            continue
        made = [bits[part] for part in site.parts]
        if site.maker is not None:
            made = [policy.act_bits[site.maker], policy.weight_bits[site.maker]]
        bits[site.name] = 8 if made and max(made) < FLOAT_BITS else FLOAT_BITS
    most: dict[str, int] = {}
    for site in graph.sites:
        if bits[site.name] < FLOAT_BITS:
            most[site.grid] = max(bits[site.name], most.get(site.grid, 0))
    return {
        site.name: most[site.grid] if bits[site.name] < FLOAT_BITS else FLOAT_BITS
        for site in graph.sites
    }


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
            names |= {_own_name(site) for site in self._graph.sites}
        return frozenset(names)

    def bit_widths(self, policy: Policy, ranges: Ranges) -> BitWidths:
        """A policy's bit widths as arrays.

        Raises:
          RecipeError: if a width does not fit the recipe, or a site has no range.
        """
        for name, bits in policy.weight_bits.items():
            if bits < (least := self._weights.least_bits):
                raise RecipeError(
                    f"'{name}' has {bits} bits, too few for kernels that are rounded by"
                    f" '{self._recipe.weights}'; choose {least} to 8 bits, or 32"
                )
        bits = site_bits(self._graph, policy)
        bare = [name for name, each in bits.items() if each < FLOAT_BITS and name not in ranges]
        if bare:
            raise RecipeError(
                f"'{bare[0]}' has quantized activations but no calibrated range;"
                " give statistics=pfrl.gather_statistics(..., quantized=True) or ranges=..."
            )
        counts = policy.counts(self._graph)
        return BitWidths(
            np.asarray([policy.weight_bits[name] for name in self._place], np.int32),
            np.asarray(list(bits.values()), np.int32),
            np.asarray([ranges.get(name, (0.0, 1.0)) for name in bits], np.float32),
            np.asarray([site.elements.at(counts) for site in self._graph.sites], np.float32),
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
            for i, site in enumerate(self._graph.sites):
                start = self._inputs.start(widths.activations[i], *widths.ranges[i])
                if site.name == site.grid or widths.activations[i] < FLOAT_BITS:
                    found[_own_name(site)] = start
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

    def rounding(
        self, variables: Variables, widths: BitWidths, alive: Mapping[str, Any]
    ) -> Rounding:
        """What kernels and sites become; for ``run_graph``.

        Args:
          variables: of the network and of the quantizers.
          widths: see ``bit_widths``; they may be traced.
          alive: 0 and 1 by kernel, in its shape: the weights that are there.
        """

        def kernel(layer: str, value: jax.Array) -> jax.Array:
            i = self._place[layer]
            name = self._graph.layers[i].kernel
            return self._round_kernel(name, variables, value, widths.weights[i], alive.get(name))

        def site(i: int, x: jax.Array) -> jax.Array:
            own, (low, high) = variables.get(_own_name(self._graph.sites[i])), widths.ranges[i]
            return self._inputs.round(x, own, widths.activations[i], low, high, widths.elements[i])

        return Rounding(kernel, site)

    def grid(self, variables: Variables, widths: BitWidths, place: int) -> ActivationGrid:
        """The grid to which a site is rounded.

        Args:
          variables: of the network and of the quantizers.
          widths: see ``bit_widths``.
          place: the index of the site in ``Graph.sites``.
        """
        own, (low, high) = variables.get(_own_name(self._graph.sites[place])), widths.ranges[place]
        return _at_once(self._inputs.grid)(own, widths.activations[place], low, high)

    def steps(self, variables: Variables, layer: str, kernel: np.ndarray, bits: int) -> Any:
        """The steps of a kernel's grid ``[O]``, one an output; None if it is on no uniform grid.

        Args:
          variables: of the network and of the quantizers.
          layer: its name.
          kernel: what it was rounded to ``[..., O]``.
          bits: of its weights.
        """
        if self._weights.steps is None:
            return None
        own = own_arrays(variables, self._graph.layers[self._place[layer]].kernel)
        return self._weights.steps(kernel, own, bits)

    def _round_kernel(
        self, name: str, variables: Variables, kernel: Any, bits: Any, alive: Any
    ) -> jax.Array:
        return self._weights.round(kernel, own_arrays(variables, name), bits, alive)


# Jitted, as an eager power would compile for every width that it meets.
_at_once = functools.cache(jax.jit)


def own_arrays(variables: Variables, kernel: str) -> Variables:
    """The arrays of a kernel's quantizer, by the quantizer's names for them."""
    start = f"{QUANTIZER}{kernel}."
    return {
        name.removeprefix(start): value
        for name, value in variables.items()
        if name.startswith(start) and "." not in name.removeprefix(start)
    }


def _own_name(site: Site) -> str:
    """The variable that the quantizer of a site's grid trains."""
    return f"{QUANTIZER}{site.grid}.input"


def slice_quantizers(
    graph: Graph, recipe: Recipe, variables: Variables, kept: Mapping[str, np.ndarray]
) -> Variables:
    """The quantizers' variables of a network of full size, for its sliced kernels.

    Args:
      graph: of the network.
      recipe: whose weight quantizer says what of it is an array an output or a weight.
      variables: of full size; those that are no quantizer's are left out.
      kept: by channel group, the channels that stay.
    """
    places, found = kept_places(graph, kept), {}
    cut = WEIGHT_QUANTIZERS[recipe.weights].cut
    for name in variables:
        if not name.startswith(QUANTIZER):
            continue
        kernel, _, part = name.removeprefix(QUANTIZER).rpartition(".")
        value = np.asarray(variables[name])
        if kernel in places and cut.get(part) == "outputs":
            value = value[places[kernel][-1]]
        elif kernel in places and cut.get(part) == "weights":
            value = value[np.ix_(*places[kernel])]
        found[name] = value
    return found
