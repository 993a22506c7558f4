"""Whether a file computes what the network does: on real images, in the runtime."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime

from pfrl.deploy.onnx.emit import to_model
from pfrl.deploy.onnx.integers import to_integer_model, with_pairs
from pfrl.deploy.operators.graph import OperatorGraph
from pfrl.deploy.operators.program import ExportError
from pfrl.deploy.operators.quantized import Quantization
from pfrl.deploy.reference.run import Reference

FLOATS = 1e-3
"""How far outputs in float32 may be off, over the largest of them."""
SIMULATED = 0.3
"""How far an integer file's outputs may be off JAX's, as mean over all, in their standard
deviations: a sum in the middle of two steps may go to either, and that travels."""
INTEGERS = 0.1
"""Likewise from those of the integer reference. With 4 bits one such sum is much: 0.05 was seen."""
FEW = 8
"""Images that the reference computes, which is slow."""


class DifferenceError(ExportError):
    """A file that computes something else than the network; it is not kept."""


def checked(
    model: onnx.ModelProto,
    graph: OperatorGraph,
    quantization: Quantization,
    function: Callable[[Any], Any],
    images: np.ndarray,
) -> onnx.ModelProto:
    """The model, if ONNX Runtime computes with it what JAX does.

    An integer model that this processor computes wrongly, because it sums up products of int8 in
    16 bits, is replaced by the one with uint8 kernels, which every processor computes right.

    Args:
      model: of ``graph`` and ``quantization``.
      function: the network in JAX, rounded as it is simulated.
      images: real ones ``[N, *input_shape]``.

    Raises:
      DifferenceError: if it does not; the message names the first operation that differs.
    """
    expected = np.asarray(jax.jit(function)(images))
    if not quantization.sites:
        if not _off(outputs(model, images)[0], expected) <= FLOATS * np.abs(expected).max():
            raise _difference(graph, quantization, images)
        return model
    reference, spread = Reference(graph, quantization)(images[:FEW]), expected.std()
    for portable in (False, True):
        if portable:
            model = to_integer_model(graph, quantization, portable)
        found = outputs(model, images)[0]
        if np.abs(found[:FEW] - reference).mean() <= INTEGERS * spread:
            if np.abs(found - expected).mean() <= SIMULATED * spread:
                return model
            raise DifferenceError(
                f"the integer file's outputs are {np.abs(found - expected).mean() / spread:.2f} of"
                " their standard deviation off those that were simulated; calibrate on more images"
            )
    raise _difference(graph, quantization, images)


def outputs(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    """Everything that a model puts out, as ONNX Runtime computes it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: Sequence[Any] = session.run(None, {session.get_inputs()[0].name: images})
    return [np.asarray(each) for each in found]


def _off(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max())


def _difference(
    graph: OperatorGraph, quantization: Quantization, images: np.ndarray
) -> DifferenceError:
    """Names the first operation whose result is not the reference's."""
    images = images[:FEW]
    paired, renamed = with_pairs(graph, quantization)
    there = {node.output for node in paired.nodes} - {paired.output}
    steps = [
        (node, value, name)
        for tensor, (node, value) in Reference(graph, quantization).values(images).items()
        if (name := renamed.get(tensor, tensor)) in there and value.dtype != bool
    ]
    found = outputs(to_model(paired, [name for *_, name in steps]), images)[1:]
    for (node, value, _), mine in zip(steps, found, strict=True):
        off = np.abs(mine - value).mean() / max(value.std(), 1e-6)
        if off > INTEGERS:
            of = f" of layer '{node.layer}'" if node.layer else ""
            return DifferenceError(
                "ONNX Runtime computes something else than JAX; the first operation that differs"
                f" is {node.op}{of}, by {off:.2g} of the standard deviation"
            )
    return DifferenceError(
        "ONNX Runtime and JAX compute different outputs, though all operations agree with the"
        " reference; the network may depend on the order of its sums"
    )
