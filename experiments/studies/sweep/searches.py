"""``pfrl sweep``: searchers compared from the same purse, over budgets and seeds, resumable.

Every search makes the same number of evaluations of the same fidelity, and its best policy gets
the same fine-tuning before the test split sees it. A cache of evaluations saves time where
searchers meet; a hit costs one evaluation of the purse all the same.
"""

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agents import AGENTS, AgentError, load
from envs import NetworkTask, Problem
from envs.decisions import Decisions
from envs.task import load_network
from experiments.records.history import best_so_far
from experiments.records.lines import append_line, mend_lines
from experiments.records.machine import machine
from experiments.records.run_folder import command, versions
from experiments.run.compression import find_weights
from experiments.run.recorded import recorded_search
from experiments.settings.blocks import NetworkBlock, SettingsError
from experiments.studies.sweep.table import FIXED, write_results
from experiments.studies.workers import share_out
from experiments.watch.progress import stage
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.cost import Budget, CostModel
from pfrl.cpu import cores
from pfrl.deploy.runtimes.base import RUNTIMES
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.evaluator import Evaluator
from pfrl.files import read_json, write_json
from pfrl.training.fit import mean_quality


@dataclass(frozen=True)
class SweepSettings:
    """Compare searchers from the same purse: the same evaluations, budgets and seeds."""

    model: str = "resnet20"
    """A network of the zoo."""
    data: str = "cifar10"
    """Data set: digits, fashion_mnist, cifar10 or imagefolder:PATH (a folder or .zip)."""
    weights: Path | None = None
    """Trained weights (.npz). Default: those that come with the package for this model and data."""
    agents: tuple[str, ...] = ("uniform", "random", "ddpg", "ppo")
    """Who searches."""
    targets: tuple[str, ...] = ("macs=0.5",)
    """Budgets, as of 'pfrl compress'."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of the searches, and of the fine-tuning of what they find."""
    episodes: int = 150
    """Evaluations of every search."""
    knobs: tuple[str, ...] = ("keep",)
    """What is decided at every layer."""
    keep_min: float = 0.2
    """Smallest share of a group's channels that a policy may keep, before rounding."""
    round_to: int = 1
    """Kept channels are a multiple of this."""
    episode: EpisodeConfig = field(default_factory=lambda: EpisodeConfig(fidelity="reconstruct"))
    """What one evaluation does."""
    recipe: Recipe = REPAIRED
    """By which methods a policy is carried out."""
    images: int = 6_000
    """Training images of the fine-tuning before the test."""
    learning_rate: float = 0.02
    """Learning rate that the fine-tuning begins with."""
    workers: int = 0
    """Processes, each on a core of its own. Default: one a core."""
    out: Path = Path("runs/sweep")
    """Where histories, search.csv and search.md go; what is there already is not done again."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.agents if name not in AGENTS]
        if unknown:
            raise AgentError(f"unknown agent '{unknown[0]}'; expected some of {', '.join(AGENTS)}")
        for name, least in (("episodes", 1), ("images", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} is a whole number from {least}")
        if not self.seeds or min(self.seeds) < 0:
            raise SettingsError("seeds are whole numbers from 0, at least one of them")


class Job(NamedTuple):
    """One search."""

    target: str
    agent: str
    seed: int

    def folder(self, out: Path) -> Path:
        return out / self.target / self.agent / f"seed-{self.seed}"


def run(settings: SweepSettings) -> list[Path]:
    """Do what is left of the searches, and write the table of all.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that was given is wrong.
    """
    weights = find_weights(NetworkBlock(settings.model, settings.data, settings.weights))
    jobs = plan(settings)
    _, graph = load_network(settings.model, settings.data, str(weights))
    costs = CostModel(graph, recipe=settings.recipe)
    for target in settings.targets:
        # A budget that cannot be met is refused before anything is written.
        Decisions(problem_of(settings, str(weights), target), graph, costs)
    results = settings.out / "results.jsonl"
    done = {Job(line["target"], line["agent"], line["seed"]) for line in mend_lines(results)}
    left = [job for job in jobs if job not in done]
    settings.out.mkdir(parents=True, exist_ok=True)
    _record(settings.out / "config.json")
    workers = min(settings.workers or len(cores()), max(len(left), 1))
    with stage(f"{len(left)} of {len(jobs)} searches") as progress:
        search = partial(search_job, settings, str(weights))
        for number, line in enumerate(share_out(search, left, workers), 1):
            append_line(results, line)
            progress(number, len(left))
    return write_results(settings.out)


def _record(path: Path) -> None:
    """Add this command to those that filled the folder, and the machine that it ran on."""
    facts = read_json(path) if path.exists() else {"commands": [], "versions": versions()}
    if command() not in facts["commands"]:
        facts["commands"].append(command())
    write_json(path, facts | {"machine": machine()})


def plan(settings: SweepSettings) -> list[Job]:
    """All searches, seed by seed, so that what is there early is a comparison already."""
    return [
        Job(target, agent, seed)
        for seed in settings.seeds
        for target in settings.targets
        for agent in settings.agents
    ]


def problem_of(settings: SweepSettings, weights: str, target: str) -> Problem:
    """The problem of one budget; searchers of one sweep share its evaluations."""
    task = NetworkTask(
        settings.model,
        settings.data,
        weights,
        quantized=bool({"weight_bits", "act_bits"} & set(settings.knobs)),
        episode=settings.episode,
        recipe=settings.recipe,
        sparse="sparsity" in settings.knobs,
        cache=str(settings.out / "evaluations.sqlite"),
    )
    return Problem(
        task,
        settings.knobs,
        Budget.parse(target),
        keep_min=settings.keep_min,
        round_to=settings.round_to,
    )


def search_job(settings: SweepSettings, weights: str, job: Job) -> dict[str, Any]:
    """Search, fine-tune the best policy and test it; the line of ``results.jsonl``."""
    problem = problem_of(settings, weights, job.target)
    runtime = problem.open()
    evaluator = runtime.evaluate
    assert isinstance(evaluator, Evaluator)
    load(job.agent)
    hits, before, start = evaluator.hits, sum(evaluator.seconds.values()), time.perf_counter()
    lines = recorded_search(
        job.agent,
        problem,
        1 if job.agent in FIXED else settings.episodes,
        job.seed,
        job.folder(settings.out) / "history.jsonl",
    )
    elapsed = time.perf_counter() - start
    evaluating = sum(evaluator.seconds.values()) - before
    best = best_so_far(lines)[-1]
    place = 0 if best is None else best
    policy = Policy.from_json(lines[place]["policy"])
    decisions = Decisions(problem, runtime.graph, runtime.costs)
    return {
        **job._asdict(),
        "episodes": len(lines),
        "best": place,
        "search_accuracy": lines[place]["accuracy"],
        "test_accuracy": test_accuracy(settings, evaluator, policy, job.seed),
        "cost": lines[place]["costs"][decisions.metric],
        "limit": decisions.limit,
        # As if nothing had been in the cache: an evaluation keeps the seconds that it took.
        "evaluation_seconds": sum(line["seconds"] for line in lines),
        # A search that is resumed decides everything again, so this is of all its episodes.
        "agent_seconds": elapsed - evaluating,
        "hits": evaluator.hits - hits,
        "backend": evaluator.choice.backend,
    }


def test_accuracy(
    settings: SweepSettings, evaluator: Evaluator, policy: Policy, seed: int
) -> float:
    """Of a policy's network on the test split, after the fine-tuning that all get."""
    small = evaluator.tuned(policy, settings.images, settings.learning_rate, seed)
    dataset = evaluator.dataset
    judge = small if small.quantized else RUNTIMES["onnx"].judge(small, evaluator.graph.input_shape)
    return mean_quality(judge, dataset, dataset.open_test())
