"""``make bench``: seconds and memory of a search by part, and what the fast paths gain.

Seconds belong to the machine that they are measured on, which is printed above
them. What is compared is compared within one run, in turns, as a ratio with an
interval: that is worth more than two times from two days.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import numpy as np
import tyro

import agents
from benchmarks.memory import MemorySettings, describe_memory, measure_memory, peak
from benchmarks.ratios import Ratio, forward_ratios, training_ratios
from benchmarks.repairs import POSITIONS, Repaired, time_repairs
from benchmarks.throughput import ThroughputSettings, throughputs
from benchmarks.throughput import describe as describe_throughputs
from benchmarks.tracing import BY_DEPTH, OTHERS, Traced, growth, time_traces
from envs import NetworkTask, Problem
from experiments.records.machine import machine
from experiments.records.wording import aligned, number, percent
from experiments.studies.sweep.quality import describe_quality, search_quality
from pfrl.cost import Budget
from pfrl.data import DataError
from pfrl.data.sources import FASHION_FOLDERS, FASHION_MD5, cache_folder
from pfrl.evaluation.compilations import compilations
from pfrl.evaluation.config import EpisodeConfig, Fidelity
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


@dataclass(frozen=True)
class BenchSettings:
    """Measure seconds and memory of a search, and the ratios that its fast paths gain."""

    quick: bool = False
    """The small network only, with fewer episodes and rounds."""
    seed: int = 0
    """Seed of the search, of the images of noise and of the order of the rounds."""


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


def describe_searches(found: dict[str, SearchTimes]) -> str:
    """One column a search."""
    columns: list[tuple[str, ...]] = [("", *SEARCH_ROWS)]
    for name, times in found.items():
        shares = (percent(times.shares[part], 0) for part in ("training", "validation", "other"))
        columns.append(
            (
                name,
                number(times.first),
                f"{number(times.later)} ({times.episodes})",
                *shares,
                str(times.compilations),
                number(times.peak_gib),
            )
        )
    return aligned(list(zip(*columns, strict=True)))


SEARCH_ROWS = (
    "seconds of the first episode, which compiles",
    "seconds of a later episode, median (of)",
    "  of them training",
    "  of them validation",
    "  everything else: agent and environment",
    "compilations in later episodes",
    "peak memory until then, GiB",
)


def describe_ratios(found: Sequence[Ratio]) -> str:
    """One line a ratio."""
    rows = [("times as long", "ratio", "95 % interval")]
    for what, value, low, high in found:
        rows.append((what, number(value), f"{number(low)} to {number(high)}"))
    return aligned(rows)


def run(settings: BenchSettings) -> None:
    """Print everything, each part as soon as it is measured."""
    here = machine()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("jax", "onnxruntime"))
    print(f"{here['cpu']}, {here['cores']} core(s), {here['instruction_set']}; {libraries}\n")
    searches, small = [("resnet8", "digits")], ("resnet8", (8, 8, 1))
    if not settings.quick:
        searches.append(("resnet20", "fashion_mnist"))
    found, missing = {}, []
    for model, data in searches:
        name = f"{model} on {data}"
        try:
            problem = open_problem(model, data, settings.seed)
        except (ModelError, DataError) as error:
            missing.append(f"Left out: {name}, for {error}.")
            continue
        episodes = QUICK_EPISODES if settings.quick else EPISODES
        found[name] = time_search(problem, episodes, settings.seed)
    print("A search by DDPG for half the MACs")
    print("\n".join([describe_searches(found), *missing]) + "\n", flush=True)

    followed = MemorySettings(
        *searches[0], episodes=QUICK_FOLLOWED if settings.quick else FOLLOWED, seed=settings.seed
    )
    print(describe_memory(followed, measure_memory(followed)) + "\n", flush=True)

    problem = open_problem(*searches[0], settings.seed, "reconstruct")
    # So few MACs that the network makes mistakes, and searchers differ.
    problem = replace(problem, budget=Budget.parse("macs=0.1"), round_to=1)
    goal, rows = search_quality(problem, *(QUICK_LONG if settings.quick else LONG))
    print(
        f"Quality a second: {searches[0][0]} on {searches[0][1]}, reconstruct, a tenth of the MACs"
    )
    print(describe_quality(goal, rows) + "\n", flush=True)

    model, shape = small if settings.quick else ("resnet20", (28, 28, 1))
    network = build(model, 10, shape, settings.seed)
    rounds = QUICK_ROUNDS if settings.quick else ROUNDS
    rng = np.random.default_rng(settings.seed)
    print(
        f"{model} on images of {' x '.join(map(str, shape))}, medians of {rounds} rounds in turns"
    )
    trained = training_ratios(network, shape, TRAINING_BATCH, rounds, rng)
    forward, seconds = forward_ratios(network, shape, SEARCH_BATCH, rounds, rng)
    print(describe_ratios([*trained, *forward]))
    print(f"Slicing, exporting and loading a policy for ONNX Runtime: {number(seconds)} s\n")

    depths = BY_DEPTH[:2] if settings.quick else BY_DEPTH
    repeats = QUICK_TRACES if settings.quick else TRACES
    traced = time_traces(depths if settings.quick else depths + OTHERS, repeats)
    print(describe_traces(traced) + "\n", flush=True)

    quick = settings.quick
    images, policies = (QUICK_REPAIR_IMAGES, QUICK_REPAIRS) if quick else (REPAIR_IMAGES, REPAIRS)
    repaired = time_repairs(REPAIRED[:1] if quick else REPAIRED, images, policies, settings.seed)
    print(describe_repairs(repaired) + "\n", flush=True)
    if not quick:
        print(describe_throughputs(throughputs(ThroughputSettings(seed=settings.seed))))


def describe_repairs(found: Sequence[Repaired]) -> str:
    """One line a network."""
    rows = [(f"least squares, {POSITIONS} positions an image", "images", "gathering once, s",
             "a policy, s (median)", "(slowest)")]  # fmt: skip
    for name, images, gathering, solving, slowest in found:
        rows.append((name, str(images), number(gathering), number(solving), number(slowest)))
    return aligned(rows)


def describe_traces(found: Sequence[Traced]) -> str:
    """One line a network, and how the time grows with the depth of those that only differ in it."""
    rows = [("tracing in both modes", "layers", "groups", "seconds, median")]
    for name, layers, groups, seconds in found:
        rows.append((name, str(layers), str(groups), number(seconds)))
    power = number(growth([each for each in found if each.name in BY_DEPTH]))
    return f"{aligned(rows)}\nFrom {BY_DEPTH[0]} on: seconds ~ layers to the power of {power}"


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m benchmarks.bench``."""
    run(tyro.cli(BenchSettings, prog="bench", args=arguments))


if __name__ == "__main__":
    main()
