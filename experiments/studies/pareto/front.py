"""``pfrl pareto``: several objectives at once, by a search at each of several limits of one metric.

Every search has the same evaluation budget, and all share one cache of evaluations. The best few
of each are trained for longer and judged on images that no reward has used, for the best of many
is flattered by what chose it. Of these, the ones stay that no other beats in accuracy, latency and
bytes. The test split is not opened: it is for the one that is picked.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agents import AGENTS, Episode, SearchResult
from envs import Problem
from envs.decisions import Decisions
from experiments.records.history import unbeaten
from experiments.records.run_folder import RunFolder, write_base
from experiments.run.base_network import introduce
from experiments.run.choose import Candidate, find_candidates
from experiments.run.inputs import agent_options, find_weights
from experiments.run.latency import LATENCY_FILE
from experiments.run.recorded import recorded_search
from experiments.settings.blocks import SettingsError
from experiments.studies.pareto.limits import PLAN, Answer, answers, feasible, grid
from experiments.studies.pareto.report import write_pareto_report
from experiments.studies.pareto.settings import ParetoSettings, folder_name
from experiments.studies.study import (
    complete,
    judged_alike,
    keep_latency,
    latency_of,
    problem_of,
    show_plan,
    task_of,
)
from experiments.watch.progress import stage
from experiments.watch.summary import write_summary
from pfrl.compression.policy import Policy
from pfrl.files import write_json, write_text
from pfrl.graph import Graph

Entry = dict[str, Any]

OBJECTIVES = ("latency", "bytes")
"""Costs that the front weighs against the accuracy, as far as they are known."""


EVERY = "every-limit"
"""The job of one search for all limits, and its folder."""


class Search(NamedTuple):
    """One job: the search at a limit, or ``EVERY``; None is the score of the base network."""

    limit: float | str | None


def run(settings: ParetoSettings) -> list[Path]:
    """Do what is left of the searches, and write the front.

    Returns:
      The paths of the table and, where a row was picked, of its policy before it.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that was given is wrong.
    """
    _, agent = agent_options(settings.agent, settings.portable, None), AGENTS[settings.agent]
    one = settings.one_search and agent.every_limit and len(settings.limits) > 1
    settings = replace(settings, one_search=one)
    weights = find_weights(settings.network)
    folder, limits = RunFolder("pareto", settings, weights), sorted(settings.limits)
    searched = (EVERY,) if settings.one_search else limits
    jobs = [Search(limit) for limit in (*searched, None)]
    if settings.launch.dry_run:
        show_plan(folder, jobs, settings.launch, "searches")
        return []
    with stage("loading and tracing"):
        dataset, graph = task_of(settings, str(weights)).network()
    introduce(dataset, graph, settings.network.model)
    _check_limits(settings, folder, graph, str(weights))
    if settings.one_search:
        _check_same_limits(settings, folder)
    alike = judged_alike(folder, task_of(settings, str(weights), settings.seed))
    work = partial(search, replace(settings, episode=alike), str(weights))
    lines = complete(folder, jobs, work, settings.launch, "searches")[: len(jobs)]
    base = lines[-1]["base"]
    write_base(folder, base["costs"], base.get("search_accuracy"))
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
    task, model = task_of(settings, weights), None
    if settings.latency:
        model = latency_of(settings, folder, graph, task, settings.seed)
    problems = [_problem(settings, weights, limit) for limit in settings.limits]
    costs = task.counting(*(problem.budget for problem in problems)).costs(graph, model)
    for problem in problems:
        Decisions(problem, graph, costs)
    if model is not None:
        keep_latency(folder, model)


def _check_same_limits(settings: ParetoSettings, folder: RunFolder) -> None:
    limits = sorted(settings.limits)
    folder.begin()
    if (before := folder.kept("limits.json", lambda: limits)) != limits:
        raise SettingsError(
            f"{folder.path} has one search for the limits {before}; give these, or another folder"
            " with --out (to add limits later, begin with --no-one-search)"
        )


def _problem(settings: ParetoSettings, weights: str, limit: float) -> Problem:
    table = settings.out / LATENCY_FILE if settings.latency else None
    target = f"{settings.metric}={limit:g}"
    return problem_of(settings, task_of(settings, weights, settings.seed, table), target)


def search(settings: ParetoSettings, weights: str, job: Search) -> dict[str, Any]:
    """What a job's line says: the re-scored candidates of a limit, or the base network's score.

    Args:
      settings: of the study.
      weights: path of the base network's arrays.
      job: the limit; None is the base network.
    """
    limit = job.limit if isinstance(job.limit, float) else min(settings.limits)
    problem = _problem(settings, weights, limit)
    opened = problem.open()
    evaluator = opened.evaluator
    if job.limit is None:
        whole = Policy.uniform(opened.graph)
        judged = evaluator.score(whole, "held_out", settings.rescore_steps)
        images, costs = len(judged.each), opened.costs.base
        score = {"held_out_accuracy": judged.quality, "search_accuracy": opened.base_accuracy}
        return {"base": {**score, "costs": costs, "images": images}}
    if job.limit != EVERY:
        folder = settings.out / folder_name(limit)
        found = _recorded(settings, problem, folder, settings.episodes)
        return {
            "folder": folder.name,
            "points": _points(settings, problem, limit, found.history),
        }
    between = min(settings.limits), max(settings.limits)
    every, folder = replace(problem, limits=between), settings.out / EVERY
    found = _recorded(settings, every, folder, settings.episodes * len(settings.limits))
    planned = answers(found, every, grid(between), plan=True)
    write_text(folder / "answers.jsonl", "".join(json.dumps(a.to_json()) + "\n" for a in planned))
    points = []
    for limit in sorted(settings.limits):
        own = _problem(settings, weights, limit)
        most = limit * opened.costs.base[settings.metric]
        history = feasible(found.history, settings.metric, most, settings.candidates)
        points += _points(settings, own, limit, history, answers(found, every, [limit], plan=True))
    return {"folder": folder.name, "points": points}


def _recorded(
    settings: ParetoSettings, problem: Problem, folder: Path, episodes: int
) -> SearchResult:
    history = folder / "history.jsonl"
    run = folder / settings.agent / f"seed-{settings.seed}"
    return recorded_search(
        settings.agent,
        problem,
        episodes,
        settings.seed,
        history,
        tensorboard=run,
        options=agent_options(settings.agent, settings.portable, None),
    )


def _points(
    settings: ParetoSettings,
    problem: Problem,
    limit: float,
    history: Sequence[Episode],
    planned: Sequence[Answer] = (),
) -> list[Entry]:
    """The best of a search, the uniform policy and what an agent plans, scored again."""
    opened = problem.open()
    evaluator = opened.evaluator
    decisions = Decisions(problem, opened.graph, opened.costs)
    uniform = decisions.uniform(decisions.limit).policy(opened.graph)
    control = Candidate(None, uniform, evaluator.evaluate(uniform))
    rows: list[tuple[int | str | None, Policy, float | None, Any]] = [
        (c.episode, c.policy, c.evaluation.accuracy, c.evaluation.costs)
        for c in find_candidates(history, settings.candidates, control)
    ]
    rows += [(PLAN, answer.policy, None, answer.costs) for answer in planned]
    points = []
    for episode, policy, accuracy, costs in rows:
        judged = evaluator.score(policy, "held_out", settings.rescore_steps)
        if judged.finite:
            points.append(
                {
                    "target": f"{settings.metric}={limit:g}",
                    "episode": episode,
                    "search_accuracy": accuracy,
                    "held_out_accuracy": judged.quality,
                    "costs": costs,
                    "policy": policy.to_json(),
                }
            )
    return points


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
