"""Training on several devices: every batch is shared out, everything else is everywhere.

The program stays that of one device: arrays that lie on several devices make
``jax.jit`` compile for all of them, sums over the batch included. So batch
normalisation sees the statistics of the whole batch, and results are those of one
device up to the order of floating-point sums.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def mesh_for(batch: int) -> Mesh | None:
    """All devices of this process in a row, if there are several and the batch divides.

    None is the default device alone. Several processes (``jax.distributed``) do not work
    together: each trains the whole network on its own devices.
    """
    devices = jax.local_devices()
    if len(devices) == 1 or batch % len(devices):
        return None
    return Mesh(np.asarray(devices), ("batch",))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Every array whole on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def share_out(tree: Any, mesh: Mesh) -> Any:
    """Every array in equal parts of its first axis."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))
