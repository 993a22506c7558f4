"""A training that was interrupted: its state on disk, and what it was a training of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from pfrl.files import load_arrays, save_arrays


def save_state(path: Path, state: Any, identity: Mapping[str, Any], done: int) -> None:
    """Write the arrays of ``state`` after ``done`` steps, whole or not at all."""
    arrays = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(state))}
    save_arrays(path, arrays, {**identity, "done": done})


def load_state(path: Path | None, state: Any, identity: Mapping[str, Any]) -> tuple[Any, int]:
    """``(state, steps done)`` of a checkpoint; without one of this identity, ``(state, 0)``.

    Args:
      path: where it may be, or None.
      state: what training starts from; gives the structure.
      identity: all that the training depends on, as JSON can hold it.

    Raises:
      FileError: if the file is damaged.
    """
    if path is None or not path.is_file():
        return state, 0
    arrays, meta = load_arrays(path)
    done = meta.pop("done", 0)
    # In JSON a tuple is a list.
    if meta != json.loads(json.dumps(identity)):
        return state, 0
    leaves, tree = jax.tree.flatten(state)
    return jax.tree.unflatten(tree, [arrays[str(i)] for i in range(len(leaves))]), done
