"""Judging a network on images: in XLA as it is trained, or sliced in another runtime.

XLA runs the masked network at its full size with the compiled function that fits every
policy. The other runtimes (``pfrl.deploy.runtimes``) run the sliced network, which is smaller.
Which is fastest depends on the machine, so it is measured.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pfrl.data import Dataset, Split
from pfrl.deploy.operators.program import ExportError
from pfrl.deploy.runtimes.base import AT_ONCE, Unavailable
from pfrl.evaluation.base import Choice
from pfrl.evaluation.config import judged_images
from pfrl.files import FileError
from pfrl.tasks import Task
from pfrl.tasks.judging import Images, Judge, answers, validate

log = logging.getLogger(__name__)

SAME_INTEGERS = 0.3
"""Largest mean difference of a file of integers from its simulation, in standard deviations of the
outputs: a sum in the middle of two steps may go to either, and ..."""
SAME_AS_SIMULATED = 5e-3 + 1e-9
"""... largest difference of their quality. Where they differ, the file is what is handed over."""
BATCH = 250
"""Images that are judged together, at most; a multiple of ``AT_ONCE``. Large ones: ``AT_ONCE``."""
LARGE = 128 * 2**10
"""Bytes of an image, as networks read it, above which it is large."""
HELD = 64 * 2**20
"""Bytes of images that are held as what networks read; of more, batches are made as they come."""
MEASURED = 4
"""Batches by which runtimes are timed, ..."""
TURNS, HOPELESS = 3, 2.0
"""... so many times; but one that took so many times as long as the fastest is not timed again."""
SAME_OUTPUT = 0.02
"""Largest difference of two runtimes' outputs, as a share of the largest output, and ..."""
SAME_QUALITY = 1e-3 + 1e-9
"""... of the mean quality of all images: a tenth of a point, and rounding."""


def split_search(search: Split, count: int) -> tuple[Split, Split]:
    """The search images that rewards use, and the held-out ones; at most four fifths are used.

    Both are evenly spaced, so that sorted classes are shared out.

    Args:
      search: the search split.
      count: images that rewards use, if there are enough.
    """
    count = judged_images(len(search), count)
    used = np.zeros(len(search), bool)
    used[np.linspace(0, len(search) - 1, count).round().astype(int)] = True
    return search.take(used), search.take(~used)


def batched(dataset: Dataset, split: Split) -> Images:
    """Normalised images in a fixed random order, so that every batch has a share of every class.

    Batches of one size, as few as hold ``BATCH`` images at most; of these sizes, which runtimes can
    run ``AT_ONCE`` by ``AT_ONCE``, the one that leaves least to be filled up in the last batch.

    Args:
      dataset: says how images are normalised.
      split: of it.
    """
    order = np.random.default_rng(0).permutation(len(split))
    large = math.prod(dataset.image_shape) * np.dtype(np.float32).itemsize > LARGE
    batches = max(-(-len(split) // (AT_ONCE if large else BATCH)), 1)
    size = AT_ONCE * -(-len(split) // (batches * AT_ONCE))
    found = dataset.batches(split.take(order), size)
    few = not found or len(found) * found[0][0].nbytes <= HELD
    return list(found) if few else found


def choose_runtime(
    judges: dict[str, Callable[[], Judge]], images: Images, task: Task, integers: bool = False
) -> Choice:
    """The fastest of several runtimes on the same network that agrees with the first.

    Each is timed several times, in turns, and its shortest time counts: other work on the machine
    makes it longer only.

    Args:
      judges: by name, what makes the judge; that is timed as well, for it is made anew for
        every policy. The first one can judge everything.
      images: of which a few batches are judged, after one with which it is made; the fastest
        judges all of them before it is taken.
      task: tells the quality of an output.
      integers: whether the network is rounded, and the others judge its file of integers.

    Returns:
      the choice; runtimes that are not there, or cannot run the network, have no seconds.
    """
    few, outputs, seconds = images[:MEASURED], {}, {}
    for name, make in judges.items():
        log.info("comparing who judges: %s", name)
        try:
            np.asarray(make()(few[0][0]))
        except (ExportError, FileError, Unavailable):
            continue
        outputs[name] = []
    for turn in range(TURNS):
        for name in outputs:
            if turn and seconds[name] > HOPELESS * min(seconds.values()):
                continue
            log.info("comparing who judges: %s, turn %d of %d", name, turn + 1, TURNS)
            start = time.perf_counter()
            judge = judges[name]()
            np.asarray(judge(few[0][0]))
            made = time.perf_counter()
            found = [answer for answer, _ in answers(judge, few)]
            judged = (time.perf_counter() - made) / len(found)
            # What a judge makes only when it is first asked belongs to its making.
            spent = judged + max(made - start - judged, 0) / len(images)
            outputs[name], seconds[name] = found, min(spent, seconds.get(name, spent))
    first = next(iter(seconds))
    for name in sorted(seconds, key=lambda name: seconds[name]):
        if name == first:
            break
        if not (_similar if integers else _close)(outputs[first], outputs[name]):
            continue
        ours, theirs = (validate(judges[which](), images, task).quality for which in (first, name))
        if abs(theirs - ours) > (SAME_AS_SIMULATED if integers else SAME_QUALITY):
            continue
        agreement = None
        if integers:
            both = (answers(judges[which](), images) for which in (first, name))
            alike = np.concatenate([task.agree(a, b) for (a, _), (b, _) in zip(*both, strict=True)])
            agreement = float(alike.mean())
        return Choice(name, seconds, theirs - ours, agreement)
    return Choice(first, seconds)


def _similar(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> bool:
    """Whether outputs differ by the rounding of sums in the middle of two steps only."""
    simulated, found = np.concatenate(ours), np.concatenate(theirs)
    return bool(np.abs(found - simulated).mean() <= SAME_INTEGERS * simulated.std())


def _close(ours: Iterable[np.ndarray], theirs: Iterable[np.ndarray]) -> bool:
    """Whether both give the same outputs, but for rounding to eight binary digits."""
    return all(
        bool(np.abs(a - b).max() <= SAME_OUTPUT * np.abs(a).max())
        for a, b in zip(ours, theirs, strict=True)
    )
