"""The masked network: a policy as traced values on arrays of full size, compiled once."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pfrl.compression.policy import Policy
from pfrl.compression.prepare import Prepared
from pfrl.compression.recipe import Recipe
from pfrl.compression.rounding import BitWidths, Quantizer, Ranges
from pfrl.compression.sliced import run_graph
from pfrl.graph import Graph, Variables
from pfrl.graph.masks import Masks, alive_elements


class Knobs(NamedTuple):
    """A policy as values whose shapes no policy changes.

    Attributes:
      mask: of the channels; see ``Masks``.
      bit_widths: of the layers; None where nothing is quantized.
      weight_masks: the weights of sparse kernels that are not zero; those of a network whose
        policies are never sparse are left out.
    """

    mask: Any
    bit_widths: BitWidths | None
    weight_masks: Mapping[str, Any]


class MaskedNetwork:
    """A network that is any policy's, by the values it is called with.

    Args:
      graph: of the base network.
      recipe: how numbers are rounded.
      quantized: whether bit widths are honoured; without, their code is left out.
      sparse: whether policies may have sparse layers.
    """

    def __init__(self, graph: Graph, recipe: Recipe, quantized: bool, sparse: bool = False):
        self.graph = graph
        self._quantizer = Quantizer(graph, recipe) if quantized else None
        self._kernels = sorted({layer.kernel for layer in graph.layers})
        self._sparse = sparse
        self._masks = Masks(graph)

    @property
    def quantized(self) -> bool:
        """Whether bit widths are honoured."""
        return self._quantizer is not None

    @property
    def trainable(self) -> frozenset[str]:
        """Names of the variables that gradients go to."""
        own = self.graph.source.trainable
        return own | self._quantizer.trained if self._quantizer else own

    def knobs(self, policy: Policy, prepared: Prepared, ranges: Ranges) -> Knobs:
        """The policy as arrays whose shapes no policy changes: arguments of a compiled function.

        Args:
          policy: of which the bit widths are read; channels and zeros were chosen before.
          prepared: the arrays, channels and weight masks that ``prepare`` made of the policy.
          ranges: ``(low, high)`` by site, for rounding activations.
        """
        masks = {}
        if self._sparse:
            shapes = {name: np.shape(prepared.variables[name]) for name in self._kernels}
            dense = {name: np.ones(shape, bool) for name, shape in shapes.items()}
            masks = dense | prepared.weight_masks
        widths = self._quantizer.bit_widths(policy, ranges) if self._quantizer else None
        return Knobs(self._masks.vector(prepared.kept), widths, masks)

    def start(self, prepared: Prepared, knobs: Knobs) -> Variables:
        """The variables that training starts from, those of the quantizers among them.

        Args:
          prepared: the arrays of full size.
          knobs: of the same policy.
        """
        own = dict(prepared.variables)
        if self._quantizer is None:
            return own
        assert knobs.bit_widths is not None
        alive = alive_elements(self.graph, prepared.kept, self._kernels) | prepared.weight_masks
        return own | self._quantizer.start(own, knobs.bit_widths, alive)

    def apply(
        self, variables: Variables, x: Any, train: bool, knobs: Knobs
    ) -> tuple[Any, Variables]:
        """What the network of the knobs answers.

        Args:
          variables: of full size, with those of the quantizers; see ``start``.
          x: inputs ``[N, ...]``.
          train: whether normalisations use the statistics of the batch.
          knobs: see ``knobs``; they may be traced.

        Returns:
          outputs ``[N, ...]`` and the variables that are not trained: statistics after the batch,
          and what quantizers keep fixed.
        """
        own = {name: variables[name] for name in self.graph.source.variables}
        masked = self._masks.apply(own, knobs.mask)
        for name, mask in knobs.weight_masks.items():
            masked[name] = masked[name] * mask
        rounding = None
        if self._quantizer is not None:
            assert knobs.bit_widths is not None
            alive = self._alive(own, knobs)
            rounding = self._quantizer.rounding(variables, knobs.bit_widths, alive)
        outputs, statistics = run_graph(self.graph, masked, x, train, rounding=rounding)
        fixed = variables.keys() - own.keys() - self.trainable
        return outputs, statistics | {name: variables[name] for name in fixed}

    def _alive(self, own: Variables, knobs: Knobs) -> Variables:
        """0 and 1 by kernel: the weights that are there."""
        ones = {name: jnp.ones(jnp.shape(own[name]), jnp.float32) for name in self._kernels}
        alive = self._masks.apply({**own, **ones}, knobs.mask)
        found = {name: alive[name] for name in self._kernels}
        return found | {name: found[name] * mask for name, mask in knobs.weight_masks.items()}
