"""How functions are compiled and calls share the cores: the one place that knows the backends."""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np

from pfrl.cpu.rewrite import fast
from pfrl.cpu.workers import cores
from pfrl.graph.labelled.program import Constant, Equation, evaluate, trace_program


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


def answering(
    function: Callable[[Any], Any], *, threads: int | None = None
) -> Callable[[Any], Any]:
    """``function(x)`` as ``compiled`` compiles it, with the arrays that it holds as arguments.

    For a network that is called with its parameters inside. If they were constants of the program,
    XLA would compute with them while it compiles: 14 s for ResNet-18 with weights of 8 bits, in
    place of one. Another shape of ``x`` is another program.

    Args:
      threads: as of ``compiled``.
    """
    programs: dict[Any, Callable[[Any], Any]] = {}

    def answer(x: Any) -> Any:
        key = x.shape, x.dtype
        if key not in programs:
            programs[key] = _with_arguments(function, x, threads)
        return programs[key](x)

    return answer


def _with_arguments(
    function: Callable[[Any], Any], x: Any, threads: int | None
) -> Callable[[Any], Any]:
    program, tree = trace_program(function, x, derivatives=False)
    held = {
        id(operand.value): operand.value
        for equation in program.equations
        for operand in equation.inputs
        if isinstance(operand, Constant) and np.size(operand.value) > 1
    }

    def run(arrays: Sequence[Any], x: Any) -> Any:
        given = dict(zip(held, arrays, strict=True))

        def step(number: int, equation: Equation, operands: list[Any]) -> Sequence[Any]:
            return equation.bind([given.get(id(each), each) for each in operands])

        return jax.tree.unflatten(tree, evaluate(program, [x], step))

    return partial(compiled(run, threads=threads), list(held.values()))


LARGE = 128
"""Pixels a side above which a gradient step takes seconds on a CPU: on two cores 64 images of 224
pixels take MobileNet-v2 2.5 s, and a whole evaluation without any 6 s (AVX-512 with AMX)."""

PARTS, LARGE_PARTS = 2, 4
"""See ``parts_at_once``, and ``parts_of_batch``."""


def slow_steps(input_shape: Sequence[int]) -> bool:
    """Whether a gradient step takes seconds: of large pictures on a CPU.

    Args:
      input_shape: of one input of a network, ``[H, W, C]`` of an image.
    """
    large = len(input_shape) == 3 and max(input_shape[:2]) > LARGE
    return large and jax.default_backend() == "cpu"


def parts_of_batch(input_shape: Sequence[int], usual: int) -> int:
    """Parts of a training batch that are normalised each by itself, two of them at a time.

    Of large pictures on a CPU there are more, for memory: a process that trained EfficientNet-lite0
    in 8 bits on 64 pictures of 224 pixels in two parts, both at a time, had 12 GB.

    Args:
      input_shape: of one input of a network, ``[H, W, C]`` of an image.
      usual: of others.
    """
    return max(LARGE_PARTS, usual) if slow_steps(input_shape) else usual


def parts_at_once() -> int:
    """Parts in which a batch is answered by a network that is not trained.

    On a CPU ``each`` of them is a core's work; the number does not depend on that of the cores, so
    that the answers do not.
    """
    return PARTS if jax.default_backend() == "cpu" else 1


def steps_per_call(backend: str) -> int:
    """Steps that are compiled into one call.

    On a CPU one: a convolution within a scan is several times slower there than outside
    of it. Elsewhere many, so that the device need not wait for Python.
    """
    return 1 if backend == "cpu" else 20


def evaluates_at_once(backend: str) -> bool:
    """Whether an evaluation is one compiled call, of one policy or of many.

    A GPU or TPU is wider than one small network needs, and waits for Python between calls. A CPU
    is full with one policy, its convolutions are slow in loops, and other runtimes judge faster.
    """
    return backend != "cpu"


def placed(tree: Any) -> Any:
    """A tree whose arrays lie where programs read them, for good: in a GPU's or TPU's memory.

    On a CPU programs read what NumPy has. A sequence that makes its items when it is asked for them
    becomes a list elsewhere.
    """
    if jax.default_backend() == "cpu":
        return tree
    return jax.device_put(tree if isinstance(tree, dict | list | tuple) else list(tree))


def alone(found: Any) -> Any:
    """What a call returned; on a CPU once it is there.

    Calls that run or wait at the same time are not faster on a CPU, and each holds memory of its
    own: a training of ResNet-20 had 1 GB of it. A GPU or TPU has to have its next call waiting.
    """
    return jax.block_until_ready(found) if jax.default_backend() == "cpu" else found


def at_hand(tree: Any) -> Any:
    """A tree whose arrays NumPy reads without asking a GPU or TPU for them."""
    return tree if jax.default_backend() == "cpu" else jax.device_get(tree)


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
