"""Every network of the zoo in every format: the file's runtime and JAX compute the same numbers."""

import jax
import numpy as np
import pytest
from flax import nnx

from pfrl.deploy.litert.export import to_litert
from pfrl.deploy.onnx.export import to_onnx
from pfrl.deploy.runtimes.litert import LiteRTSession
from pfrl.deploy.runtimes.onnxruntime import Session
from tests.support.exported import randomised
from tests.support.narrow import CLASSIC, MODERN

CLOSE = 1e-4
"""Largest difference, as a share of the largest output."""
FORMATS = {
    "onnx": lambda network, shape: Session(to_onnx(network, shape).SerializeToString()),
    "litert": lambda network, shape: LiteRTSession(to_litert(network, shape)),
}


@pytest.mark.parametrize("name", CLASSIC | MODERN)
def test_files_of_the_zoo_compute_what_jax_computes(name):
    """Parameters and statistics are random, so no bias is zero and no scale is one."""
    make, shape = (CLASSIC | MODERN)[name]
    network = randomised(lambda: make(nnx.Rngs(0)))
    images = np.random.default_rng(0).normal(0, 1, (3, *shape)).astype(np.float32)
    expected = np.asarray(jax.jit(lambda x: network(x))(images))
    assert expected.std() > 1e-3
    differences = {
        kind: float(np.abs(open_file(network, shape).logits(images) - expected).max())
        for kind, open_file in FORMATS.items()
    }
    largest = np.abs(expected).max()
    assert {kind for kind, found in differences.items() if found > CLOSE * largest} == set()
