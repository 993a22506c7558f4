"""How every array of a policy's network is stored in the packed file, before there is one."""

import math
from collections.abc import Mapping

import numpy as np

from pfrl.compression.recipe import PLAIN, Recipe
from pfrl.deploy.packed.encoding import Stored, smallest
from pfrl.graph import Graph, Layer
from pfrl.methods.quantization.base import WEIGHT_QUANTIZERS
from pfrl.methods.quantization.coding import layout
from pfrl.methods.quantization.uniform import FLOAT_BITS
from pfrl.methods.sparsity.base import SPARSIFIERS


class Storage:
    """The packed file of any policy's network.

    - Kernels of less than 32 bits are whole numbers with the table of their quantizer, in
      float32 where that is smaller. A kernel that several layers share is there once, at the
      largest of their bit widths. Kernels that are used in another arrangement than they are
      stored in, or not as kernels alone, or of another type than float32, stay as they are,
      for each use rounds them in its own way.
    - Of sparse kernels there are the weights that stay, and a bitmap of their places.
    - All other arrays are there as they are.

    Args:
      graph: of the base network.
      recipe: how kernels are made sparse, and rounded.
    """

    def __init__(self, graph: Graph, recipe: Recipe = PLAIN):
        self._quantizer = WEIGHT_QUANTIZERS[recipe.weights]
        self._sparsifier = SPARSIFIERS[recipe.pattern]
        variables = sorted(graph.source.variables.items())
        self._axes, self._types = graph.axes, {name: np.dtype(v.dtype) for name, v in variables}
        self._layers: dict[str, list[Layer]] = {name: [] for name in self._types}
        for layer in graph.layers:
            self._layers[layer.kernel].append(layer)
        alone = _kernels_alone(graph)
        self._rounded = [n for n in self._types if n in alone and self._types[n] == np.float32]

    def stored(
        self,
        counts: Mapping[str, int],
        weight_bits: Mapping[str, int],
        sparsity: Mapping[str, float],
    ) -> dict[str, Stored]:
        """By variable, how it lies in the file: an exact function of the policy's numbers.

        Args:
          counts: channels of every group.
          weight_bits: of every layer.
          sparsity: of the layers that are sparse.
        """
        bits = self.bits(weight_bits)
        return {
            name: self._stored(name, counts, bits.get(name, FLOAT_BITS), sparsity)
            for name in self._types
        }

    @property
    def zeros_coded(self) -> bool:
        """Whether a code of rounded kernels stands for zero; else zeros need a bitmap."""
        return self._quantizer.steps is not None

    def bits(self, weight_bits: Mapping[str, int]) -> dict[str, int]:
        """The width of every kernel that is there rounded, or in float at 32 bits."""
        return {
            name: max([weight_bits[layer.name] for layer in self._layers[name]])
            for name in self._rounded
        }

    def _stored(
        self, name: str, counts: Mapping[str, int], bits: int, sparsity: Mapping[str, float]
    ) -> Stored:
        shape, dtype = tuple([axis.at(counts) for axis in self._axes[name]]), self._types[name]
        stays = math.prod(shape)
        shares = [share for layer in self._layers[name] if (share := sparsity.get(layer.name))]
        if shares:
            stays = self._sparsifier.stays(shape, shares[0])
        if bits >= FLOAT_BITS:
            return smallest(dtype.name, shape, 8 * dtype.itemsize, (0,), stays)
        format, table, zeros_coded = layout(self._quantizer, shape, bits, stays)
        return smallest(format, shape, bits, table, stays, zeros_coded)


def _kernels_alone(graph: Graph) -> set[str]:
    """The variables that layers read just as they are, and that nothing else reads."""
    labelled = graph.evaluation()
    names = sorted(graph.source.variables)
    others = {
        operand
        for number, equation in enumerate(labelled.program.equations)
        for place, operand in enumerate(equation.inputs)
        if isinstance(operand, int) and place != labelled.kernels.get(number)
    }
    return {layer.kernel for layer in graph.layers if names.index(layer.kernel) not in others}
