"""What a runtime is: something that makes a judge of a network. One file of this folder each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pfrl.registry import Registry

if TYPE_CHECKING:  # settings name runtimes, and need no JAX for it
    from pfrl.tasks.base import Task
    from pfrl.tasks.judging import Judge

AT_ONCE = 50
"""Images in one run of a judge: with more, what lies between layers leaves the caches."""
REFERENCE = "xla"
"""The runtime that judges every network, and that others are compared with."""


class Unavailable(ValueError):
    """A runtime that is not installed, or that this processor lacks instructions for."""


class Runtime(Protocol):
    """What runs networks. An instance is registered: ``register("runtime", "name", Mine())``."""

    title: str
    """What people call it."""
    masked: bool = False
    """Whether it judges the masked network, compiled once for all policies, or the sliced one of
    each policy, in float32."""

    def suits(self, task: Task) -> bool:
        """Whether its outputs are exact enough for a task; asked where it is not named but found
        by measuring."""
        return True

    def judge(self, function: Callable[[Any], Any], input_shape: tuple[int, ...]) -> Judge:
        """A judge of one network; made anew for every policy, so it should be quick.

        Args:
          function: ``images [N, *input_shape] -> outputs`` in JAX, parameters closed over.
          input_shape: shape of one image, ``(H, W, C)``.

        Raises:
          ExportError: if the network has an operation that the runtime's format lacks.
          FileError: if the runtime cannot load the network.
          Unavailable: if the runtime is not there.
        """
        ...


RUNTIMES: Registry[Runtime] = Registry("runtime", rooms=("pfrl.deploy.runtimes",))
"""The runtimes by the names that configurations have for them."""
