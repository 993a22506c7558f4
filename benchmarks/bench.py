"""``make bench``: seconds and memory of searches, trainings and their parts, as one table.

    python -m benchmarks.bench --quick

Seconds belong to the machine that they are measured on, which the table names. What is compared
is compared within one run, in turns, as a ratio with an interval: that is worth more than two
times from two days. What cannot be measured here is one line below the table.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import tyro

import agents
from benchmarks.memory import MemorySettings, measure_memory, peak
from benchmarks.ratios import forward_ratios, training_ratios
from benchmarks.repairs import time_repairs
from benchmarks.summary.feeding import feed
from benchmarks.summary.rows import HEADER, Row, grid
from benchmarks.throughput import PYTORCH, ThroughputSettings, throughputs
from benchmarks.tracing import BY_DEPTH, OTHERS, growth, time_traces
from envs import NetworkTask, Problem
from experiments.records.machine import machine
from experiments.records.wording import aligned, percent, table
from experiments.studies.sweep.quality import search_quality
from pfrl.cost import Budget
from pfrl.data import DataError
from pfrl.data.sources import FASHION_FOLDERS, FASHION_MD5, cache_folder
from pfrl.evaluation.compilations import compilations
from pfrl.evaluation.config import EpisodeConfig, Fidelity
from pfrl.files import write_json, write_text
from pfrl.models.catalogue import ModelError, build, pretrained_path

TRAINING_BATCH, SEARCH_BATCH = 64, 250
"""Images a step of an episode's fine-tuning, and of its validation."""
EPISODES, QUICK_EPISODES = 6, 4
LONG, QUICK_LONG = (60, (0, 1, 2)), (8, (0,))
"""Episodes and seeds of the searches whose quality a second is compared."""
FOLLOWED, QUICK_FOLLOWED = 400, 12
"""Episodes of the search whose memory is followed."""
ROUNDS, QUICK_ROUNDS = 10, 5
TRACES, QUICK_TRACES = 5, 2
REPAIRED, REPAIR_IMAGES, REPAIRS = ("resnet20", "resnet56"), 3_000, 20
QUICK_REPAIR_IMAGES, QUICK_REPAIRS = 200, 3
TURNS, QUICK_TURNS = 12, 3
"""Of the trainings beside PyTorch's."""
PEERS, QUICK_PEERS = 12, 4
"""Policies that are evaluated here and in PyTorch."""
FED, QUICK_FED = 40, 6
"""Steps of the training whose waiting is timed."""
SMALL = ("resnet8", "digits")
"""The network and data that need no files."""


@dataclass(frozen=True)
class BenchSettings:
    """Measure seconds and memory of searches and trainings, and how they compare with PyTorch."""

    quick: bool = False
    """The small network only, with fewer episodes and rounds: some minutes."""
    seed: int = 0
    """Seed of the search, of the images of noise and of the order of the rounds."""
    out: Path = Path("runs/bench")
    """Directory of bench.md and bench.json."""


class Mark(NamedTuple):
    """Where the clocks stood when an episode ended."""

    seconds: float
    training: float
    validation: float
    compilations: int


class SearchTimes(NamedTuple):
    """A search by its clocks.

    Attributes:
      first: seconds of the first episode, which compiles.
      later: median seconds of the others, agent and environment included.
      episodes: number of the others.
      shares: of the others' seconds, by part; they sum to 1.
      compilations: in the others.
      peak_gib: largest resident memory of the process until then.
    """

    first: float
    later: float
    episodes: int
    shares: dict[str, float]
    compilations: int
    peak_gib: float


def time_search(problem: Problem, episodes: int, seed: int) -> SearchTimes:
    """Let DDPG play on a problem that is already open, and read the clocks after every episode."""
    evaluator = problem.open().evaluator

    def mark(_episode: object = None) -> Mark:
        spent = evaluator.seconds
        return Mark(time.perf_counter(), spent["training"], spent["validation"], compilations())

    marks = [mark()]
    agents.search("ddpg", problem, episodes, seed, lambda episode: marks.append(mark()))
    return summarize(marks, peak() / 1024)


def summarize(marks: Sequence[Mark], peak: float) -> SearchTimes:
    """The times between the marks: one before the search, one after each of its episodes."""
    first, last = marks[1], marks[-1]
    seconds = [after.seconds - before.seconds for before, after in pairwise(marks)]
    total = last.seconds - first.seconds
    shares = {
        "training": (last.training - first.training) / total,
        "validation": (last.validation - first.validation) / total,
    }
    shares["other"] = 1 - sum(shares.values())
    compiled = last.compilations - first.compilations
    return SearchTimes(seconds[0], median(seconds[1:]), len(seconds) - 1, shares, compiled, peak)


def open_problem(model: str, data: str, seed: int, fidelity: Fidelity = "finetune") -> Problem:
    """Half the MACs of a network whose weights come with the package.

    Raises:
      ModelError, DataError: if there are no such weights, or the data would have to be fetched.
    """
    weights = pretrained_path(model, data)
    if weights is None:
        raise ModelError(f"no weights of {model} for {data} come with the package")
    folders = (*FASHION_FOLDERS, cache_folder() / "fashion-mnist")
    if data == "fashion_mnist" and not any(
        all((folder / name).is_file() for name in FASHION_MD5) for folder in folders
    ):
        raise DataError("the files of Fashion-MNIST are not on this machine")
    episode = EpisodeConfig(fidelity=fidelity)
    task = NetworkTask(model, data, str(weights), seed, episode=episode)
    problem = Problem(task, budget=Budget.parse("macs=0.5"), round_to=4)
    problem.open()
    return problem


def search_rows(settings: BenchSettings, model: str, data: str) -> Iterator[Row]:
    """A search by DDPG for half the MACs: an episode, and the one that compiles."""
    problem = open_problem(model, data, settings.seed)
    times = time_search(problem, QUICK_EPISODES if settings.quick else EPISODES, settings.seed)
    name = f"{model} on {data}, finetune"
    parts = {part: share * times.later for part, share in times.shares.items()}
    compiled = f"later ones compile {times.compilations}"
    yield Row(f"first episode, which compiles ({compiled}): {name}", times.first, "s")
    what = f"later episode, median of {times.episodes}: {name}"
    yield Row(what, times.later, "s", parts=parts, peak=1024 * times.peak_gib)


def memory_rows(settings: BenchSettings) -> Iterator[Row]:
    """A search in a process of its own."""
    episodes = QUICK_FOLLOWED if settings.quick else FOLLOWED
    followed = MemorySettings(*SMALL, episodes=episodes, seed=settings.seed)
    found = measure_memory(followed)
    what = f"growth of memory: {followed.model}, {followed.fidelity}, {episodes} episodes"
    yield Row(what, found.growth, "MiB in 100 episodes", peak=found.peak)


def quality_rows(settings: BenchSettings) -> Iterator[Row]:
    """Seconds to an accuracy that all searchers reach."""
    problem = open_problem(*SMALL, settings.seed, "reconstruct")
    # So few MACs that the network makes mistakes, and searchers differ.
    problem = replace(problem, budget=Budget.parse("macs=0.1"), round_to=1)
    goal, rows = search_quality(problem, *(QUICK_LONG if settings.quick else LONG))
    for row in rows:
        what = f"to {percent(goal)}, a tenth of the MACs: {SMALL[0]}, {row.agent}"
        yield Row(f"{what}, which ends with {percent(row.final)}", row.taken.seconds, "s")


def ratio_rows(settings: BenchSettings) -> Iterator[Row]:
    """What masks and normalisation cost, and what another runtime gains."""
    model, shape = (SMALL[0], (8, 8, 1)) if settings.quick else ("resnet20", (28, 28, 1))
    network = build(model, 10, shape, settings.seed)
    rounds = QUICK_ROUNDS if settings.quick else ROUNDS
    rng = np.random.default_rng(settings.seed)
    found = training_ratios(network, shape, TRAINING_BATCH, rounds, rng)
    forward, seconds = forward_ratios(network, shape, SEARCH_BATCH, rounds, rng)
    for what, ratio, low, high in (*found, *forward):
        yield Row(f"{model}, {what}", None, ratio=ratio, interval=(low, high))
    yield Row(f"{model}: a policy's file made and loaded for ONNX Runtime", seconds, "s")


def tracing_rows(settings: BenchSettings) -> Iterator[Row]:
    """Tracing in both modes, and how it grows with the depth of networks that only differ in it."""
    names = BY_DEPTH[:2] if settings.quick else BY_DEPTH + OTHERS
    found = time_traces(names, QUICK_TRACES if settings.quick else TRACES)
    for name, layers, groups, seconds in found:
        yield Row(f"tracing {name}, {layers} layers, {groups} groups", seconds, "s")
    power = growth([each for each in found if each.name in BY_DEPTH])
    yield Row(f"tracing from {BY_DEPTH[0]} on: seconds ~ layers to the power of", power)


def repair_rows(settings: BenchSettings) -> Iterator[Row]:
    """Least squares of a policy."""
    few = settings.quick
    images, policies = (QUICK_REPAIR_IMAGES, QUICK_REPAIRS) if few else (REPAIR_IMAGES, REPAIRS)
    names = REPAIRED[:1] if few else REPAIRED
    for name, count, gathering, median_, slowest in time_repairs(
        names, images, policies, settings.seed
    ):
        parts = {"gathering once": gathering, "slowest": slowest}
        yield Row(f"repair of a policy, {count} images: {name}", median_, "s", parts=parts)


def throughput_rows(settings: BenchSettings) -> Iterator[Row]:
    """Train steps beside PyTorch's."""
    asked = ThroughputSettings(seed=settings.seed, rounds=TURNS)
    if settings.quick:
        asked = replace(asked, networks=asked.networks[:1], rounds=QUICK_TURNS)
    for each in throughputs(asked):
        what = f"training {each.network}, batch {each.batch}, {each.name}"
        ours = each.name != PYTORCH
        what, interval = (f"{what} / {PYTORCH}", (each.low, each.high)) if ours else (what, None)
        yield Row(what, each.images, "images/s", each.share if ours else None, interval)


def peer_rows(settings: BenchSettings) -> Iterator[Row]:
    """Evaluations beside PyTorch's with Torch-Pruning."""
    from benchmarks.peers import PeersSettings, compare

    policies = QUICK_PEERS if settings.quick else PEERS
    found, _, _ = compare(PeersSettings(*SMALL, policies=policies, seed=settings.seed))
    for name, each in found["contestants"].items():
        what, parts = f"evaluation of {SMALL[0]} on {SMALL[1]}, {name}", each["parts"]
        if name == PYTORCH:
            yield Row(what, each["seconds"], "s", parts=parts)
            continue
        ratio, interval = each["times_faster"], tuple(each["interval"])
        yield Row(f"{what}; times faster", each["seconds"], "s", ratio, interval, parts)


def feeding_rows(settings: BenchSettings) -> Iterator[Row]:
    """A train step that reads its pictures from files."""
    steps = QUICK_FED if settings.quick else FED
    found = feed("resnet18", steps, settings.seed)
    parts = {"waiting": found.waiting / steps, "step": found.computing / steps}
    what = f"share of waiting, resnet18 fed with JPEG files, {steps} steps"
    yield Row(what, 100 * found.share, "%", parts=parts)


def parts_of(settings: BenchSettings) -> dict[str, Callable[[], Iterator[Row]]]:
    """What is measured, by what it is called where it is left out."""
    searches = [SMALL] if settings.quick else [SMALL, ("resnet20", "fashion_mnist")]
    alone = {
        "memory of a search": memory_rows,
        "quality a second": quality_rows,
        "ratios of steps": ratio_rows,
        "tracing": tracing_rows,
        "repair": repair_rows,
        "training beside PyTorch": throughput_rows,
        "evaluations beside PyTorch with Torch-Pruning": peer_rows,
        "training on pictures in files": feeding_rows,
    }
    return {
        f"a search for {model} on {data}": partial(search_rows, settings, model, data)
        for model, data in searches
    } | {name: partial(rows, settings) for name, rows in alone.items()}


def run(settings: BenchSettings) -> list[Path]:
    """Measure one thing after the other; print the table, and write it."""
    here, rows, left_out = machine(), [], []
    libraries = ", ".join(f"{name} {version(name)}" for name in ("jax", "onnxruntime"))
    about = f"{here['cpu']}, {here['cores']} core(s); {libraries}"
    for name, measure in parts_of(settings).items():
        print(f"{name} ...", flush=True)
        try:
            rows += measure()
        # A peer that is missing or broken, or data that are not here, must not cost the rest.
        except Exception as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            left_out.append(f"Left out: {name}, for {why}.")
    found = grid(rows, here["instruction_set"])
    print("\n".join(["", about, aligned([HEADER, *found]), *left_out]))
    text = "\n\n".join([about, table(HEADER, found), *left_out])
    facts = {**here, "libraries": libraries, "quick": settings.quick, "seed": settings.seed}
    data = {**facts, "rows": [row.to_json() for row in rows], "left_out": left_out}
    return [
        write_json(settings.out / "bench.json", data),
        write_text(settings.out / "bench.md", text + "\n"),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m benchmarks.bench``."""
    for path in run(tyro.cli(BenchSettings, prog="bench", args=arguments)):
        print(path)


if __name__ == "__main__":
    main()
