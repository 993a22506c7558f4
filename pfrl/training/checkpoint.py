"""A training that was interrupted: its state on disk, and what it was a training of."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from pfrl.files import load_arrays, save_arrays

SECONDS = 60.0
"""Of work that an interruption may cost, besides the steps up to the next offer."""


class Checkpoint:
    """The file of one training.

    Args:
      path: where it is, or None: then nothing is kept.
      identity: all that the training depends on, as JSON can hold it.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        self._path, self._identity = path, identity
        self._saved = time.monotonic()

    def load(self, state: Any) -> tuple[Any, int]:
        """``(state, steps done)`` of a file of this identity; without one, ``(state, 0)``.

        Args:
          state: what training starts from; gives the structure.

        Raises:
          FileError: if the file is damaged.
        """
        if self._path is None or not self._path.is_file():
            return state, 0
        arrays, meta = load_arrays(self._path)
        done = meta.pop("done", 0)
        # In JSON a tuple is a list.
        if meta != json.loads(json.dumps(self._identity)):
            return state, 0
        leaves, tree = jax.tree.flatten(state)
        return jax.tree.unflatten(tree, [arrays[str(i)] for i in range(len(leaves))]), done

    def offer(self, state: Any, done: int) -> None:
        """Write ``state`` as it is after ``done`` steps, whole or not at all, if it is time."""
        if self._path is None or time.monotonic() - self._saved < SECONDS:
            return
        arrays = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(state))}
        # Once a minute: 13 seconds of compressing are not worth 7 % of a VGG-16's file.
        save_arrays(self._path, arrays, {**self._identity, "done": done}, compress=False)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """At the end of the training."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
