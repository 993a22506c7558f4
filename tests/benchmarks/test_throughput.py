"""What PyTorch trains beside ours is the same network."""

import jax
import pytest
from flax import nnx

from benchmarks.pytorch.small import NETWORKS
from pfrl.models.catalogue import build


@pytest.mark.parametrize("name", NETWORKS)
def test_as_many_parameters_as_ours(name):
    ours = nnx.eval_shape(lambda: build(name, 10, (32, 32, 3), 0))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(ours, nnx.Param)))
    assert sum(each.numel() for each in NETWORKS[name](10).parameters()) == count
