"""``pfrl sweep``: searchers compared with equal evaluation budgets, over targets and seeds.

Every search makes the same number of evaluations of the same fidelity, and its best policy gets
the same fine-tuning before the test split sees it. A cache of evaluations saves time where
searchers meet; a hit costs one evaluation of the budget all the same.
"""

from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from agents import AGENTS, load
from envs import NetworkTask, Problem
from envs.decisions import Decisions
from envs.rewards import REWARDS
from experiments.records.run_folder import RunFolder, write_base
from experiments.run.base_network import introduce
from experiments.run.inputs import find_weights
from experiments.run.latency import LATENCY_FILE
from experiments.run.recorded import recorded_search
from experiments.studies.study import (
    complete,
    judged_alike,
    keep_latency,
    latency_of,
    problem_of,
    show_plan,
    task_of,
)
from experiments.studies.sweep.curves import Curve
from experiments.studies.sweep.pace import seconds_of
from experiments.studies.sweep.settings import SweepSettings
from experiments.studies.sweep.table import write_results
from experiments.watch.progress import stage
from experiments.watch.runs import tell_tuning
from experiments.watch.summary import write_summary
from pfrl.compression.policy import Policy
from pfrl.cost import Budget
from pfrl.cpu.backend import answering
from pfrl.deploy.runtimes.base import RUNTIMES
from pfrl.evaluation.base import Evaluator, Tuning
from pfrl.tasks.outputs import as_one
from pfrl.training.fit import mean_quality


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
      The paths of tables and the picture.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that was given is wrong.
    """
    for agent in settings.agents:
        _ = AGENTS[agent]
    weights = find_weights(settings.network)
    folder, jobs = RunFolder("sweep", settings, weights), plan(settings)
    task, model = task_of(settings, str(weights)), None
    with stage("loading and tracing"):
        dataset, graph = task.network()
    introduce(dataset, graph, settings.network.model)
    episode = task.suited(graph)
    settings.length.evaluations(episode.images_each(len(dataset.search)))
    budgets = [*map(Budget.parse, settings.targets)]
    if _reads_latency(settings):
        model = latency_of(settings, folder, graph, task)
    costs = task.counting(*budgets).costs(graph, model)
    for target in settings.targets:
        # A budget that cannot be met is refused before anything is written.
        Decisions(problem_of(settings, task, target, settings.reward), graph, costs)
    if settings.launch.dry_run:
        show_plan(
            folder,
            jobs,
            settings.launch,
            "searches",
            lambda job: seconds_of(settings, str(weights), job.agent),
        )
        return []
    if model is not None:
        keep_latency(folder, model)
    settings = replace(settings, episode=judged_alike(folder, _task(settings, str(weights))))
    work = partial(search, settings, str(weights))
    lines = complete(folder, jobs, work, settings.launch, "searches")
    write_base(folder, costs.base, None)
    write_summary(folder.path)
    return write_results(folder.path, lines, folder.facts)


def plan(settings: SweepSettings) -> list[Search]:
    """All searches, seed by seed, so that what is there early is a comparison already."""
    return [
        Search(target, agent, seed)
        for seed in settings.seeds
        for target in settings.targets
        for agent in settings.agents
    ]


def search(settings: SweepSettings, weights: str, job: Search) -> dict[str, Any]:
    """Search, fine-tune the best policy and test it.

    Args:
      settings: of the sweep.
      weights: path of the base network's arrays.
      job: the target, the agent and the seed.

    Returns:
      what the job's line says: the best episode's accuracies on search and test images and its
      cost, seconds of the evaluations and of the agent, and the curve of the best so far.
    """
    problem = problem_of(settings, _task(settings, weights), job.target, settings.reward)
    return searched(settings, problem, job.agent, job.seed, job.folder(settings.out))


def _reads_latency(settings: SweepSettings) -> bool:
    """Whether a search reads predicted latencies: a model of them is measured then."""
    needed = "latency" in REWARDS[settings.reward].needs
    return needed or any(Budget.parse(target).needs_latency for target in settings.targets)


def _task(settings: SweepSettings, weights: str) -> NetworkTask:
    """The task of all searches, with the latency model of the folder where one of them reads it."""
    table = settings.out / LATENCY_FILE if _reads_latency(settings) else None
    return task_of(settings, weights, latency=table)


def searched(
    settings: SweepSettings,
    problem: Problem,
    agent: str,
    seed: int,
    folder: Path,
    options: Any = None,
) -> dict[str, Any]:
    """A search from its first episode to the test of its best policy, as a line says it.

    Args:
      settings: ``length``, and how the best policy is fine-tuned.
      problem: what is searched.
      agent, seed, options: as of ``agents.search``.
      folder: of its history; a search that was stopped goes on from there.
    """
    opened = problem.open()
    evaluator = opened.evaluator
    load(agent)
    compile_before(problem)
    hits, curve = evaluator.hits, Curve(evaluator)
    length = settings.length.evaluations(evaluator.images_each)
    episodes = 1 if AGENTS[agent].rule else length
    history = folder / "history.jsonl"
    found = recorded_search(agent, problem, episodes, seed, history, curve.episode, folder, options)
    # A search that goes on decides everything again, so this is of all its episodes.
    outside, points = curve.outside, curve.ended()
    best, decisions = found.best, Decisions(problem, opened.graph, opened.costs)
    return {
        "folder": folder.relative_to(settings.out).as_posix(),
        "episodes": len(found.history),
        "best": best.index,
        "search_accuracy": best.evaluation.accuracy,
        "test_accuracy": test_accuracy(settings, evaluator, best.policy, seed, folder),
        "cost": best.evaluation.costs[decisions.metric],
        "limit": decisions.limit,
        # As if nothing had been in the cache: an evaluation keeps the seconds that it took.
        "evaluation_seconds": sum(episode.evaluation.seconds for episode in found.history),
        "agent_seconds": outside,
        "images": points[-1].images,
        "curve": points,
        "hits": evaluator.hits - hits,
        "runtime": evaluator.choice.runtime,
    }


@lru_cache(maxsize=4)
def compile_before(problem: Problem) -> None:
    """Evaluate once in a process, so that no search pays for what all of them need compiled."""
    opened = problem.open()
    opened.evaluator.score(Policy.uniform(opened.graph), "reward")


def test_accuracy(
    settings: SweepSettings, evaluator: Evaluator, policy: Policy, seed: int, folder: Path
) -> float:
    """Mean quality of a policy's network on the test split, in [0, 1].

    Args:
      settings: how long every best policy of the sweep is fine-tuned.
      evaluator: prepares and fine-tunes, and has the data.
      policy: of the network.
      seed: of the fine-tuning's batches.
      folder: of the search; a fine-tuning that was stopped goes on from there.

    Raises:
      Diverged: if the loss of the fine-tuning is no number.
    """
    images, learning_rate = settings.tuning_images, settings.learning_rate
    tuning = Tuning(images, learning_rate, seed, tell_tuning, folder / "tuning.npz")
    small = evaluator.network(policy, tuning)
    dataset = evaluator.dataset
    if small.quantized:
        judge = answering(lambda x: as_one(small(x)))
    else:
        judge = RUNTIMES["onnx"].judge(small, evaluator.graph.input_shape)
    return mean_quality(judge, dataset, dataset.open_test())
