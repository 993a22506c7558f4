"""A search in TensorBoard: our scalars and the best policy as a picture, all under ``pfrl/``."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from experiments.records.history import Line
from experiments.records.wording import is_number, percent
from experiments.report.pictures import to_pixels
from experiments.report.policy_picture import policy_figure
from pfrl.files import FileError

PICTURE_SECONDS = 10.0
"""A best policy that was just drawn is not redrawn sooner, unless a picture is due by number."""


class Board:
    """Writes one step an episode; the step is the episode's index.

    An episode is on disk when ``episode`` returns, so a kill loses none. Where
    a search goes on after a kill, what stands in the folder from
    ``first_episode`` on is purged, and earlier episodes are not written again.

    Args:
      directory: a folder of its own. TensorBoard follows one file of a folder
        at a time, so no other writer (an agent's, say) may use it.
      first_episode: number of episodes that were recorded before.
      picture_every: the policy's picture comes with every so many episodes,
        and with a new best policy.
      clock: seconds, for the distance of pictures.

    Raises:
      FileError: here and in every call, if the disk is full or the folder
        cannot be written to.
    """

    def __init__(
        self,
        directory: Path,
        first_episode: int = 0,
        picture_every: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._directory = directory
        self._first = first_episode
        self._every = picture_every
        self._clock = clock
        self._last: tuple[Line, int] | None = None
        self._drawn: int | None = None
        self._drawn_at = -np.inf
        self._pixels = np.zeros((1, 1, 3), np.uint8)
        with self._writing():
            # Without a purge the first start would be a plain one; with 0 it means the same.
            self._writer = SummaryWriter(str(directory), purge_step=first_episode)

    def episode(self, line: Line, best: Line) -> None:
        """Write an episode and, now and then, the picture of the best one so far.

        Args:
          line: the episode, as in ``history.jsonl``.
          best: the episode with the highest reward up to now, likewise.
        """
        step = line["episode"]
        if step < self._first:
            return
        with self._writing():
            for tag, value in _scalars(line, best).items():
                self._writer.add_scalar(f"pfrl/{tag}", value, step)
            self._last = best, step
            rested = self._clock() - self._drawn_at >= PICTURE_SECONDS
            if step % self._every == 0 or (self._is_new(best) and rested):
                self._picture(best, step)
            self._writer.flush()

    def close(self) -> None:
        """Draw the last best policy, if it was not drawn yet, and close the file."""
        with self._writing():
            if self._last is not None and self._is_new(self._last[0]):
                self._picture(*self._last)
            self._writer.close()

    def _is_new(self, best: Line) -> bool:
        return best["episode"] != self._drawn

    def _picture(self, best: Line, step: int) -> None:
        if self._is_new(best):
            self._drawn, self._drawn_at = best["episode"], self._clock()
            title = f"Best policy so far: episode {best['episode']}, {percent(best['accuracy'], 1)}"
            self._pixels = to_pixels(policy_figure(best["policy"], title))
        self._writer.add_image("pfrl/policy", self._pixels, step, dataformats="HWC")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileError(
                f"cannot write the TensorBoard log in {self._directory}:"
                f" {error.strerror or error}; free some space or choose another place"
            ) from error


def _scalars(line: Line, best: Line) -> Mapping[str, float]:
    """Values by tag, without ``pfrl/``; what a diverged episode has no number for is left out."""
    values: dict[str, Any] = {
        "accuracy": line["accuracy"],
        "reward": line["reward"],
        "best_accuracy": best["accuracy"],
        "best_reward": best["reward"],
        "seconds": line["seconds"],
        "diverged": float(line["diverged"]),
        **{f"cost_{metric}": value for metric, value in line["costs"].items()},
    }
    return {tag: float(value) for tag, value in values.items() if is_number(value)}
