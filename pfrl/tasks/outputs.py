"""Networks with several outputs: they are judged as one array."""

from typing import Any

import jax
import jax.numpy as jnp


def as_one(outputs: Any) -> Any:
    """What a network puts out as one array ``[N, ...]``; several arrays, or a tree of them, in a
    row ``[N, D]``: each flattened, in the order of ``jax.tree.leaves``."""
    leaves = jax.tree.leaves(outputs)
    if len(leaves) == 1:
        return leaves[0]
    return jnp.concatenate([each.reshape(len(each), -1) for each in leaves], axis=1)
