"""Files of our own exporter come back as networks: all of the zoo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pfrl
from tests.support.conformance import random_source
from tests.support.narrow import CLASSIC, MODERN

NETWORKS = CLASSIC | MODERN
QUICKLY = ("lenet5", "resnet20b", "mobilenet_v3_small", "shufflenet_v2", "vit_tiny", "mixer_tiny")
SHORTCUTS = {"resnet20": 2 * 4 * 4 * 4 * 8}
"""Multiplications of shortcuts that pad, which the exporter writes as small convolutions, ..."""
COARSER = {"resnet20": [4, 4, 4, 8, 8, 8, 16, 16, 16]}
"""... behind which the channels that were padded are no longer told from the others."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICKLY else pytest.mark.slow) for name in NETWORKS],
)
def test_a_network_of_the_zoo_comes_back(name, tmp_path):
    """With the same layers, groups and multiplications, if not the same names."""
    constructor, image = NETWORKS[name]
    source = random_source(constructor)

    def network(x):
        return source.apply(source.variables, x, False)[0]

    path = pfrl.export_onnx(network, image, tmp_path / "net.onnx")
    again = pfrl.from_onnx(path, channels_last=True)
    x = jax.ShapeDtypeStruct((2, *image), jnp.float32)
    before, after = pfrl.trace(source, x), pfrl.trace(again, x)
    assert after.macs == before.macs + SHORTCUTS.get(name, 0) and not after.unknown
    sizes = [sorted(group.size for group in graph.groups.values()) for graph in (before, after)]
    assert sizes[1] == COARSER.get(name, sizes[0])
    images = np.random.default_rng(0).normal(size=(2, *image)).astype(np.float32)
    found, wanted = (
        jax.jit(lambda v, x, s=s: s.apply(v, x, False)[0])(s.variables, images)
        for s in (again, source)
    )
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
