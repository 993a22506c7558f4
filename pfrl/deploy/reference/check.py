"""Whether a file computes what the network does: on real images, in its runtime."""

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from pfrl.cpu.backend import answering
from pfrl.deploy.operators.graph import OperatorGraph
from pfrl.deploy.operators.program import ExportError
from pfrl.deploy.operators.quantized import Quantization
from pfrl.deploy.reference.run import Reference
from pfrl.tasks.outputs import as_one

FLOATS = 1e-3
"""How far outputs in float32 may be off, over the largest of them."""
INTEGERS = 0.02
"""How far an integer file's outputs may be off those of the reference, as mean over all, in their
standard deviations. Integers are the same to the last one; what stays float between them may fall
to another side of the middle of two steps, which grows from sum to sum: the 27 sums of a trained
ResNet-56 were 0.012 off, each convolution exact (AVX-512 with VNNI and AMX)."""
SIMULATED = 0.3
"""Likewise off JAX's, where biases are not rounded: a sum in the middle of two steps may go to
either, and that travels."""
FEW = 8
"""Images that the reference computes, which is slow."""


class DifferenceError(ExportError):
    """A file that computes something else than the network; it is not kept."""


class Check:
    """What a file's outputs have to be.

    Args:
      runtime: what people call it.
      graph, quantization: that the file was written of.
      function: the network in JAX, rounded as it is simulated.
      images: real ones ``[N, *input_shape]``.
      litert: see ``Reference``.
    """

    def __init__(
        self,
        runtime: str,
        graph: OperatorGraph,
        quantization: Quantization,
        function: Callable[[Any], Any],
        images: np.ndarray,
        litert: bool = False,
    ):
        self._runtime, self._integer = runtime, bool(quantization.sites)
        self._expected = np.asarray(answering(lambda x: as_one(function(x)))(images))
        self._reference, self.few = Reference(graph, quantization, litert), images[:FEW]

    def passes(self, found: np.ndarray) -> bool:
        """Whether these outputs for all images are the network's; of integers, the reference's.

        Raises:
          DifferenceError: if they are the reference's, and not what was simulated.
        """
        off = np.abs(found - self._expected)
        if not self._integer:
            return bool(off.max() <= FLOATS * np.abs(self._expected).max())
        spread = self._expected.std()
        if not np.abs(found[:FEW] - self._computed).mean() <= INTEGERS * spread:
            return False
        if off.mean() <= SIMULATED * spread:
            return True
        raise DifferenceError(
            f"the integer file's outputs are {off.mean() / spread:.2f} of their standard deviation"
            " off those that were simulated; calibrate on more images"
        )

    def difference(
        self, compute: Callable[[Collection[str]], Mapping[str, np.ndarray]]
    ) -> DifferenceError:
        """Names the first operation whose result is not the reference's.

        Args:
          compute: of these tensors of the graph the numbers that the runtime has for ``few``, by
            name, as far as it has them.
        """
        values = self._reference.values(self.few)
        values = {name: each for name, each in values.items() if each[1].dtype.kind == "f"}
        found = compute(values.keys())
        for tensor, (node, value) in values.items():
            if tensor not in found:
                continue
            off = np.abs(found[tensor] - value).mean() / max(value.std(), 1e-6)
            if not off <= INTEGERS:
                of = f" of layer '{node.layer}'" if node.layer else ""
                return DifferenceError(
                    f"{self._runtime} computes something else than JAX; the first operation that"
                    f" differs is {node.op}{of}, by {off:.2g} of the standard deviation"
                )
        return DifferenceError(
            f"{self._runtime} and JAX compute different outputs, though all operations agree with"
            " the reference; the network may depend on the order of its sums"
        )

    @cached_property
    def _computed(self) -> np.ndarray:
        return self._reference(self.few)
