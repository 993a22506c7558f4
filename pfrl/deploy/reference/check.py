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
ResNet-56 were 0.012 off, each convolution exact (AVX-512 with VNNI and AMX). Those of a deeper
network may be further off, so each of its operations is then compared by itself."""
BY_ITSELF = 0.005
"""Likewise the result of one operation, of the runtime's own operands."""
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
        if not self._integer:
            off = np.abs(found - self._expected)
            return bool(off.max() <= FLOATS * np.abs(self._expected).max())
        if not np.abs(found[:FEW] - self._computed).mean() <= INTEGERS * self._expected.std():
            return False
        self._check_simulated(found)
        return True

    def difference(
        self,
        found: np.ndarray,
        compute: Callable[[Collection[str]], Mapping[str, np.ndarray]],
    ) -> DifferenceError | None:
        """Names the first operation whose result is not the reference's, of the same operands.

        Args:
          found: outputs for all images that do not pass.
          compute: of these tensors of the graph the numbers that the runtime has for ``few``, by
            name, as far as it has them.

        Returns:
          None if there is no such operation in a file of integers: its outputs differ by what falls
          to another side of the middle of two steps, and that alone.

        Raises:
          DifferenceError: if they are not what was simulated.
        """
        values = self._reference.values(self.few)
        names = [name for name, (_, value) in values.items() if value.dtype.kind == "f"]
        runtime = compute(names)
        for node, value in self._reference.one_by_one(self.few, runtime):
            off = np.abs(runtime[node.output] - value).mean() / max(value.std(), 1e-6)
            if not off <= BY_ITSELF:
                of = f" of layer '{node.layer}'" if node.layer else ""
                return DifferenceError(
                    f"{self._runtime} computes something else than JAX; the first operation that"
                    f" differs is {node.op}{of}, by {off:.2g} of the standard deviation"
                )
        if self._integer:
            self._check_simulated(found)
            return None
        return DifferenceError(
            f"{self._runtime} and JAX compute different outputs, though all operations agree with"
            " the reference; the network may depend on the order of its sums"
        )

    def _check_simulated(self, found: np.ndarray) -> None:
        off, spread = np.abs(found - self._expected).mean(), self._expected.std()
        if not off <= SIMULATED * spread:
            raise DifferenceError(
                f"the integer file's outputs are {off / spread:.2f} of their standard deviation off"
                " those that were simulated; calibrate on more images"
            )

    @cached_property
    def _computed(self) -> np.ndarray:
        return self._reference(self.few)
