"""Training throughput of networks on the whole machine, step by step, and PyTorch's beside it.

Every contestant is a set of processes that are started once, compile, and then
train in turns, so that what disturbs the machine disturbs all alike: in every
round each runs for about a second while the others wait. Images are noise.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
import tyro

from experiments.records.machine import machine
from experiments.records.wording import aligned, number
from pfrl.cpu import keep_memory, take_core
from pfrl.cpu.backend import PARTS
from pfrl.cpu.processor import multiplies_bfloat16
from pfrl.deploy.timing import median_interval

IMAGE, CLASSES = (32, 32, 3), 10
LEARNING_RATE, WEIGHT_DECAY = 0.02, 5e-4
TURN_SECONDS = 1.0
"""How long a contestant trains within a round, about."""
PYTORCH = "PyTorch"
"""Of float32, which shares are of."""


@dataclass(frozen=True)
class ThroughputSettings:
    """Measure the training throughput of networks on all cores, and PyTorch's in the same run."""

    networks: tuple[str, ...] = ("resnet20", "mobilenet_v2", "resnet18", "vgg16_bn", "densenet40")
    """Names in the zoo, of those that benchmarks/pytorch/small.py has too."""
    batches: tuple[int, ...] = (64,)
    """Images a step."""
    rounds: int = 12
    """Turns of every contestant."""
    steps: bool = False
    """Each measure that makes it faster in turn, instead of all of them together only."""
    seed: int = 0
    """Seed of the images of noise, of the order of the turns and of the intervals."""


class Setup(NamedTuple):
    """How a network is trained here.

    Attributes:
      name: of the contestant.
      processes: one a core, each pinned to its own, instead of one on all cores.
      memory: freed memory is kept (``pfrl.cpu.keep_memory``).
      rewritten: convolutions by oneDNN (``pfrl.cpu.fast``).
      parts: of a batch, each normalised by itself; PyTorch's has one.
      precision: of the products, 'float32' or 'bfloat16'.
      torch: PyTorch's own training, channels last, a thread for every core.
    """

    name: str
    processes: bool = False
    memory: bool = True
    rewritten: bool = True
    parts: int = 1
    precision: str = "float32"
    torch: bool = False


STEPS = (
    Setup("XLA alone", memory=False, rewritten=False),
    Setup("+ freed memory is kept", rewritten=False),
    Setup("+ convolutions by oneDNN"),
    Setup("+ a batch in two parts", parts=PARTS),
    Setup("a process for every core", processes=True),
)
"""Each but the last with what those before it have."""
IN_FLOAT32 = STEPS[2:4]
"""How one training runs on any processor, without ghost batches and with them, ..."""
ROUNDED = (
    Setup("products of bfloat16", precision="bfloat16"),
    Setup("products of bfloat16, in two parts", parts=PARTS, precision="bfloat16"),
    Setup("PyTorch, autocast to bfloat16", precision="bfloat16", torch=True),
)
"""... and on one with matrix units of bfloat16, beside PyTorch's equal."""


class Throughput(NamedTuple):
    """Images a second of a contestant, and as a share of PyTorch's, with 95 % intervals.

    The share is the median over the rounds of the share within a round.
    """

    network: str
    name: str
    batch: int
    images: float
    share: float
    low: float
    high: float


def jax_steps(network: str, setup: Setup, batch: int, seed: int) -> Callable[[int], None]:
    """A function that makes so many train steps of a network of the zoo."""
    import jax

    from pfrl.cpu.precision import at_precision
    from pfrl.graph import from_nnx, split_variables
    from pfrl.models.catalogue import build
    from pfrl.training.optimizers import sgd
    from pfrl.training.step import TrainState, make_train_step, stepping

    source = from_nnx(build(network, CLASSES, IMAGE, seed))
    optimizer = sgd(LEARNING_RATE, WEIGHT_DECAY)
    parameters, statistics = split_variables(source)
    state = jax.device_put(TrainState(parameters, statistics, optimizer.init(parameters)))
    step = make_train_step(source.apply, optimizer, ghosts=setup.parts)
    step = replace(step, gradient=at_precision(step.gradient, setup.precision))
    run_step = stepping(step) if setup.rewritten else jax.jit(step)
    images, labels = noise(batch, seed)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, loss = run_step(state, images, labels, None)
        loss.block_until_ready()

    return run


def torch_steps(name: str, setup: Setup, batch: int, seed: int) -> Callable[[int], None]:
    """The same in PyTorch: channels last, a thread for every core."""
    import torch

    from benchmarks.pytorch.small import NETWORKS

    torch.set_num_threads(machine()["cores"])
    network = NETWORKS[name](CLASSES)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    images, labels = noise(batch, seed)
    x = torch.from_numpy(images).permute(0, 3, 1, 2)  # A view: channels are last in memory.
    y = torch.from_numpy(labels).long()

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=setup.precision == "bfloat16"):
                loss = torch.nn.functional.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()

    return run


def noise(batch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[N, 32, 32, 3]`` and labels ``[N]``."""
    images = np.random.default_rng(seed).standard_normal((batch, *IMAGE), np.float32)
    return images, np.arange(batch, dtype=np.int32) % CLASSES


def serve(
    connection: Connection,
    network: str,
    setup: Setup,
    core: int | None,
    batch: int,
    seed: int,
) -> None:
    """What a process does: make ready, then so many steps as it is told, until it is told 0."""
    if core is not None:
        take_core(core)
    if setup.memory and not setup.torch:
        keep_memory()
    run = (torch_steps if setup.torch else jax_steps)(network, setup, batch, seed)
    run(2)
    connection.send(None)
    while steps := connection.recv():
        run(steps)
        connection.send(None)


class Contestant:
    """Processes that train at the same time."""

    def __init__(self, network: str, setup: Setup, batch: int, seed: int):
        self.name = setup.name
        self.batch = batch
        context = multiprocessing.get_context("spawn")
        cores: Sequence[int | None] = [None]
        if setup.processes:
            cores = sorted(os.sched_getaffinity(0))
        self._connections, self._processes = [], []
        for core in cores:
            ours, theirs = context.Pipe()
            arguments = (theirs, network, setup, core, batch, seed)
            process = context.Process(target=serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)
        self._wait()
        warm = 3
        self._steps = max(1, round(TURN_SECONDS / (self.turn(warm) / warm)))

    def throughput(self) -> float:
        """Images a second of all processes together, until the last is done."""
        images = self._steps * self.batch * len(self._processes)
        return images / self.turn(self._steps)

    def turn(self, steps: int) -> float:
        """Seconds that all processes together take for so many steps each."""
        start = time.perf_counter()
        for connection in self._connections:
            connection.send(steps)
        self._wait()
        return time.perf_counter() - start

    def close(self) -> None:
        """End the processes."""
        for connection, process in zip(self._connections, self._processes, strict=True):
            connection.send(0)
            process.join()

    def _wait(self) -> None:
        for connection in self._connections:
            connection.recv()


def compare(
    network: str, setups: Sequence[Setup], batch: int, rounds: int, seed: int
) -> list[Throughput]:
    """The throughput of PyTorch and of every setup."""
    everyone = (Setup(PYTORCH, torch=True), *setups)
    contestants = [Contestant(network, setup, batch, seed) for setup in everyone]
    rng = np.random.default_rng(seed)
    found = np.empty((rounds, len(contestants)))
    for row in found:
        for index in rng.permutation(len(contestants)):
            row[index] = contestants[index].throughput()
    for contestant in contestants:
        contestant.close()
    names = [contestant.name for contestant in contestants]
    return summarize(network, names, batch, found, rng)


def summarize(
    network: str, names: Sequence[str], batch: int, found: np.ndarray, rng: np.random.Generator
) -> list[Throughput]:
    """Medians over the rounds of ``found`` ``[rounds, contestants]``, PyTorch in column 0."""
    shares = found / found[:, :1]
    return [
        Throughput(
            network,
            name,
            batch,
            float(np.median(found[:, column])),
            float(np.median(shares[:, column])),
            *median_interval(shares[:, column], rng),
        )
        for column, name in enumerate(names)
    ]


def describe(found: Sequence[Throughput]) -> str:
    """One line a network, contestant and batch."""
    rows = [("network", "train step", "batch", "images/s", "of PyTorch's", "95 % interval")]
    for each in found:
        interval = "" if each.name == PYTORCH else f"{number(each.low)} to {number(each.high)}"
        row = (
            each.network,
            each.name,
            str(each.batch),
            f"{each.images:.0f}",
            number(each.share),
            interval,
        )
        rows.append(row)
    return aligned(rows)


def throughputs(settings: ThroughputSettings) -> list[Throughput]:
    """Of PyTorch and of every setup that is asked for, for every network at every batch."""
    setups = STEPS if settings.steps else IN_FLOAT32
    if multiplies_bfloat16():
        setups = (*setups, *ROUNDED)
    return [
        found
        for network in settings.networks
        for batch in settings.batches
        for found in compare(network, setups, batch, settings.rounds, settings.seed)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m benchmarks.throughput``."""
    here = machine()
    print(f"{here['cpu']}, {here['cores']} core(s), {here['instruction_set']}\n")
    settings = tyro.cli(ThroughputSettings, prog="throughput", args=arguments)
    print(describe(throughputs(settings)))


if __name__ == "__main__":
    main()
