"""Networks of 8 bits."""

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
