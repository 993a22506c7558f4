"""Runs on a Ray cluster (https://docs.ray.io), a task of one core each.

A task whose worker or machine died is sent out again. The cluster shares the folder in which the
command is given, for there the records of the runs are.
"""

import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from experiments.launch.address import START_ONE, check_answers
from experiments.launch.running import Launcher, LaunchError, Result, Task
from experiments.settings.compilation_cache import use_compilation_cache
from experiments.watch.runs import Status, listen
from pfrl.cpu import become_worker
from pfrl.registry import plugins

PASSED_ON = ("JAX_", "XLA_", "PFRL_", "OMP_")
"""How variables of the environment begin that workers get too, ..."""
OF_ONE_MACHINE = "JAX_COMPILATION_CACHE_DIR"
"""... but for this one: each kind of processor has compiled programs of its own."""


class OnRay(Launcher):
    """Tasks of a Ray cluster.

    Args:
      address: of it; 'auto' is the one that this machine belongs to.
      workers: tasks at once; 0 is one a core of the cluster. With more than there are cores some
        wait, which a cluster that grows takes as a wish.

    Raises:
      LaunchError: if Ray is not installed, or there is no such cluster.
    """

    independent = True

    def __init__(self, address: str = "auto", workers: int = 0):
        ray = _ray()
        self._ray, self._workers = ray, workers
        self._owned = not ray.is_initialized()
        if self._owned:
            check_answers(address)
            passed = {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
            passed.pop(OF_ONE_MACHINE, None)
            try:
                ray.init(
                    address=address,
                    runtime_env={"env_vars": passed},
                    log_to_driver=False,
                    logging_level="ERROR",
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise LaunchError(
                    f"no Ray cluster answers at '{address}' ({str(error).splitlines()[0]});"
                    f" {START_ONE}"
                ) from error
        errors = ray.exceptions
        self.lost = (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
            errors.LocalRayletDiedError,
        )
        # Here, so that it lives as long as this process does.
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        self._board = (
            ray.remote(_Board)
            .options(num_cpus=0, max_restarts=-1, scheduling_strategy=here)
            .remote()
        )
        self._task = ray.remote(num_cpus=1, max_retries=0)(_work)
        self._kept = OF_ONE_MACHINE in os.environ
        self._running: dict[int, Any] = {}

    def room(self) -> int:
        return self._workers or max(int(self._ray.cluster_resources().get("CPU", 1)), 1)

    def submit(
        self, function: Callable[[Task], Result], task: Task, number: int
    ) -> "Future[Result]":
        place = os.getcwd(), plugins(), self._kept
        ref = self._task.remote(function, task, number, self._board, place)
        self._running[number] = ref
        ended: Future[Result] = Future()
        ref.future().add_done_callback(lambda found: self._pass_on(found, number, ended))
        return ended

    def _pass_on(self, found: "Future[Any]", number: int, ended: "Future[Any]") -> None:
        self._running.pop(number, None)
        error: Any = found.exception()
        if error is None:
            ended.set_result(found.result())
        else:
            # What a run raises is wrapped in a class of Ray's.
            cause = error.cause if isinstance(error, self._ray.exceptions.RayTaskError) else error
            ended.set_exception(cause)

    def status(self) -> Mapping[int, Status]:
        try:
            known = self._ray.get(self._board.read.remote(), timeout=5)
        except self._ray.exceptions.RayError:
            return {}  # the board starts again; nothing depends on it
        return {number: status for number, status in known.items() if number in self._running}

    def close(self) -> None:
        for ref in list(self._running.values()):
            self._ray.cancel(ref, force=True)
        self._ray.kill(self._board)
        if self._owned:
            self._ray.shutdown()


class _Board:
    """What the workers say of their runs, by number."""

    def __init__(self) -> None:
        self._known: dict[int, Status] = {}

    def tell(self, number: int, status: Status) -> None:
        self._known[number] = status

    def read(self) -> dict[int, Status]:
        return self._known


_places: list[str] = []
"""Of this worker: where it works, once it has begun."""


def _work(
    function: Callable[[Any], Any],
    task: Any,
    number: int,
    board: Any,
    place: tuple[str, tuple[Path, ...], bool],
) -> Any:
    """A run, in a worker of the cluster. Ray gives a worker several, one after the other."""
    folder, known, kept = place
    if not _places:
        node = _ray().util.get_node_ip_address()
        if not os.path.isdir(folder):
            raise LaunchError(
                f"there is no folder {folder} on {node}; a cluster shares the one in which the"
                " command is given"
            )
        os.chdir(folder)
        if kept:
            use_compilation_cache()
        _places.append(f"{node}, core {become_worker(known)}")

    def tell(done: int, total: int, part: int) -> None:
        board.tell.remote(number, Status(_places[0], done, total, part))

    tell(0, 0, 0)
    listen(tell)
    return function(task)


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.util.scheduling_strategies  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise LaunchError(
            f"Ray is not installed for {sys.executable}; pip install 'pocketflow-rl[ray]'"
        ) from error
    return ray
