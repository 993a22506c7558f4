"""Many runs at once on standard error: a live table, or a line for each where no terminal is.

Workers tell how far their run is with ``tell_share``; a launcher passes it on.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TextIO

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.records.wording import duration
from experiments.watch.plan import current
from experiments.watch.progress import PLAIN_SHARE, terminal

WORTH_A_LINE = 5.0
"""Seconds of a run whose end is a line of its own where no terminal is."""
AROUND = 6
"""Lines of a terminal that the table leaves to others."""


SILENCE = 60.0
"""Seconds without a line after which, where no terminal is, it is said how far the runs are."""
PARTS = ("", "fine-tuning ")
"""Of a run, one after the other, as they are shown: what it counts by itself, and what follows."""


class Status(NamedTuple):
    """How far a run is.

    Attributes:
      where: it is worked on, such as 'core 1'.
      done, total: of what its part counts, such as episodes or steps; 0 of 0 if nothing is known.
      part: place in ``PARTS``.
    """

    where: str
    done: int = 0
    total: int = 0
    part: int = 0


Listener = Callable[[int, int, int], object]
_listener: list[Listener] = []


def listen(listener: Listener) -> None:
    """Let ``tell_share`` of this process call ``listener(done, total, part)`` from now on."""
    _listener[:] = [listener]


def tell_share(done: int, total: int, part: int = 0) -> None:
    """Tell whoever watches this process's run how far a part of it is; see ``Status``."""
    for listener in _listener:
        listener(done, total, part)


def tell_tuning(done: int, total: int) -> None:
    """``tell_share`` of the fine-tuning that follows a search, in steps."""
    tell_share(done, total, PARTS.index("fine-tuning "))


@dataclass
class _Run:
    """One row. ``share`` is that of its part, which began at ``turned``; ``seconds`` are those that
    the run took, or None until it has ended."""

    name: str
    state: str = "waiting"
    where: str = ""
    since: float = 0.0
    part: int = 0
    turned: float = 0.0
    share: float = 0.0
    counted: str = ""
    seconds: float | None = None

    @property
    def over(self) -> bool:
        return self.seconds is not None

    def whole(self, now: float) -> float | None:
        """Seconds to the end of its part, from its beginning on, if it goes on as until now."""
        if self.state != "running" or self.share <= 0:
            return None
        return self.turned - self.since + (now - self.turned) / self.share


class RunsTable:
    """A context in which runs are shown as they begin, go on and end.

    Args:
      names: of the runs.
      noun: what they are called.
      room: how many are worked on at once.
      expected: seconds of each run, as far as they are known beforehand.
      stream: where to write; standard error if None.
      clock: seconds.
    """

    def __init__(
        self,
        names: Sequence[str],
        noun: str,
        room: Callable[[], int] = lambda: 1,
        expected: Sequence[float | None] | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.names = names
        self._noun, self._room, self._clock = noun, room, clock
        self._expected = expected or [None] * len(names)
        self._runs = [_Run(name) for name in names]
        self._stream, self._start, self._said = stream or sys.stderr, clock(), 0.0
        self._heard = self._start
        self._console = console = terminal(self._stream)
        self._live = console and Live(
            console=console, get_renderable=self._drawn, refresh_per_second=2
        )

    def __enter__(self) -> "RunsTable":
        self._start = self._clock()
        if self._live and self._runs:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live and self._runs:
            self._live.stop()

    def begun(self, number: int) -> None:
        run = self._runs[number]
        run.state, run.since, run.share, run.counted = "running", self._clock(), 0.0, ""
        run.part, run.turned = 0, run.since

    def look(self, found: Mapping[int, Status]) -> None:
        """What the launcher knows of runs that are worked on."""
        now = self._clock()
        for number, (where, done, total, part) in found.items():
            run = self._runs[number]
            if run.state == "running":
                if part != run.part:
                    run.part, run.turned = part, now
                run.where = where
                run.share = done / total if total else 0.0
                run.counted = f"{PARTS[part]}{done:,}/{total:,}" if total else ""
        going = [run for run in self._runs if run.state == "running"]
        if going and now - self._heard >= SILENCE:
            self._line("; ".join(f"{run.name} {run.counted}".rstrip() for run in going))

    def ended(self, number: int) -> None:
        run = self._over(number, "done")
        share = sum(each.over for each in self._runs) / len(self._runs)
        if (
            share < 1
            and (run.seconds or 0.0) < WORTH_A_LINE
            and share < self._said + PLAIN_SHARE - 1e-9
        ):
            return
        self._said = share
        place = f", {run.where}" if run.where else ""
        self._line(f"{run.name} done in {duration(run.seconds)}{place}")

    def lost(self, number: int) -> None:
        """The worker of a run died; another one takes it up."""
        run = self._runs[number]
        run.state = "waiting again"
        place = f" ({run.where})" if run.where else ""
        self._line(f"{run.name} lost its worker{place}, another one takes it up")

    def failed(self, number: int, error: BaseException) -> None:
        run = self._over(number, "failed")
        self._line(f"{run.name} failed: {error}")

    def left(self) -> float | None:
        """Seconds until all are done, by what is known of runs so far; None if that is nothing, as
        where all that are left take longer than was thought."""
        now = self._clock()
        known = [run.seconds for run in self._runs if run.state == "done" and run.seconds]
        known += [whole for run in self._runs if (whole := run.whole(now)) is not None]
        usual = sum(known) / len(known) if known else None
        rests = []
        for run, expected in zip(self._runs, self._expected, strict=True):
            if run.over:
                continue
            passed = now - run.since if run.state == "running" else 0.0
            whole = run.whole(now) or expected or usual
            if whole is None:
                return None
            rests.append(max(whole - passed, 0.0))
        return max([sum(rests) / max(self._room(), 1), *rests]) or None

    def _over(self, number: int, state: str) -> _Run:
        run = self._runs[number]
        run.state, run.seconds = state, self._clock() - run.since
        return run

    def _summary(self) -> str:
        over, now = sum(run.over for run in self._runs), self._clock()
        head = f"{self._noun}: {over}/{len(self._runs)}"
        left, plan = self.left(), current()
        if over == len(self._runs):
            return f"{head}, in {duration(now - self._start)}"
        if left is None:
            return head
        share = over / len(self._runs)
        whole = plan.words(self._noun, share, now - self._start, left) if plan else ""
        return f"{head}, {duration(left)} left{whole}"

    def _line(self, text: str) -> None:
        self._heard = self._clock()
        if not self._live:
            print(f"{self._summary()}; {text}", file=self._stream, flush=True)

    def _drawn(self) -> RenderableType:
        """The runs that are worked on, those that failed, the last that ended, the next."""
        assert self._console
        rows = max(self._console.height - AROUND, 4)
        order = {"running": 0, "failed": 1, "done": 2, "waiting again": 3, "waiting": 3}
        now, table = self._clock(), Table(box=None, pad_edge=False, header_style="dim")
        for head in (self._noun, "state", "so far", "time", "where"):
            table.add_column(head, no_wrap=True)
        ended = [run for run in self._runs if run.state == "done"][-max(rows // 3, 1) :]
        shown = [run for run in self._runs if run.state != "done"] + ended
        shown = sorted(shown, key=lambda run: order[run.state])[:rows]
        for run in shown:
            passed = run.seconds if run.over else now - run.since if run.state == "running" else 0
            time = duration(passed) if passed else ""
            table.add_row(Text(run.name), run.state, run.counted, time, Text(run.where))
        return Group(table, Text(self._summary(), style="bold"))
