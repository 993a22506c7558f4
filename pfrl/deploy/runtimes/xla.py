"""XLA: the masked network as it is trained, with the compiled function that fits every policy."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from pfrl.deploy.runtimes.base import AT_ONCE, REFERENCE, Runtime
from pfrl.registry import register
from pfrl.tasks.judging import Judge


class XLA(Runtime):
    """Judges what JAX computes."""

    title = "XLA"
    masked = True

    def judge(self, function: Callable[[Any], Any], input_shape: tuple[int, ...]) -> Judge:
        """The function itself, which is compiled already; on a CPU of so many images at once as
        other runtimes run: a masked network of full size takes a MiB and more for each."""
        return in_parts(function) if jax.default_backend() == "cpu" else function


def in_parts(function: Callable[[Any], Any], size: int = AT_ONCE) -> Judge:
    """The function called for parts of its images, if these can be cut into such ones.

    Args:
      function: ``images [N, ...] -> outputs [N, ...]``.
      size: images in a part.
    """

    def judge(images: Any) -> Any:
        if len(images) <= size or len(images) % size:
            return function(images)
        starts = range(0, len(images), size)
        return np.concatenate([np.asarray(function(images[s : s + size])) for s in starts])

    return judge


register("runtime", REFERENCE, XLA())
