"""Progress on standard error: a bar with the time left, or plain lines where there is no terminal.

Standard output is left to the results, so that it can be piped.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from experiments.records.history import Line, is_sound
from experiments.records.wording import cost, described, duration, number, percent
from experiments.watch.plan import current


def say(text: str, stream: TextIO | None = None) -> None:
    """Say what is going on where no stage is shown."""
    print(f"{text} ...", file=stream or sys.stderr, flush=True)


def tell(*lines: str) -> None:
    """Say what was found, a line each."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def terminal(stream: TextIO) -> Console | None:
    """The terminal behind a stream, on which lines can be redrawn, if there is one."""
    console = Console(file=stream)
    # The stream decides, not rich: a forced colour must not put control codes into a log.
    return console if stream.isatty() and not console.is_dumb_terminal else None


PLAIN_SHARE = 0.1
"""Without a terminal, a line is written about every so large a share of the work."""
PATIENCE = {True: 1.0, False: 10.0}
"""Seconds without a word, on a terminal or not, after which the library's log is shown."""


class Update(Protocol):
    """``update(done, total, loss)``; ``pfrl.training.fit`` takes it as its ``progress``."""

    def __call__(self, done: int, total: int, loss: float | None = None) -> None: ...


class SearchProgress:
    """A context in which the episodes of a search are shown as they end.

    Args:
      episodes: of the whole search.
      metric: of the budget.
      limit: of the budget, in the metric's own unit; None if there is none.
      first_episode: number of episodes that were recorded before; they count
        as done and their replay is not shown.
      stream: where to write; standard error if None.
      clock: seconds.
    """

    def __init__(
        self,
        episodes: int,
        metric: str,
        limit: float | None = None,
        first_episode: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._episodes, self._metric, self._limit = episodes, metric, limit
        self._first = first_episode
        self._display = _Display("search", "episodes", stream or sys.stderr, clock)

    def __enter__(self) -> "SearchProgress":
        self._display.start(self._first, self._episodes)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.stop()

    def episode(self, line: Line, best: Line) -> None:
        """Show an episode and the best one so far, both as in ``history.jsonl``."""
        if line["episode"] < self._first:
            return
        spent = cost(self._metric, line["costs"].get(self._metric))
        if self._limit is not None:
            noun = described(self._metric).noun
            spent += f" of at most {cost(self._metric, self._limit)} {noun}".rstrip()
        text = f"last {_score(line)}, {spent}; best {_score(best)} (episode {best['episode']})"
        self._display.show(line["episode"] + 1, self._episodes, text)


@contextmanager
def stage(
    name: str,
    total: int | None = None,
    noun: str = "steps",
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Update]:
    """A context that shows a stretch of work, such as a training; do not nest them.

    What the library logs meanwhile is shown where nothing else is, a line now and then.

    Args:
      name: what is going on.
      total: of ``noun``, if it is known before the first update.
      noun: what is counted.
      stream: where to write; standard error if None.
      clock: seconds.

    Yields:
      The function to be told ``(done, total, loss)``.
    """
    display = _Display(name, noun, stream or sys.stderr, clock)

    def update(done: int, total: int, loss: float | None = None) -> None:
        display.show(done, total, "" if loss is None else f"loss {number(loss)}")

    display.start(0, total)
    log, words = logging.getLogger("pfrl"), _Words(display)
    level = log.level
    log.addHandler(words)
    log.setLevel(logging.INFO)
    try:
        yield update
    finally:
        log.setLevel(level)
        log.removeHandler(words)
        display.stop()


def _score(line: Line) -> str:
    if not is_sound(line):
        return "diverged"
    accuracy, reward = percent(line["accuracy"], 1), number(line["reward"])
    same = abs(line["reward"] - line["accuracy"]) < 1e-6
    return accuracy if same else f"{accuracy} (reward {reward})"


class _Bar(Progress):
    """A bar with a line of text below it, so that neither is cut off in a narrow terminal."""

    text = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.text:
            yield Text(f"  {self.text}", style="dim")


class _Display:
    """A bar that is redrawn on a terminal, and now and then a line anywhere else."""

    def __init__(self, name: str, noun: str, stream: TextIO, clock: Callable[[], float]):
        self._name, self._noun, self._stream, self._clock = name, noun, stream, clock
        self._said = 0.0
        self._first_report: tuple[int, float] | None = None
        console = terminal(stream)
        self._bar: _Bar | None = None
        if console:
            self._bar = _Bar(
                TextColumn("{task.description}", style="bold", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[phrase]}", markup=False),
                console=console,
                refresh_per_second=4,
            )

    def start(self, done: int, total: int | None) -> None:
        self._spoken = self._clock()
        self._start = done, self._spoken
        self._said = done / total if total else 0.0
        if self._bar:
            self._task = self._bar.add_task(self._name, total=total, completed=done, phrase="")
            self._bar.start()
        elif total is None:  # with a total, the first line that counts comes soon
            say(self._name, self._stream)

    def show(self, done: int, total: int, text: str) -> None:
        self._spoken = now = self._clock()
        phrase = self._time(done, total, now)
        if self._bar:
            self._bar.text = text
            self._bar.update(self._task, completed=done, total=total, phrase=phrase)
        elif done >= total or done / total >= self._said + PLAIN_SHARE - 1e-9:
            self._said = done / total
            line = f"{self._name}: {done}/{total} {self._noun}, {phrase}"
            print(f"{line}; {text}" if text else line, file=self._stream, flush=True)

    def waits(self) -> bool:
        """Whether nothing was shown for so long that a reader wonders."""
        return self._clock() - self._spoken >= PATIENCE[self._bar is not None]

    def add(self, text: str) -> None:
        """Show what is going on within the work."""
        self._spoken = self._clock()
        if self._bar:
            self._bar.text = text
        else:
            print(f"{self._name}: {text}", file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Show what a reader should know, for good."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)

    def stop(self) -> None:
        if self._bar:
            self._bar.stop()

    def _time(self, done: int, total: int, now: float) -> str:
        """Time left at the pace since the first report: what comes before that compiles, too."""
        if done >= total:
            return f"in {duration(now - self._start[1])}"
        since, then = self._first_report or self._start
        if self._first_report is None:
            self._first_report = done, now
        pace = (now - then) / max(done - since, 1)
        left, plan = (total - done) * pace, current()
        share = (done - since) / total
        whole = plan.words(self._name, share, now - then, left) if plan else ""
        return f"{duration(left)} left{whole}"


class _Words(logging.Handler):
    """What the library logs, as far as a display waits for a word; all that is more than news."""

    def __init__(self, display: _Display):
        super().__init__(logging.INFO)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno > logging.INFO:
            self._display.note(record.getMessage())
        elif self._display.waits():
            self._display.add(record.getMessage())
