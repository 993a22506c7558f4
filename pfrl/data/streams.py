"""Pictures that do not fit into memory: read when they are looked at, for training by ``grain``.

``grain`` (the loader of the JAX ecosystem) decodes and crops batches in worker processes, some of
them ahead. What a batch holds depends on its number alone: not on how many processes there are,
nor on where training starts.
"""

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from pfrl.cpu.workers import cores
from pfrl.data.layout import archive
from pfrl.data.pictures import DataError, PictureError, Reading, channels_of, decoded

IN_MEMORY = 2**30
"""Bytes of decoded pictures that are held in memory; more are read again every time."""
IN_PROCESSES = 64
"""Batches from which on processes are worth their start, a second or two each."""
MOST_WORKERS = 8
THREADS = 4
"""That decode within a process."""


IN_COLOUR = (
    "is in colour, but all of train/ and val/ is grey; make all images grey or some of train/ RGB"
)


class LostPicture(DataError):
    """A file that could be read when the data set was opened, and cannot any more."""


class Undecoded(ABC):
    """uint8 ``[N, H, W, C]`` that is read by ``np.asarray``; indexing takes some, unread."""

    ndim = 4
    dtype = np.dtype(np.uint8)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int, int]: ...

    @abstractmethod
    def __getitem__(self, index: Any) -> "Undecoded": ...

    @abstractmethod
    def at(self, place: int) -> np.ndarray:
        """The image at a place, uint8 ``[H, W, C]``.

        Raises:
          LostPicture: if it cannot be read, or has another shape.
        """

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = np.empty(self.shape, np.uint8)
        for place in range(len(found)):
            found[place] = self.at(place)
        return found if dtype is None else found.astype(dtype)


@dataclass(frozen=True, eq=False)
class Pictures(Undecoded):
    """Pictures in files.

    Attributes:
      root: folder or .zip.
      names: of the files in it, ``[N]``.
      reading: how they are read.
      sides: ``(H, W)`` of what is cut out of the middle.
      channels: 1 or 3.
    """

    root: Path
    names: np.ndarray
    reading: Reading
    sides: tuple[int, int]
    channels: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.names), *self.sides, self.channels

    def __getitem__(self, index: Any) -> "Pictures":
        return replace(self, names=self.names[index])

    def at(self, place: int) -> np.ndarray:
        name, (height, width) = str(self.names[place]), self.sides
        try:
            pixels = decoded(content(self.root, name), self.reading)
        except PictureError as error:
            if self.reading.skip_broken:
                return np.zeros((height, width, self.channels), np.uint8)
            raise LostPicture(
                f"{name} in {self.root} {error}; mend it, or go on with a black picture in its"
                " place: --skip-broken"
            ) from error
        top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
        if top < 0 or left < 0 or (self.reading.size is None and (top or left)):
            raise LostPicture(
                f"{name} in {self.root} has (height, width) {pixels.shape[:2]}, expected"
                f" {self.sides} as the first image; give --image-size, to which all are resized"
            )
        if pixels.shape[-1] > self.channels:
            raise LostPicture(f"{name} in {self.root} {IN_COLOUR}")
        return pixels[top : top + height, left : left + width]


def content(root: Path, name: str) -> bytes:
    """The bytes of a file of a folder or .zip.

    Raises:
      PictureError: if it cannot be read.
    """
    try:
        return (root / name).read_bytes() if root.is_dir() else archive(root).read(name)
    except Exception as error:  # zipfile's decoders each raise their own
        raise PictureError(f"is no whole PNG, JPEG or WebP image ({error})") from error


def open_file(root: Path, name: str) -> IO[bytes]:
    """A file of a folder or .zip, to be read in parts."""
    return (root / name).open("rb") if root.is_dir() else archive(root).open(name)


def too_many(root: Path, names: Sequence[str], reading: Reading) -> bool:
    """Whether the pictures, decoded, do not fit into ``IN_MEMORY``, by the first that is whole."""
    for name in names:
        with suppress(PictureError):
            one = decoded(content(root, name), reading)
            return one.nbytes * len(names) > IN_MEMORY
    return False


def undecoded(root: Path, names: Sequence[str], reading: Reading) -> tuple[Pictures, np.ndarray]:
    """The pictures of all files, of which only the headers are read, and bool by file if it is one.

    They have one channel if all are grey, else three.
    """
    headers = [channels_of(root, name, open_file) for name in names]
    good = np.asarray([channels > 0 for channels in headers])
    if not good.any():
        return Pictures(root, np.asarray(names)[good], reading, (0, 0), 1), good
    first = decoded(content(root, names[int(good.argmax())]), reading)
    whole = np.asarray(names)[good]
    height, width = first.shape[:2]
    return Pictures(root, whole, reading, (height, width), max(headers)), good


@dataclass(frozen=True)
class Loading:
    """What a worker does: the augmented images of a batch.

    Attributes:
      augmented: ``(indices, generator) -> uint8 [N, H, W, C]``; can be pickled.
      batches: indices of every batch.
      seed: of the augmentation; with the number of the batch.
    """

    augmented: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    batches: Sequence[np.ndarray]
    seed: int

    def __call__(self, number: int) -> np.ndarray:
        return self.augmented(self.batches[number], np.random.default_rng([self.seed, number]))


def loaded(loading: Loading, first: int, workers: int | None = None) -> Iterator[np.ndarray]:
    """Batches in order, from number ``first`` on, prepared ahead of their use.

    Args:
      loading: what a batch is.
      first: batches before it are not read at all.
      workers: processes; by default one a core where there are ``IN_PROCESSES`` batches or more,
        else none.
    """
    from absl import flags
    from grain import MapDataset, MultiprocessingOptions, ReadOptions

    left = len(loading.batches) - first
    if left <= 0:
        return
    if workers is None:
        workers = min(len(cores()), MOST_WORKERS) if left >= IN_PROCESSES else 0
    batches = MapDataset.range(first, len(loading.batches)).map(loading)
    ahead = batches.to_iter_dataset(ReadOptions(num_threads=THREADS, prefetch_buffer_size=THREADS))
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain reads its own, and no command line has them
        ahead = ahead.mp_prefetch(MultiprocessingOptions(workers), worker_init_fn=_quiet)
    iterator = iter(ahead)
    try:
        yield from iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _quiet(number: int, count: int) -> None:
    """An interrupt is for the process that asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
