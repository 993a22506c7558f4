"""XLA: the masked network as it is trained, with the compiled function that fits every policy."""

from collections.abc import Callable
from typing import Any

from pfrl.deploy.runtimes.base import REFERENCE, Runtime
from pfrl.registry import register
from pfrl.tasks.judging import Judge


class XLA(Runtime):
    """Judges what JAX computes."""

    title = "XLA"
    masked = True

    def judge(self, function: Callable[[Any], Any], input_shape: tuple[int, ...]) -> Judge:
        """The function itself: it is compiled already."""
        return function


register("runtime", REFERENCE, XLA())
