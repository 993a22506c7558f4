"""Judging a network on images: in XLA as it is trained, or sliced in ONNX Runtime.

XLA runs the masked network at its full size with the compiled function that fits every
policy. ONNX Runtime runs the sliced network, which is smaller; a new graph is ready in some
ten milliseconds, for any shapes, and nothing compiles. Which is faster depends on the
machine, so it is measured.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pfrl.cpu import cores
from pfrl.data import Dataset, Split
from pfrl.deploy.onnx import ExportError, to_onnx
from pfrl.deploy.runtime import Session
from pfrl.files import FileError

AT_ONCE = 50
"""Images in one run of ONNX Runtime: with more, what lies between layers leaves the caches."""
BATCH = 250
"""Images that are judged together."""
DOUBT = 1e-3
"""Chance that a validation that could have been the best is stopped early."""

Images = list[tuple[Any, np.ndarray]]
"""Normalised images in batches of one size (the last one padded), and their labels."""
Judge = Callable[[Any], np.ndarray]
"""``(images [BATCH, ...]) -> outputs`` of one policy's network."""


class Choice(NamedTuple):
    """Which backend judges, and the seconds per batch that it was chosen by."""

    backend: str
    seconds: dict[str, float]


def split_search(search: Split, count: int) -> tuple[Split, Split]:
    """The search images that rewards use, and the others; at most four fifths are used.

    Both are evenly spaced, so that sorted classes are shared out.
    """
    count = min(count, len(search) * 4 // 5)
    used = np.zeros(len(search), bool)
    used[np.linspace(0, len(search) - 1, count).round().astype(int)] = True
    return search.take(used), search.take(~used)


def batched(dataset: Dataset, split: Split) -> Images:
    """In a fixed random order, so that every batch has a share of every class."""
    split = split.take(np.random.default_rng(0).permutation(len(split)))
    batches = []
    for start in range(0, len(split), BATCH):
        part = split.take(slice(start, start + BATCH))
        missing = BATCH - len(part)
        images = np.pad(dataset.normalize(part.images), ((0, missing), (0, 0), (0, 0), (0, 0)))
        batches.append((images, part.labels))
    return batches


def onnx_judge(function: Callable[[Any], Any], input_shape: tuple[int, ...]) -> Judge:
    """Of a network as a JAX function with its parameters closed over, in ONNX Runtime.

    Raises:
      ExportError: if it has an operation that has no counterpart there.
    """
    session = Session(to_onnx(function, input_shape).SerializeToString(), threads=len(cores()))
    return lambda images: session.logits(images, AT_ONCE)


def choose_backend(judges: dict[str, Callable[[], Judge]], images: Images) -> Choice:
    """The faster of two backends on the same network, or the first if the second will not do.

    Args:
      judges: by name, what makes the judge; that is timed as well, for it is made anew for
        every policy. The first one can judge everything.
      images: of which two batches are judged, after one that is not timed.
    """
    outputs, seconds = {}, {}
    for name, make in judges.items():
        try:
            np.asarray(make()(images[0][0]))
            start = time.perf_counter()
            judge = make()
            made = time.perf_counter()
            outputs[name] = [np.asarray(judge(x)) for x, _ in images[:2]]
            judged = (time.perf_counter() - made) / len(outputs[name])
        except (ExportError, FileError):
            continue
        seconds[name] = judged + (made - start) / len(images)
    first, *others = seconds
    fastest = min(seconds, key=lambda name: seconds[name])
    if others and not _agree(outputs[first], outputs[fastest]):
        fastest = first
    return Choice(fastest, seconds)


def _agree(ours: Iterable[np.ndarray], theirs: Iterable[np.ndarray]) -> bool:
    """Whether both give the same answers, but for outputs that are all but equal."""
    pairs = list(zip(ours, theirs, strict=True))
    return all(np.allclose(a, b, rtol=1e-2, atol=1e-2) for a, b in pairs)


@dataclass
class Hopeless:
    """A validation that cannot become the best any more, but for a chance of ``DOUBT``.

    Hoeffding's bound (1963), which holds without replacement too: after ``n`` images of mean
    quality ``q`` in [0, 1], the mean of all is below ``q + sqrt(ln(1 / DOUBT) / 2n)``.

    Attributes:
      best: the highest mean quality of a whole validation so far; whoever validates tells.
    """

    best: float = field(default=-math.inf)

    def __call__(self, total: float, count: int) -> bool:
        """Whether to stop after ``count`` images whose qualities add up to ``total``."""
        return total / count + math.sqrt(math.log(1 / DOUBT) / (2 * count)) < self.best


class Judged(NamedTuple):
    """Mean quality of the images that were judged, whether all outputs were numbers, and all
    images judged."""

    quality: float
    finite: bool
    exact: bool


def validate(
    judge: Judge, images: Images, dataset: Dataset, hopeless: Hopeless | None = None
) -> Judged:
    """Judge all images, or with ``hopeless`` as many as it takes."""
    total, count, finite = 0.0, 0, True
    for place, (outputs, targets) in enumerate(_answers(judge, images), 1):
        finite = finite and bool(np.isfinite(outputs).all())
        total += float(dataset.task.quality(outputs, targets).sum())
        count += len(targets)
        if hopeless is not None and place < len(images) and hopeless(total, count):
            return Judged(total / count, finite, exact=False)
    return Judged(total / max(count, 1), finite, exact=True)


def _answers(judge: Judge, images: Images) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for x, targets in images:
        yield np.asarray(judge(x))[: len(targets)], targets
