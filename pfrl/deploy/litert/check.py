"""Whether a LiteRT file computes what the network does, in LiteRT."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from pfrl.deploy.operators.graph import OperatorGraph
from pfrl.deploy.operators.quantized import Quantization
from pfrl.deploy.reference.check import Check
from pfrl.deploy.runtimes.litert import LiteRTSession


def check(
    content: bytes,
    graph: OperatorGraph,
    quantization: Quantization,
    function: Callable[[Any], Any],
    images: np.ndarray,
) -> None:
    """See to it that LiteRT computes with a file what JAX does.

    Args:
      content: of the file, written of ``graph`` and ``quantization``.
      function: the network in JAX, rounded as it is simulated.
      images: real ones ``[N, *input_shape]``.

    Raises:
      DifferenceError: if it does not; the message names the first operation that differs.
    """
    wanted = Check("LiteRT", graph, quantization, function, images, litert=True)
    found = LiteRTSession(content).logits(images)
    if not wanted.passes(found):
        wrong = wanted.difference(found, lambda _: tensors(content, wanted.few))
        if wrong is not None:
            raise wrong


def tensors(content: bytes, images: np.ndarray) -> dict[str, np.ndarray]:
    """By name the numbers of all tensors that a file's operators make, codes as what they mean."""
    found = {}
    for tensor, value in computed(content, images):
        if value.dtype == np.int8:
            scale, zero = tensor["quantization"]
            value = (value.astype(np.float64) - zero) * scale
        found[tensor["name"].removesuffix(".int8")] = value
    return found


def computed(content: bytes, images: np.ndarray) -> list[tuple[dict[str, Any], np.ndarray]]:
    """LiteRT's details and the values of all tensors that a file's operators make.

    Tensors that the runtime keeps for itself, being inside of what it fuses, are left out.
    """
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # keeping all tensors costs memory, it says
        network = Interpreter(
            model_content=content, num_threads=1, experimental_preserve_all_tensors=True
        )
    source = network.get_input_details()[0]["index"]
    network.resize_tensor_input(source, images.shape)
    network.allocate_tensors()
    network.set_tensor(source, images)
    network.invoke()
    made = {index for node in network._get_ops_details() for index in node["outputs"]}
    details = network.get_tensor_details()
    return [(each, network.get_tensor(each["index"])) for each in details if each["index"] in made]
