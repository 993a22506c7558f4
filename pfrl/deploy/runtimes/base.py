"""What a runtime is: something that makes a judge of a network. One file of this folder each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pfrl.files import FileError
from pfrl.registry import Registry

if TYPE_CHECKING:  # settings name runtimes, and need no JAX for it
    import numpy as np

    from pfrl.deploy.operators.graph import Channels, OperatorGraph
    from pfrl.deploy.operators.quantized import Quantization
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


Axes = tuple[tuple[int, ...], tuple[int, ...]]
"""Counts of input and of output channels that make a grid."""


class LayerChannels(NamedTuple):
    """The channels of a layer of the base network, of a kind: conv, depthwise or dense."""

    kind: str
    groups: int
    c_in: int
    c_out: int


class Place(NamedTuple):
    """A point of the grid of uneven counts, or of the other one."""

    uneven: bool
    c_in: int
    c_out: int


class FileRuntime(Runtime, ABC):
    """A runtime that networks are handed over for, as files of its own.

    How long a network takes in it is predicted from single layers (``pfrl.cost.latency_table``),
    with regard to how many channels its kernels compute at a time.
    """

    suffix: str
    """Of its files."""
    channels: Channels
    """Where its operators have them."""

    @abstractmethod
    def version(self) -> str:
        """Of the runtime.

        Raises:
          Unavailable: if it is not installed.
        """

    @abstractmethod
    def opened(self, network: Path | str | bytes, threads: int = 1) -> Session:
        """A file, or the bytes of one, ready to run.

        Raises:
          Unavailable: if the runtime is not installed.
          FileError: if it cannot load the network.
        """

    @abstractmethod
    def written(self, function: Callable[[Any], Any], input_shape: tuple[int, ...]) -> bytes:
        """A network as a file, with integers where it is rounded; see ``judge``."""

    @abstractmethod
    def emitted(self, graph: OperatorGraph, quantization: Quantization) -> bytes:
        """A graph as a file, with integers on the grids."""

    @abstractmethod
    def block(self) -> int:
        """Output channels that its kernels compute at a time on this processor."""

    @abstractmethod
    def grids(self, layer: LayerChannels, points: Sequence[float], integers: bool) -> list[Axes]:
        """At which counts of channels a layer is measured.

        Args:
          layer: of the base network.
          points: shares of its channels.
          integers: whether it computes with them.

        Returns:
          A grid of the counts that fill its kernels and, if they are served otherwise, one of
          those that do not.
        """

    @abstractmethod
    def place(self, kind: str, c_in: int, c_out: int, block: int, uneven: bool) -> Place:
        """Where in these grids the latency of so many channels stands.

        Args:
          kind: of the layer: conv, depthwise or dense.
          c_in, c_out: its channels.
          block: as of the processor that the grids were measured on.
          uneven: whether there is the second grid.
        """

    def judge(self, function: Callable[[Any], Any], input_shape: tuple[int, ...]) -> Judge:
        """See ``Runtime``."""
        import numpy as np

        from pfrl.cpu import cores
        from pfrl.cpu.backend import callers

        session = self.opened(self.written(function, input_shape), len(cores()) // callers())
        return lambda images: session.logits(np.asarray(images), AT_ONCE)


FIXED_INPUTS = 4
"""Layers with at most so many input channels see the images, whose channels stay."""


def rounded_up(count: int, multiple: int) -> int:
    """The multiple that is no less."""
    return -(-count // multiple) * multiple


def up_to(most: int, counts: Iterable[int]) -> tuple[int, ...]:
    """Different counts in order, none above ``most``."""
    return tuple(sorted({min(count, most) for count in counts}))


RUNTIMES: Registry[Runtime] = Registry("runtime", rooms=("pfrl.deploy.runtimes",))
"""The runtimes by the names that configurations have for them."""


def file_runtime(name: str) -> FileRuntime:
    """The runtime of a name whose files can be handed over and measured.

    Raises:
      RegistryError: if there is none of that name.
      Unavailable: if it has no files of its own.
    """
    found = RUNTIMES[name]
    if not isinstance(found, FileRuntime) or found.integers:
        there = [
            each
            for each, runtime in RUNTIMES.items()
            if isinstance(runtime, FileRuntime) and not runtime.integers
        ]
        raise Unavailable(
            f"no network is handed over for '{name}', so no latency is measured in it; one of"
            f" {', '.join(sorted(there))} is"
        )
    return found


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
