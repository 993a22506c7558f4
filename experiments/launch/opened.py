"""The place of work that a user's options stand for."""

from dataclasses import replace

from experiments.launch.processes import HereOneByOne, Processes
from experiments.launch.running import Launcher
from experiments.settings.launching import LaunchBlock
from pfrl.cpu import cores


def opened(block: LaunchBlock, runs: int) -> Launcher:
    """Where so many runs are carried out; to be closed. One worker on this machine is this process.

    Raises:
      LaunchError: if there is no such Ray cluster.
    """
    if block.ray is not None:
        return at_work(block)
    workers = min(block.workers or len(cores()), max(runs, 1))
    return HereOneByOne() if workers == 1 else at_work(replace(block, workers=workers))


def at_work(block: LaunchBlock) -> Launcher:
    """The same with workers that are never this process."""
    if block.ray is None:
        return Processes(block.workers)
    from experiments.launch.cluster import OnRay

    return OnRay(block.ray, block.workers)
