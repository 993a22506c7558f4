"""What a runtime is: something that makes a judge of a network. One file of this folder each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pfrl.files import FileError
from pfrl.registry import Registry

if TYPE_CHECKING:  # settings name runtimes, and need no JAX for it
    import numpy as np

    from pfrl.tasks.base import Task
    from pfrl.tasks.judging import Judge

AT_ONCE = 50
"""Images in one run of a judge: with more, what lies between layers leaves the caches."""
REFERENCE = "xla"
"""The runtime that judges every network, and that others are compared with."""


class Unavailable(ValueError):
    """A runtime that is not installed, or that this processor lacks instructions for."""


class Session(Protocol):
    """A file in its runtime, ready to run."""

    runtime: str
    """Its name, such as onnxruntime or litert."""
    version: str
    threads: int
    """Threads inside an operation."""
    input_shape: tuple[int | None, ...]
    """``None`` stands for any size."""

    def logits(self, images: np.ndarray, batch: int = AT_ONCE) -> np.ndarray:
        """The network's output ``[N, K]`` for ``images`` ``[N, H, W, C]``, run ``batch`` at a time;
        several in a row.

        Raises:
          ValueError: if the images' shape is not the network's, or there are none.
        """
        ...

    def bound(self, images: np.ndarray) -> Callable[[], None]:
        """A function that runs the network on ``images`` and does nothing else, for measuring."""
        ...

    def random_images(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        """``batch`` images of noise of the network's shape; sizes that are free become 1."""
        ...


class Runtime(Protocol):
    """What runs networks. An instance is registered: ``register("runtime", "name", Mine())``."""

    title: str
    """What people call it."""
    masked: bool = False
    """Whether it judges the masked network, compiled once for all policies, or the sliced one of
    each policy, in float32."""
    integers: bool = False
    """Whether it judges rounded networks, as the file of integers that is handed over."""

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


def check_images(images: np.ndarray, expected: tuple[int | None, ...]) -> None:
    """Raises ValueError if there are no images, or they are not of the shape that is expected."""
    fits = images.ndim == len(expected) and all(
        wanted in (None, got) for wanted, got in zip(expected, images.shape, strict=True)
    )
    if not fits or len(images) == 0:
        sizes = ", ".join("any" if size is None else str(size) for size in expected)
        raise ValueError(f"got images of shape {images.shape}, the network expects [{sizes}]")


def in_a_row(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """A file's outputs as one array, as ``pfrl.tasks.outputs.as_one`` has those of a network."""
    if len(outputs) == 1:
        return outputs[0]
    import numpy as np

    return np.concatenate([each.reshape(len(each), -1) for each in outputs], axis=1)


def check_there(model: Path | str | bytes) -> None:
    """Raises FileError if a network is not there: no bytes, and no path of a file."""
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise FileError(f"no file {model}; expected an ONNX or a LiteRT network, export one first")


def first_line(error: Exception) -> str:
    """What a runtime says first, in at most 300 letters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
