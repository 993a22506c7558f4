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


class MeshError(ValueError):
    """A batch that cannot be shared out evenly."""


def device_mesh() -> Mesh:
    """All devices of this process in a row.

    Several processes (``jax.distributed``) do not work together: each trains the whole
    network on its own devices.
    """
    return Mesh(np.asarray(jax.local_devices()), ("batch",))


def mesh_for(batch: int, mesh: Mesh | None = None) -> Mesh | None:
    """What to train on: ``mesh``, or all devices if there are several and the batch divides.

    None is the default device alone.

    Raises:
      MeshError: if the batch does not divide over the ``mesh`` that was asked for.
    """
    if mesh is None:
        found = device_mesh()
        return found if found.size > 1 and batch % found.size == 0 else None
    if batch % mesh.size:
        raise MeshError(
            f"a batch of {batch} cannot be shared out over {mesh.size} devices;"
            f" expected a multiple of {mesh.size}"
        )
    return mesh


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Every array whole on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def share_out(tree: Any, mesh: Mesh) -> Any:
    """Every array in equal parts of its first axis."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))
