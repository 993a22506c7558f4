"""Latency in a runtime, measured so that two networks can be compared on a busy machine.

Networks that are to be compared are measured interleaved, in one process: every
round runs each of them, in a new order, for some milliseconds. What disturbs the
machine for a while disturbs all of them alike, so the *ratio within a round* is
steady where the times are not. Every round loads the networks anew, since where
a session's memory happens to lie changes its speed by some percent for good.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pfrl.cpu.processor import instruction_set
from pfrl.deploy.runtimes.sessions import open_session

ROUND_SECONDS = 0.005
"""How long a network runs within a round, at least: tiny ones take 0.05 ms."""

STEADY = 0.02
"""Width of the interval of a median, as a share of it, at which measuring ends."""
FEWEST_ROUNDS = 15
WARM_UP = 2
"""Untimed runs at the beginning of a turn."""

BOOTSTRAP_SAMPLES = 2000
LOOK_AGAIN = 1.2
"""Growth of the number of rounds until the intervals are looked at again: that takes time too."""


Quantities = Callable[[np.ndarray], np.ndarray]
"""What has to be steady for measuring to end: of rounds ``[rounds, functions]`` their quantities
``[rounds, quantities]``."""


def each(rounds: np.ndarray) -> np.ndarray:
    """Every function's time."""
    return rounds


def together(rounds: np.ndarray) -> np.ndarray:
    """The share of every other function in the sum of all, for what is fitted to all of them.

    A fit averages what single functions are off by. A machine that becomes slower or faster while
    it is measured changes all times alike, and not this share.
    """
    return rounds[:, ::2].sum(1, keepdims=True) / rounds.sum(1, keepdims=True)


def ratios_to(places: Sequence[int]) -> Quantities:
    """Every function's time over that of another, whose place is given for each function.

    Where a machine changes its speed for a while these are steady long before the times.
    """
    return lambda rounds: rounds / rounds[:, list(places)]


@dataclass(frozen=True)
class Measurement:
    """Latency of one run of a batch."""

    median_ms: float
    """Median over the rounds of each round's median."""
    low_ms: float
    """Lower end of the 95 % interval of the median (bootstrap over rounds)."""
    high_ms: float
    """Upper end of the 95 % interval."""
    threads: int
    batch: int
    """Images in a run."""
    runtime: str
    runtime_version: str
    instruction_set: str
    """What the processor offers of what decides about speed, such as 'avx2 avx512f avx512_vnni'."""
    repeats: int
    """Runs that were timed, over all rounds."""
    rounds_ms: tuple[float, ...]
    """Every round's median, for ``latency_ratio``."""

    def to_json(self) -> dict[str, Any]:
        """All fields but the single rounds."""
        return {key: value for key, value in asdict(self).items() if key != "rounds_ms"}


class LatencyRatio(NamedTuple):
    """A ratio of latencies with its 95 % interval."""

    value: float
    low: float
    high: float


def measure(
    path: Path | str,
    threads: int = 1,
    batch: int = 1,
    seconds: float = 2.0,
    seed: int = 0,
    precision: float = 0.0,
) -> Measurement:
    """The latency of one file; arguments and errors are those of ``measure_interleaved``."""
    return measure_interleaved([path], threads, batch, seconds, seed, precision)[0]


def measure_interleaved(
    paths: Sequence[Path | str],
    threads: int = 1,
    batch: int = 1,
    seconds: float = 4.0,
    seed: int = 0,
    precision: float = 0.0,
    steady: Quantities = each,
) -> list[Measurement]:
    """The latencies of several files, each in its runtime, measured in turns on images of noise.

    Args:
      paths: ``.onnx`` files, for ONNX Runtime, and ``.tflite`` files, for LiteRT.
      threads: threads inside an operation.
      batch: images in a run.
      seconds: time spent on all files together, unless 15 rounds take longer.
      seed: of the images, the order within a round and the bootstrap.
      precision, steady: as of ``interleave``; measuring ends early then.

    Raises:
      Unavailable: if a runtime is not installed.
      FileError: if a file is missing or cannot be run.
    """
    rng = np.random.default_rng(seed)
    sessions = [open_session(path, threads) for path in paths]
    runtimes = [(session.runtime, session.version) for session in sessions]
    del sessions

    def load() -> list[Callable[[], None]]:
        sessions = [open_session(path, threads) for path in paths]
        return [session.bound(session.random_images(batch, rng)) for session in sessions]

    rounds, repeats = interleave(load, seconds, rng, precision=precision, steady=steady)
    measurements = []
    for column, repeated, (runtime, version) in zip(rounds.T, repeats, runtimes, strict=True):
        low, high = median_interval(column, rng)
        measurements.append(
            Measurement(
                median_ms=float(np.median(column)),
                low_ms=low,
                high_ms=high,
                threads=threads,
                batch=batch,
                runtime=runtime,
                runtime_version=version,
                instruction_set=instruction_set(),
                repeats=repeated * len(rounds),
                rounds_ms=tuple(column.tolist()),
            )
        )
    return measurements


def latency_ratio(measured: Measurement, base: Measurement, seed: int = 0) -> LatencyRatio:
    """How many times the latency of ``base`` that of ``measured`` is, from the rounds' ratios.

    Raises:
      ValueError: if the two do not come from one call of ``measure_interleaved``.
    """
    if len(measured.rounds_ms) != len(base.rounds_ms):
        raise ValueError(
            f"measurements of {len(measured.rounds_ms)} and {len(base.rounds_ms)} rounds cannot be "
            "paired; measure both in one call of measure_interleaved"
        )
    ratios = np.array(measured.rounds_ms) / np.array(base.rounds_ms)
    low, high = median_interval(ratios, np.random.default_rng(seed))
    return LatencyRatio(float(np.median(ratios)), low, high)


def interleave(
    make: Callable[[], Sequence[Callable[[], None]]],
    seconds: float,
    rng: np.random.Generator,
    *,
    round_seconds: float = ROUND_SECONDS,
    fewest_rounds: int = FEWEST_ROUNDS,
    precision: float = 0.0,
    steady: Quantities = each,
) -> tuple[np.ndarray, list[int]]:
    """Times functions in turns.

    Args:
      make: makes the functions, anew for every round, or hands out the same.
      seconds: how long to go on, unless ``fewest_rounds`` take longer.
      rng: of the order within a round.
      round_seconds: how long a function is to run within a round.
      fewest_rounds: rounds to be made in any case.
      precision: when the interval of the median of every quantity is narrower than this share of
        it, the rounds end.
      steady: the quantities.

    Returns:
      The median time of every function in every round in ms ``[rounds, functions]``,
      and how often each is timed within a round.
    """
    runs = make()
    repeats = [_repeats(run, round_seconds) for run in runs]
    rounds, end, look = [], time.perf_counter() + seconds, float(fewest_rounds)
    while len(rounds) < fewest_rounds or time.perf_counter() < end:
        row = np.empty(len(runs))
        for index in rng.permutation(len(runs)):
            _time(runs[index], WARM_UP)
            row[index] = np.median(_time(runs[index], repeats[index]))
        rounds.append(row)
        if precision > 0 and len(rounds) >= look:
            if _widest(steady(np.array(rounds)), rng) < precision:
                break
            look = len(rounds) * LOOK_AGAIN
        runs = make()
    return np.array(rounds) * 1e3, repeats


def _widest(rounds: np.ndarray, rng: np.random.Generator) -> float:
    """The widest interval of a median of ``rounds`` ``[rounds, quantities]``, as a share of it."""
    intervals = [median_interval(column, rng) for column in rounds.T]
    widths = [high - low for low, high in intervals]
    return float(np.max(widths / np.median(rounds, axis=0)))


def _repeats(run: Callable[[], None], seconds: float) -> int:
    """How many runs fill ``seconds``, from the quickest of some: a disturbed one would mislead."""
    quickest = min(_time(run, WARM_UP + 5)[WARM_UP:])
    return max(1, round(seconds / quickest))


def _time(run: Callable[[], None], repeats: int) -> list[float]:
    clock, times = time.perf_counter, []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return times


def median_interval(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the median of ``values`` ``[rounds]``."""
    picks = rng.integers(0, len(values), (BOOTSTRAP_SAMPLES, len(values)))
    low, high = np.percentile(np.median(values[picks], axis=1), [2.5, 97.5])
    return float(low), float(high)
