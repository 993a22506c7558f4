"""``pfrl sweep``: searchers compared with equal evaluation budgets, over targets and seeds.

Every search makes the same number of evaluations of the same fidelity, and its best policy gets
the same fine-tuning before the test split sees it. A cache of evaluations saves time where
searchers meet; a hit costs one evaluation of the budget all the same.
"""

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from agents import AGENTS, load
from envs import NetworkTask, Problem
from envs.decisions import Decisions
from envs.knobs import KnobName, needed
from envs.task import load_network
from experiments.records.run_folder import RunFolder
from experiments.run.inputs import find_weights
from experiments.run.recorded import recorded_search
from experiments.settings.blocks import NetworkBlock, SettingsError
from experiments.studies.study import complete
from experiments.studies.sweep.table import write_results
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.cost import Budget, CostModel
from pfrl.deploy.runtimes.base import RUNTIMES
from pfrl.evaluation.base import Evaluator, Tuning
from pfrl.evaluation.config import EpisodeConfig
from pfrl.training.fit import mean_quality


@dataclass(frozen=True)
class SweepSettings:
    """Compare searchers with equal evaluation budgets, targets and seeds."""

    FREE: ClassVar = ("agents", "targets", "seeds", "workers", "out")
    """What may change when a sweep goes on."""

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
    knobs: tuple[KnobName, ...] = ("keep",)
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
    """Where histories, search.csv and search.md go. The same command goes on with what is
    there, and may ask for more agents, targets and seeds; another one is refused."""

    def __post_init__(self) -> None:
        for name in self.agents:
            _ = AGENTS[name]
        for name, least in (("episodes", 1), ("images", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} is a whole number from {least}")
        if not self.seeds or min(self.seeds) < 0:
            raise SettingsError("seeds are whole numbers from 0, at least one of them")


class Search(NamedTuple):
    """One job: a search."""

    target: str
    agent: str
    seed: int

    def folder(self, out: Path) -> Path:
        return out / self.target / self.agent / f"seed-{self.seed}"


def run(settings: SweepSettings) -> list[Path]:
    """Do what is left of the searches, and write the table of all.

    Returns:
      The paths of ``search.csv`` and ``search.md``.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that was given is wrong.
    """
    weights = find_weights(NetworkBlock(settings.model, settings.data, settings.weights))
    folder = RunFolder("sweep", settings, weights)
    _, graph = load_network(settings.model, settings.data, str(weights))
    costs = CostModel(graph, recipe=settings.recipe)
    for target in settings.targets:
        # A budget that cannot be met is refused before anything is written.
        Decisions(problem_of(settings, str(weights), target), graph, costs)
    work = partial(search, settings, str(weights))
    lines = complete(folder, plan(settings), work, settings.workers, "searches")
    return write_results(folder.path, lines, folder.facts)


def plan(settings: SweepSettings) -> list[Search]:
    """All searches, seed by seed, so that what is there early is a comparison already."""
    return [
        Search(target, agent, seed)
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
        quantized="quantized" in needed(settings.knobs),
        episode=settings.episode,
        recipe=settings.recipe,
        sparse="sparse" in needed(settings.knobs),
        cache=str(settings.out / "evaluations.sqlite"),
    )
    return Problem(
        task,
        settings.knobs,
        Budget.parse(target),
        keep_min=settings.keep_min,
        round_to=settings.round_to,
    )


def search(settings: SweepSettings, weights: str, job: Search) -> dict[str, Any]:
    """Search, fine-tune the best policy and test it: what the job's line says."""
    problem = problem_of(settings, weights, job.target)
    opened = problem.open()
    evaluator = opened.evaluator
    load(job.agent)
    hits, before, start = evaluator.hits, sum(evaluator.seconds.values()), time.perf_counter()
    episodes = 1 if AGENTS[job.agent].rule else settings.episodes
    found = recorded_search(
        job.agent, problem, episodes, job.seed, job.folder(settings.out) / "history.jsonl"
    )
    elapsed = time.perf_counter() - start
    evaluating = sum(evaluator.seconds.values()) - before
    best, decisions = found.best, Decisions(problem, opened.graph, opened.costs)
    return {
        "episodes": len(found.history),
        "best": best.index,
        "search_accuracy": best.evaluation.accuracy,
        "test_accuracy": test_accuracy(settings, evaluator, best.policy, job.seed),
        "cost": best.evaluation.costs[decisions.metric],
        "limit": decisions.limit,
        # As if nothing had been in the cache: an evaluation keeps the seconds that it took.
        "evaluation_seconds": sum(episode.evaluation.seconds for episode in found.history),
        # A search that goes on decides everything again, so this is of all its episodes.
        "agent_seconds": elapsed - evaluating,
        "hits": evaluator.hits - hits,
        "backend": evaluator.choice.backend,
    }


def test_accuracy(
    settings: SweepSettings, evaluator: Evaluator, policy: Policy, seed: int
) -> float:
    """Of a policy's network on the test split, after the fine-tuning that all get."""
    small = evaluator.network(policy, Tuning(settings.images, settings.learning_rate, seed))
    dataset = evaluator.dataset
    judge = small if small.quantized else RUNTIMES["onnx"].judge(small, evaluator.graph.input_shape)
    return mean_quality(judge, dataset, dataset.open_test())
