"""``pfrl proxy``: how well the score of an evaluation ranks policies, against a long fine-tuning.

A search sees a policy by a short evaluation, and hands over a network that is trained for
long. What counts is whether both put policies of equal cost into the same order.
"""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from envs.decisions import Decisions
from envs.problem import Problem
from envs.task import NetworkTask, load_network
from experiments.records.history import Line
from experiments.records.lines import append_line, mend_lines
from experiments.records.machine import machine
from experiments.records.run_folder import command, versions
from experiments.run.compression import find_weights
from experiments.settings.blocks import NetworkBlock, SettingsError
from experiments.studies.proxy.table import LONG, write_study
from experiments.studies.workers import share_out
from experiments.watch.progress import stage
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import PLAIN, REPAIRED
from pfrl.cost import Budget, CostModel
from pfrl.cost.metrics import Assignment
from pfrl.deploy.runtimes.base import RUNTIMES
from pfrl.evaluation.evaluator import EpisodeConfig, Evaluator
from pfrl.evaluation.validation import validate
from pfrl.files import FileError, write_json
from pfrl.graph import Graph
from pfrl.training.fit import Diverged

EQUAL = 0.02
"""How far below the limit costs may lie that count as equal, as a share of it."""
DRAWS = 1_000
"""Draws for every policy that is asked for, before it is said that there are none."""
HALVINGS = 40
"""Of the interval in which the common factor of all actions is looked for."""
LEAST = {"policies": 2, "workers": 1, "search_images": 1, "long_images": 1, "supernet_steps": 1}
"""Of settings that are whole numbers."""
FREE = ("policies", "fidelities", "out", "workers")
"""Settings that may change from one start to the next: they add lines and change none."""


@dataclass(frozen=True)
class ProxySettings:
    """Compare the ranks that each fidelity gives to policies of equal cost with those after a
    long fine-tuning."""

    model: str = "resnet20"
    """A network of the zoo."""
    data: str = "fashion_mnist"
    """Data set: digits, fashion_mnist, cifar10 or imagefolder:PATH (a folder or .zip)."""
    weights: Path | None = None
    """Trained weights (.npz). Default: those that come with the package for this model and data."""
    target: str = "macs=0.5"
    """Cost that all policies have: METRIC=VALUE with macs, params, bytes or bops."""
    policies: int = 60
    """Random policies."""
    fidelities: tuple[Literal["reconstruct", "finetune", "supernet"], ...] = (
        "reconstruct",
        "finetune",
        "supernet",
    )
    """What is compared."""
    long_images: int = 16_000
    """Training images of the long fine-tuning, those that come twice counted twice."""
    learning_rate: float = 0.02
    """Of the first step of the long fine-tuning; it falls as a cosine."""
    search_images: int = 2_000
    """Images of the search split that judge evaluations; the others of the split are fresh."""
    supernet_steps: int = 400
    """Training steps of the shared network of the fidelity supernet."""
    keep_min: float = 0.2
    """Smallest share of a group's channels that a policy may keep, before rounding."""
    round_to: int = 4
    """Kept channels are a multiple of this."""
    seed: int = 0
    """Seed of the policies and of all training."""
    out: Path = Path("runs/proxy")
    """Directory of proxy.jsonl, one line a policy and fidelity, and of the tables and the picture.
    What is recorded there is not computed again."""
    workers: int = 1
    """Processes that share the work, each on a core of its own."""


class Job(NamedTuple):
    """A policy, its number and how it is to be scored: a fidelity or ``LONG``."""

    number: int
    fidelity: str
    policy: Policy


def run(settings: ProxySettings) -> list[Path]:
    """Score every policy that is not recorded yet; returns the paths of tables and picture.

    Raises:
      ValueError: a subclass with a sentence for the user, if what was given is wrong.
    """
    _check(settings)
    weights = find_weights(NetworkBlock(settings.model, settings.data, settings.weights))
    settings = dataclasses.replace(settings, weights=weights)
    policies = draw_policies(settings, load(settings))
    _keep_settings(settings)
    history = settings.out / "proxy.jsonl"
    lines = mend_lines(history)
    _check_policies(lines, policies, history)
    done = {(line["number"], line["fidelity"]) for line in lines}
    # Fidelity by fidelity, for a process keeps one evaluator at a time.
    jobs = [
        Job(number, fidelity, policy)
        for fidelity in (*settings.fidelities, LONG)
        for number, policy in enumerate(policies)
    ]
    left = [job for job in jobs if (job.number, job.fidelity) not in done]
    with stage(f"{len(left)} of {len(jobs)} scores", len(left), "scores") as progress:
        found = share_out(partial(score, settings), left, settings.workers)
        for count, line in enumerate(found, 1):
            append_line(history, line)
            progress(count, len(left))
    facts = {"command": command(), "settings": identity(settings), "machine": machine()}
    return write_study(settings.out, mend_lines(history), {**facts, "versions": versions()})


def load(settings: ProxySettings) -> Graph:
    """The network that all policies are of."""
    return load_network(settings.model, settings.data, str(settings.weights))[1]


def draw_policies(settings: ProxySettings, graph: Graph) -> list[Policy]:
    """Different random policies, all of which cost what the target says; more begin with the same.

    Raises:
      SettingsError: if there are not as many.
      BudgetError: if the target cannot be met.
    """
    task = NetworkTask(settings.model, settings.data, str(settings.weights))
    budget = Budget.parse(settings.target)
    problem = Problem(task, budget=budget, keep_min=settings.keep_min, round_to=settings.round_to)
    decisions = Decisions(problem, graph, CostModel(graph))
    assert decisions.limit is not None
    rng = np.random.default_rng([settings.seed, 6])
    found: list[Policy] = []
    for _ in range(DRAWS * settings.policies):
        at = draw(decisions, decisions.limit, rng)
        policy = at.policy(graph)
        if decisions.cost(at) >= (1 - EQUAL) * decisions.limit and policy not in found:
            found.append(policy)
        if len(found) == settings.policies:
            return found
    raise SettingsError(
        f"found {len(found)} of {settings.policies} different policies that cost"
        f" {1 - EQUAL:.0%} to 100% of {settings.target}; ask for fewer, or lower round_to"
    )


def draw(decisions: Decisions, limit: float, rng: np.random.Generator) -> Assignment:
    """Random actions, all times the largest factor with which they meet the limit.

    Actions are uniform on their interval, seen from its lower end; products beyond the upper
    end stand for it. Unlike decisions that are cut off one after the other by the budget, this
    treats all layers alike.
    """
    knobs = [knob for _, row in decisions.steps for knob in row if knob is not None]
    shares = 1 - rng.random(len(knobs))  # In (0, 1].

    def assigned(factor: float) -> Assignment:
        at = decisions.start.copy()
        for knob, share in zip(knobs, shares, strict=True):
            knob.set(at, knob.choice(min(2 * share * factor, 2) - 1))
        return at

    low, high = 0.0, 1 / float(shares.min())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if decisions.cost(assigned(middle)) <= limit else (low, middle)
    return assigned(low)


def score(settings: ProxySettings, job: Job) -> dict[str, Any]:
    """The line of a policy and a fidelity, or of a policy and the long fine-tuning."""
    evaluator, setup = evaluator_of(settings, job.fidelity)
    start = time.perf_counter()
    if job.fidelity == LONG:
        found = score_long(settings, evaluator, job.policy)
        seconds = time.perf_counter() - start
    else:
        evaluation = evaluator(job.policy)
        found = {"accuracy": evaluation.accuracy, "diverged": evaluation.diverged}
        seconds = evaluation.seconds
    return {
        "number": job.number,
        "fidelity": job.fidelity,
        **found,
        "seconds": seconds,
        "setup": setup,
        "costs": evaluator.costs.of(job.policy),
        "policy": job.policy.to_json(),
    }


def score_long(settings: ProxySettings, evaluator: Evaluator, policy: Policy) -> dict[str, Any]:
    """Accuracies after the long fine-tuning, on the images of the evaluations and on fresh ones."""
    try:
        small = evaluator.tuned(policy, settings.long_images, settings.learning_rate, settings.seed)
    except Diverged:
        return {"accuracy": 0.0, "fresh": 0.0, "diverged": True}
    judge = RUNTIMES["onnx"].judge(small, evaluator.graph.input_shape)
    same, fresh = (
        validate(judge, evaluator.images[which], evaluator.dataset) for which in ("reward", "fresh")
    )
    return {"accuracy": same.quality, "fresh": fresh.quality, "diverged": False}


@lru_cache(maxsize=1)
def evaluator_of(settings: ProxySettings, fidelity: str) -> tuple[Evaluator, float]:
    """The evaluator of a fidelity, with everything compiled, and the seconds that this took,
    those of a shared network that is read back included.

    The long fine-tuning begins without a repair, the same as none of them.
    """
    start = time.perf_counter()
    dataset, graph = load_network(settings.model, settings.data, str(settings.weights))
    kind: Any = "finetune" if fidelity == LONG else fidelity
    config = EpisodeConfig(
        kind, search_images=settings.search_images, supernet_steps=settings.supernet_steps
    )
    # For the shared network, which lies beside it for the next start and other processes.
    cache = settings.out / "supernet.cache" if fidelity == "supernet" else None
    evaluator = Evaluator(
        graph,
        dataset,
        CostModel(graph),
        config,
        settings.seed,
        quantized=False,
        recipe=PLAIN if fidelity == LONG else REPAIRED,
        cache=cache,
    )
    if fidelity != LONG:
        evaluator(Policy.uniform(graph, 0.5, round_to=settings.round_to))
    return evaluator, time.perf_counter() - start + evaluator.spent_before


def identity(settings: ProxySettings) -> dict[str, Any]:
    """All that decides about a line, as plain data."""
    plain = dataclasses.asdict(settings)
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in plain.items()
        if name not in FREE
    }


def _check(settings: ProxySettings) -> None:
    names = settings.fidelities
    if not names or len(set(names)) != len(names):
        raise SettingsError(f"fidelities are different ones, at least one; got {list(names)}")
    for name, least in LEAST.items():
        if getattr(settings, name) < least:
            raise SettingsError(
                f"{name} is a whole number from {least}, got {getattr(settings, name)}"
            )
    if settings.target.startswith("latency"):
        raise SettingsError(
            "policies of equal latency are not drawn; give macs, params, bytes or bops"
        )


def _keep_settings(settings: ProxySettings) -> None:
    """Write the settings beside the lines, or see to it that they are those of the lines."""
    path, now = settings.out / "config.json", identity(settings)
    if not path.exists():
        write_json(path, {"settings": now})
        return
    try:
        before: Mapping[str, Any] = json.loads(path.read_text())["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path} is damaged ({error}); choose another --out") from error
    for name, value in now.items():
        if before.get(name) != value:
            raise SettingsError(
                f"{settings.out} holds a study with other settings: {name} was"
                f" {before.get(name)!r}, now it is {value!r}; give the same ones, or choose"
                " another --out"
            )


def _check_policies(lines: Sequence[Line], policies: Sequence[Policy], history: Path) -> None:
    """That recorded policies are those that are drawn now, as far as that many are drawn."""
    drawn = [policy.to_json() for policy in policies]
    for line in lines:
        number = line["number"]
        if number < len(drawn) and line["policy"] != drawn[number]:
            raise FileError(
                f"{history} has another policy number {number} than is drawn now;"
                " choose another --out"
            )
