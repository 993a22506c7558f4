"""``pfrl pareto``: several objectives at once, by a search at each of several limits of one metric.

Every search has the same evaluation budget, and all share one cache of evaluations. The best few
of each are trained for longer and judged on images that no reward has used, for the best of many
is flattered by what chose it. Of these, the ones stay that no other beats in accuracy, latency and
bytes. The test split is not opened: it is for the one that is picked.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agents import AGENTS
from envs import Problem
from envs.decisions import Decisions
from envs.task import read_latency
from experiments.records.history import unbeaten
from experiments.records.run_folder import RunFolder
from experiments.run.choose import Candidate, find_candidates
from experiments.run.compression import LATENCY_FILE
from experiments.run.inputs import find_weights
from experiments.run.latency import measure_latency
from experiments.run.recorded import recorded_search
from experiments.settings.blocks import SettingsError
from experiments.studies.pareto.report import write_pareto_report
from experiments.studies.pareto.settings import ParetoSettings, folder_name
from experiments.studies.study import complete, judged_alike, problem_of, show_plan, task_of
from experiments.watch.progress import stage
from experiments.watch.summary import write_summary
from pfrl.compression.policy import Policy
from pfrl.files import write_json
from pfrl.graph import Graph

Entry = dict[str, Any]

OBJECTIVES = ("latency", "bytes")
"""Costs that the front weighs against the accuracy, as far as they are known."""


class Search(NamedTuple):
    """One job: the search at a limit; without one, the score of the base network."""

    limit: float | None


def run(settings: ParetoSettings) -> list[Path]:
    """Do what is left of the searches, and write the front.

    Returns:
      The paths of the table and, where a row was picked, of its policy before it.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that was given is wrong.
    """
    _ = AGENTS[settings.agent]
    weights = find_weights(settings.network)
    folder, limits = RunFolder("pareto", settings, weights), sorted(settings.limits)
    jobs = [Search(limit) for limit in (*limits, None)]
    if settings.launch.dry_run:
        show_plan(folder, jobs, settings.launch, "searches")
        return []
    with stage("loading and tracing"):
        dataset, graph = task_of(settings, str(weights)).network()
    _check_limits(settings, folder, graph, str(weights))
    alike = judged_alike(folder, task_of(settings, str(weights), settings.seed))
    work = partial(search, replace(settings, episode=alike), str(weights))
    lines = complete(folder, jobs, work, settings.launch, "searches")[: len(jobs)]
    base = lines[-1]["base"]
    points = _distinct([point for line in lines[:-1] for point in line["points"]])
    front = _front(points, base["costs"], settings.metric)
    policy = folder.path / "policy.json"
    if settings.pick is not None:
        if settings.pick > len(front):
            raise SettingsError(f"there is no row {settings.pick}; pick one of 1 to {len(front)}")
        write_json(policy, points[front[settings.pick - 1]]["policy"])
    result = {
        **folder.facts,
        "task": dataset.task.wording._asdict(),
        "limits": limits,
        "objectives": [name for name in OBJECTIVES if name in base["costs"]],
        "base": base,
        "points": points,
        "front": front,
        "pick": settings.pick,
    }
    if points:
        write_summary(folder.path)
    page = write_pareto_report(folder.path, result)
    return [page] if settings.pick is None else [policy, page]


def _check_limits(settings: ParetoSettings, folder: RunFolder, graph: Graph, weights: str) -> None:
    """See that every limit can be met; measure the latency model if it is not there yet.

    Raises:
      BudgetError: before anything is written, if a limit cannot be met.
    """
    path, model = settings.out / LATENCY_FILE, None
    known = folder.begun and path.exists()
    if settings.latency and known:
        model = read_latency(graph, path)
    elif settings.latency:
        model = measure_latency(
            graph, settings.space.keep_min, settings.space.round_to, settings.seed
        )
    costs = task_of(settings, weights).costs(graph, model)
    for limit in settings.limits:
        Decisions(_problem(settings, weights, limit), graph, costs)
    if model is not None and not known:
        folder.begin()
        write_json(path, model.to_json())


def _problem(settings: ParetoSettings, weights: str, limit: float) -> Problem:
    table = settings.out / LATENCY_FILE if settings.latency else None
    target = f"{settings.metric}={limit:g}"
    return problem_of(settings, task_of(settings, weights, settings.seed, table), target)


def search(settings: ParetoSettings, weights: str, job: Search) -> dict[str, Any]:
    """What a job's line says: the re-scored candidates of a limit, or the base network's score."""
    problem = _problem(settings, weights, settings.limits[0] if job.limit is None else job.limit)
    opened = problem.open()
    evaluator = opened.evaluator
    if job.limit is None:
        whole = Policy.uniform(opened.graph)
        judged = evaluator.score(whole, "held_out", settings.rescore_steps)
        images, costs = len(judged.each), opened.costs.base
        return {"base": {"held_out_accuracy": judged.quality, "costs": costs, "images": images}}
    folder = settings.out / folder_name(job.limit)
    history = folder / "history.jsonl"
    run = folder / settings.agent / f"seed-{settings.seed}"
    found = recorded_search(
        settings.agent, problem, settings.episodes, settings.seed, history, tensorboard=run
    )
    decisions = Decisions(problem, opened.graph, opened.costs)
    uniform = decisions.uniform(decisions.limit).policy(opened.graph)
    control = Candidate(None, uniform, evaluator.evaluate(uniform))
    points = []
    for candidate in find_candidates(found.history, settings.candidates, control):
        judged = evaluator.score(candidate.policy, "held_out", settings.rescore_steps)
        if judged.finite:
            points.append(
                {
                    "target": f"{settings.metric}={job.limit:g}",
                    "episode": candidate.episode,
                    "search_accuracy": candidate.evaluation.accuracy,
                    "held_out_accuracy": judged.quality,
                    "costs": candidate.evaluation.costs,
                    "policy": candidate.policy.to_json(),
                }
            )
    return {"folder": folder.name, "points": points}


def _front(points: Sequence[Entry], known: Any, metric: str) -> list[int]:
    """Places of the points that no other beats in accuracy and costs, cheapest first."""
    objectives = [name for name in OBJECTIVES if name in known]
    merits = [
        (point["held_out_accuracy"], *(-point["costs"][name] for name in objectives))
        for point in points
    ]
    return sorted(unbeaten(merits), key=lambda place: (points[place]["costs"][metric], place))


def _distinct(points: Sequence[Entry]) -> list[Entry]:
    """Without policies that a lower limit found as well."""
    found: dict[str, Entry] = {}
    for point in points:
        found.setdefault(str(point["policy"]), point)
    return list(found.values())
