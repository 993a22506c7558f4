"""A search in TensorBoard: its scalars and the agent's, settings, metrics and pictures, as one run.

The step is always the episode's index. A run's name is its folder as seen from TensorBoard's
``--logdir``, such as ``ddpg/seed-0``.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from experiments.records.history import Line, is_sound
from experiments.records.wording import is_number, percent
from experiments.report.pictures import to_pixels, tradeoff_figure
from experiments.report.policy_picture import policy_figure
from experiments.watch.dashboard import LAYOUT, METRICS, settings_text
from pfrl.files import FileError

PICTURE_SECONDS = 10.0
"""A best policy that was just drawn is not redrawn sooner, unless a picture is due by number."""
SCATTER_SECONDS = 30.0
"""From one picture of all networks to the next, at least; the last one comes at the end."""
RECENT = 10
"""Episodes that the throughput is taken over."""


class About(NamedTuple):
    """What a search is, for those who watch it."""

    settings: Mapping[str, str | float] = {}
    """What tells it from others, such as agent, budget and seed: the hyper-parameters."""
    metric: str = "macs"
    """The budget's, and the horizontal axis of the picture of all networks."""
    limit: float | None = None
    base: float | None = None
    """What the base network costs in the metric."""


class Board:
    """Writes one step an episode; the step is the episode's index.

    An episode is on disk when ``episode`` returns, so a kill loses none. Where
    a search goes on after a kill, what stands in the folder from
    ``first_episode`` on is purged, and earlier episodes are not written again.
    It is one of ``agents.base.Scalars``: an agent's losses go to the same run.

    Args:
      directory: a folder of its own. TensorBoard follows one file of a folder
        at a time, so no other writer may use it.
      first_episode: number of episodes that were recorded before.
      picture_every: the policy's picture comes with every so many episodes,
        and with a new best policy.
      clock: seconds, for the distance of pictures and for the throughput.
      about: what is watched.

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
        about: About | None = None,
    ):
        self._directory = directory
        self._first = first_episode
        self._every = picture_every
        self._clock = clock
        self._about = about or About()
        self._lines: list[Line] = []
        self._last: tuple[Line, int] | None = None
        self._drawn: int | None = None
        self._drawn_at = self._scattered_at = -np.inf
        self._pixels = np.zeros((1, 1, 3), np.uint8)
        self._times: deque[float] = deque(maxlen=RECENT + 1)
        self.seconds = 0.0
        """That writing and drawing took so far."""
        with self._writing():
            # Without a purge the first start would be a plain one; with 0 it means the same.
            self._writer = SummaryWriter(str(directory), purge_step=first_episode)
            self._introduce()

    def _introduce(self) -> None:
        """What stands at the beginning of a run: settings, metrics, and the page to look at."""
        about = self._about
        start = hparams({**about.settings}, dict.fromkeys(METRICS, 0.0))[:2]
        for summary in start if about.settings else ():
            self._writer._get_file_writer().add_summary(summary)
        self._writer.add_text("settings", settings_text(about.settings), self._first)
        self._writer.add_custom_scalars(LAYOUT)
        self._times.append(self._clock())
        self._writer.flush()

    def episode(self, line: Line, best: Line) -> None:
        """Write an episode and, now and then, the picture of the best one so far.

        Args:
          line: the episode, as in ``history.jsonl``.
          best: the episode with the highest reward up to now, likewise.
        """
        step = line["episode"]
        self._lines.append(line)
        if step < self._first:
            self._times[-1] = self._clock()  # a replay takes no time
            return
        with self._writing():
            for tag, value in {**_scalars(line, best, self._about), **self._throughput()}.items():
                self._writer.add_scalar(f"pfrl/{tag}", value, step)
            self._last = best, step
            rested = self._clock() - self._drawn_at >= PICTURE_SECONDS
            if step % self._every == 0 or (self._is_new(best) and rested):
                self._picture(best, step)
            if self._clock() - self._scattered_at >= SCATTER_SECONDS:
                self._scatter(step)
            self._writer.flush()

    def add_scalar(self, tag: str, value: float, step: int, /) -> None:
        """A value of the agent's own, at an episode's index."""
        if step >= self._first:
            with self._writing():
                self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Draw the last best policy and all networks, if need be, and close the file."""
        with self._writing():
            if self._last is not None:
                if self._is_new(self._last[0]):
                    self._picture(*self._last)
                self._scatter(self._last[1])
            if self._about.settings:
                self._writer._get_file_writer().add_summary(hparams({}, {})[2])
            self._writer.close()

    def _throughput(self) -> dict[str, float]:
        self._times.append(self._clock())
        taken = self._times[-1] - self._times[0]
        return {"evaluations_per_minute": 60 * (len(self._times) - 1) / taken} if taken else {}

    def _is_new(self, best: Line) -> bool:
        return best["episode"] != self._drawn

    def _picture(self, best: Line, step: int) -> None:
        if self._is_new(best):
            self._drawn, self._drawn_at = best["episode"], self._clock()
            title = f"Best policy so far: episode {best['episode']}, {percent(best['accuracy'], 1)}"
            self._pixels = to_pixels(policy_figure(best["policy"], title))
        self._writer.add_image("pfrl/policy", self._pixels, step, dataformats="HWC")

    def _scatter(self, step: int) -> None:
        about = self._about
        lines = [line for line in self._lines if about.metric in line["costs"]]
        self._scattered_at = self._clock()
        if any(map(is_sound, lines)):
            figure = tradeoff_figure(lines, about.metric, about.limit, about.base)
            add_figure(self._writer, "pfrl/all_networks", figure, step)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            with writing_log(self._directory):
                yield
        finally:
            self.seconds += time.perf_counter() - start


@contextmanager
def writing_log(directory: Path) -> Iterator[None]:
    """Within, a log that cannot be written is told of in a sentence, as ``FileError``."""
    try:
        yield
    except OSError as error:
        raise FileError(
            f"cannot write the TensorBoard log in {directory}: {error.strerror or error}; free"
            " some space or choose another place"
        ) from error


def add_figure(writer: SummaryWriter, tag: str, figure: Figure, step: int) -> None:
    """A figure as a picture at a step."""
    writer.add_image(tag, to_pixels(figure), step, dataformats="HWC")


def _scalars(line: Line, best: Line, about: About) -> Mapping[str, float]:
    """Values by tag, without ``pfrl/``; what a diverged episode has no number for is left out."""
    spent = line["costs"].get(about.metric)
    values: dict[str, Any] = {
        "accuracy": line["accuracy"],
        "reward": line["reward"],
        "best_accuracy": best["accuracy"],
        "best_reward": best["reward"],
        "budget_spent": spent / about.limit if about.limit and is_number(spent) else None,
        "seconds": line["seconds"],
        "diverged": float(line["diverged"]),
        **{f"cost_{metric}": value for metric, value in line["costs"].items()},
    }
    return {tag: float(value) for tag, value in values.items() if is_number(value)}
