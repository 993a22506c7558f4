"""Runs shared out among workers: a dead worker's run is taken up by another.

One loop for all places of work. A run that fails does not keep the others from being done; its
error is raised when they are.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, NamedTuple, Protocol, TypeVar

from experiments.watch.runs import RunsTable, Status, listen

Task = TypeVar("Task")
Result = TypeVar("Result")

TRIES = 3
"""Workers that may die over one run: after that it is the run that kills them."""
LOOK_SECONDS = 0.5
"""From one look at how far the runs are to the next."""


class LaunchError(ValueError):
    """Runs that cannot be carried out where they were sent to."""


class Launcher(Protocol):
    """A place of work. It is closed once and not used after that.

    Attributes:
      lost: errors of a future that say that its worker died; all others are the run's own.
      independent: whether a run may go on where an earlier one failed.
    """

    lost: tuple[type[BaseException], ...]
    independent: bool

    def room(self) -> int:
        """Runs that can be worked on now."""
        ...

    def submit(
        self, function: Callable[[Task], Result], task: Task, number: int
    ) -> "Future[Result]":
        """Begin a run; ``number`` is what ``status`` calls it."""
        ...

    def status(self) -> Mapping[int, Status]:
        """Of the runs that are worked on, as far as it is known."""
        ...

    def close(self) -> None:
        """Stop what is still running."""
        ...


class Done(NamedTuple):
    """A run that has ended well."""

    number: int
    result: Any


def carry_out(
    function: Callable[[Task], Result], tasks: Sequence[Task], launcher: Launcher, table: RunsTable
) -> Iterator[Done]:
    """Results of ``function(task)``, each as soon as it is there.

    Tasks are begun in their order. Where some fail the others are done first; then the first
    error is raised.

    Args:
      function: what can be pickled, as its tasks and results, unless this process does it.
      tasks: what there is to do.
      launcher: where; it is closed at the end.
      table: is told what happens.

    Raises:
      LaunchError: if a run ends ``TRIES`` workers.
    """
    waiting, deaths = deque(range(len(tasks))), Counter[int]()
    running: dict[Future[Result], int] = {}
    first: BaseException | None = None
    try:
        while waiting or running:
            while waiting and len(running) < launcher.room():
                number = waiting.popleft()
                table.begun(number)
                listen(lambda *far, at=number: table.look({at: Status("", *far)}))
                running[launcher.submit(function, tasks[number], number)] = number
            ended, _ = wait(running, LOOK_SECONDS, FIRST_COMPLETED)
            table.look(launcher.status())
            for future in sorted(ended, key=lambda each: running[each]):
                number = running.pop(future)
                error = future.exception()
                if error is None:
                    yield Done(number, future.result())
                    table.ended(number)
                    continue
                if isinstance(error, launcher.lost):
                    deaths[number] += 1
                    if deaths[number] < TRIES:
                        table.lost(number)
                        waiting.appendleft(number)
                        continue
                    error = _deadly(table.names[number], error)
                table.failed(number, error)
                if not (launcher.independent and isinstance(error, Exception)):
                    raise error
                first = first or error
    finally:
        launcher.close()
    if first is not None:
        raise first


def _deadly(name: str, error: BaseException) -> LaunchError:
    found = LaunchError(
        f"{TRIES} workers died over the run '{name}': somebody ended them, or there is too little"
        " memory; try fewer --workers"
    )
    found.__cause__ = error
    return found
