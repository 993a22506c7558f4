"""How functions are compiled and steps driven: the one place that knows the backends."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pfrl.cpu import cores, fast
from pfrl.training.step import TrainState, TrainStep

Batch = tuple[Any, Any, Any]
"""``(x, targets, what the teacher answers or None)``, as a train step takes them."""


def compiled(
    function: Callable[..., Any], *, threads: int | None = None, **options: Any
) -> Callable[..., Any]:
    """``jax.jit(function, **options)``, on a CPU with convolutions by oneDNN.

    For whole steps and predictions, as ``pfrl.cpu.fast`` is; arguments by position.

    Args:
      threads: see ``pfrl.cpu.fast``: 1 for what goes through ``each``.
      options: of ``jax.jit``.
    """
    return jax.jit(fast(function, threads), **options)


def steps_per_call(backend: str) -> int:
    """Steps that are compiled into one call.

    On a CPU one: a convolution within a scan is several times slower there than outside
    of it. Elsewhere many, so that the device need not wait for Python.
    """
    return 1 if backend == "cpu" else 20


def evaluates_at_once(backend: str) -> bool:
    """Whether policies are evaluated in one batch: a CPU is full with one of them."""
    return backend != "cpu"


def stepping(step: TrainStep) -> Callable[..., tuple[TrainState, jax.Array]]:
    """A train step that is compiled. On a CPU a core works on each part of a batch.

    There gradient and update are programs of their own, whatever the number of cores, so
    that a state does not depend on it.
    """
    if step.ghosts == 1 or jax.default_backend() != "cpu":
        return compiled(step)
    gradient, update = compiled(step.gradient, threads=1), compiled(step.update)

    def run(state: TrainState, x: Any, targets: Any, teacher: Any, *extras: Any):
        parts = step.parts((x, targets, teacher))
        found = list(each(lambda part: gradient(state, *part, *extras), parts))
        return update(state, found, *extras)

    return run


def callers() -> int:
    """Threads that call at once: one a core of a CPU, and one for a device.

    Two threads with half of the work each need not wait for each other, as two that share every
    convolution do. A device runs one call after the other anyhow.
    """
    return len(cores()) if jax.default_backend() == "cpu" else 1


def each(function: Callable[..., Any], items: Iterable[Any]) -> Generator[Any]:
    """``function`` of every item, in order, by as many threads as there are ``callers``.

    What is not wanted any more when the iterator is closed is not begun.
    """
    threads = callers()
    if threads == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        # Waited for in the threads: calls that are only begun take turns on the cores.
        yield from pool.map(lambda item: jax.block_until_ready(function(item)), items)
    finally:
        pool.shutdown(cancel_futures=True)


def drive(
    step: Callable[..., tuple[TrainState, jax.Array]], per_call: int, *, donate: bool = False
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """``run(state, batches, *extras) -> (state, last loss)``: a train step for every batch.

    Args:
      step: of ``make_train_step``, not jitted.
      per_call: steps in one call; what is left over at the end is a shorter one, which
        compiles once more.
      donate: whether the state that is given is used up.
    """

    def scanned(state: TrainState, chunk: list[Batch], *extras: Any):
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *chunk)
        state, losses = jax.lax.scan(lambda s, batch: step(s, *batch, *extras), state, stacked)
        return state, losses[-1]

    def single(state: TrainState, chunk: list[Batch], *extras: Any):
        return step(state, *chunk[0], *extras)

    call = compiled(single if per_call == 1 else scanned, donate_argnums=0 if donate else ())

    def run(state: TrainState, batches: Iterable[Batch], *extras: Any):
        batches = iter(batches)
        loss: Any = np.float32(0)
        while chunk := list(islice(batches, per_call)):
            state, loss = call(state, chunk, *extras)
        return state, loss

    return run
