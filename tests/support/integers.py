"""Networks of 8 bits, and what a LiteRT file computes at every tensor."""

import warnings
from typing import Any

import jax
import numpy as np
from flax import nnx

from pfrl.compression.calibration import gather_statistics
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe
from pfrl.compression.sliced import Compressed, compress
from pfrl.graph import trace
from tests.support.exported import randomised
from tests.support.narrow import CLASSIC, MODERN


def quantized(name: str, images: int = 32, **bits: Any) -> tuple[Compressed, np.ndarray]:
    """A narrow network of the zoo with random parameters, and images that it is calibrated on.

    Args:
      bits: ``weight_bits`` and ``act_bits`` of ``Policy.uniform``, 8 by default.
    """
    make, shape = (CLASSIC | MODERN)[name]
    network = randomised(lambda: make(nnx.Rngs(0)))
    x = np.random.default_rng(0).normal(0, 1, (images, *shape)).astype(np.float32)
    graph = trace(network, jax.ShapeDtypeStruct((images, *shape), np.float32))
    seen = gather_statistics(graph, Recipe(), [(x, np.zeros(images, int))], quantized=True)
    policy = Policy.uniform(graph, **{"weight_bits": 8, "act_bits": 8, **bits})
    return compress(graph.source, policy, graph=graph, statistics=seen), x


def int8_tensors(content: bytes, images: np.ndarray) -> dict[str, np.ndarray]:
    """By name the codes of all int8 tensors that a LiteRT file computes, as uint8.

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
    found = {}
    for tensor in network.get_tensor_details():
        if tensor["index"] in made and tensor["dtype"] is np.int8:
            codes = network.get_tensor(tensor["index"])
            found[tensor["name"]] = (codes.astype(int) + 128).astype(np.uint8)
    return found
