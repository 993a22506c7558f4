"""Judging a network on images: in XLA as it is trained, or sliced in another runtime.

XLA runs the masked network at its full size with the compiled function that fits every
policy. The other runtimes (``pfrl.deploy.runtimes``) run the sliced network, which is smaller.
Which is fastest depends on the machine, so it is measured.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pfrl.data import Dataset, Split
from pfrl.deploy.onnx.export import ExportError
from pfrl.deploy.runtimes.base import Judge, Unavailable
from pfrl.files import FileError
from pfrl.training.backend import each

BATCH = 250
"""Images that are judged together."""
MEASURED = 4
"""Batches by which backends are timed."""
DOUBT = 1e-3
"""Chance that a validation that could have been the best is stopped early."""

Images = list[tuple[Any, np.ndarray]]
"""Normalised images in batches of one size (the last one padded), and their labels."""
SAME_OUTPUT = 0.02
"""Largest difference of two backends' outputs, as a share of the largest output, and ..."""
SAME_QUALITY = 1e-3 + 1e-9
"""... of the mean quality of all images: a tenth of a point, and rounding."""


class Choice(NamedTuple):
    """Which backend judges, and the measurements that it was chosen by.

    Attributes:
      backend: its name.
      seconds: by backend, of one batch, with its share of what making the judge takes.
      difference: its mean quality less that of XLA, on the same network and all images; None
        if it was not measured.
    """

    backend: str
    seconds: dict[str, float]
    difference: float | None = None


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


def choose_backend(
    judges: dict[str, Callable[[], Judge]], images: Images, dataset: Dataset
) -> Choice:
    """The fastest of several backends on the same network that agrees with the first.

    Args:
      judges: by name, what makes the judge; that is timed as well, for it is made anew for
        every policy. The first one can judge everything.
      images: of which a few batches are judged, after one with which it is made; the fastest
        judges all of them before it is taken.
      dataset: whose task tells the quality of an output.
    """
    outputs, seconds = {}, {}
    for name, make in judges.items():
        try:
            np.asarray(make()(images[0][0]))
            start = time.perf_counter()
            judge = make()
            np.asarray(judge(images[0][0]))
            made = time.perf_counter()
            outputs[name] = [found for found, _ in _answers(judge, images[:MEASURED])]
            judged = (time.perf_counter() - made) / len(outputs[name])
        except (ExportError, FileError, Unavailable):
            continue
        # What a judge makes only when it is first asked belongs to its making.
        seconds[name] = judged + max(made - start - judged, 0) / len(images)
    first = next(iter(seconds))
    for name in sorted(seconds, key=lambda name: seconds[name]):
        if name == first:
            break
        if not _close(outputs[first], outputs[name]):
            continue
        ours, theirs = (
            validate(judges[which](), images, dataset).quality for which in (first, name)
        )
        if abs(theirs - ours) <= SAME_QUALITY:
            return Choice(name, seconds, theirs - ours)
    return Choice(first, seconds)


def _close(ours: Iterable[np.ndarray], theirs: Iterable[np.ndarray]) -> bool:
    """Whether both give the same outputs, but for rounding to eight binary digits."""
    return all(
        bool(np.abs(a - b).max() <= SAME_OUTPUT * np.abs(a).max())
        for a, b in zip(ours, theirs, strict=True)
    )


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
    """How good a network is on images.

    Attributes:
      quality: mean over the images that were judged.
      finite: whether all outputs, and the training, were numbers.
      exact: whether all images were judged.
      each: quality ``[N]`` of every image, in order; empty of networks that are judged in a batch.
    """

    quality: float
    finite: bool
    exact: bool
    each: np.ndarray = np.empty(0)

    @property
    def accuracy(self) -> float:
        """The quality, or 0 of a network that diverged."""
        return self.quality if self.finite else 0.0


def validate(
    judge: Judge, images: Images, dataset: Dataset, hopeless: Hopeless | None = None
) -> Judged:
    """Judge all images, or with ``hopeless`` as many as it takes."""
    total, count, finite, found = 0.0, 0, True, [np.empty(0)]
    for place, (outputs, targets) in enumerate(_answers(judge, images), 1):
        finite = finite and bool(np.isfinite(outputs).all())
        found.append(dataset.task.quality(outputs, targets))
        total += float(found[-1].sum())
        count += len(targets)
        if hopeless is not None and place < len(images) and hopeless(total, count):
            return Judged(total / count, finite, exact=False)
    return Judged(total / max(count, 1), finite, True, np.concatenate(found))


def _answers(judge: Judge, images: Images) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    outputs = each(lambda batch: np.asarray(judge(batch[0])), images)
    for found, (_, targets) in zip(outputs, images, strict=True):
        yield found[: len(targets)], targets
