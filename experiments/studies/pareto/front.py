"""``pfrl pareto``: several wishes at once, by a search at each of several limits of one metric.

Every search has the same purse, and all share one cache of evaluations. The best few of each are
trained for longer and judged on images that no reward has used, for the best of many is
flattered by what chose it. Of these, the ones stay that no other beats in accuracy, latency and
bytes. The test split is not opened: it is for the one that is picked.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from envs import NetworkTask, Problem
from envs.decisions import Decisions
from envs.task import load_network, read_latency
from experiments.records.run_folder import RunFolder, command, versions
from experiments.run.choose import Candidate, find_candidates
from experiments.run.compression import LATENCY_FILE, check
from experiments.run.latency import measure_latency
from experiments.run.search import Searched, make_problem, search
from experiments.settings.blocks import SettingsError
from experiments.settings.compression import CompressSettings
from experiments.studies.pareto.report import write_pareto_report
from experiments.studies.pareto.settings import ParetoSettings
from experiments.watch.progress import stage
from pfrl.compression.policy import Policy
from pfrl.cost import CostModel
from pfrl.evaluation.evaluator import Evaluator
from pfrl.files import read_json, write_json
from pfrl.graph import Graph

Entry = dict[str, Any]

WISHES = ("latency", "bytes")
"""Costs that the front weighs against the accuracy, as far as they are known."""


def run(settings: ParetoSettings) -> list[Path]:
    """Do what is left of the searches, and write the front.

    Returns the paths of the table and, where a row was picked, of its policy.

    Raises:
      ValueError: a subclass with a sentence for the user, if something that was given is wrong.
    """
    searches = [settings.at(limit) for limit in sorted(settings.limits)]
    weights = check(searches[0])
    _check_folder(settings)
    with stage("loading and tracing"):
        dataset, graph = load_network(settings.model, settings.data, str(weights))
    table = _latency_table(settings, searches, graph, weights)
    points: list[Entry] = []
    for each in searches:
        points += _points(each, settings, weights, table)
    base = _base(settings, searches[0], weights, table)
    points = _distinct(points)
    rows = _in_order(front(points, base["costs"]), points, settings.metric)
    policy = None
    if settings.pick is not None:
        if settings.pick > len(rows):
            raise SettingsError(f"there is no row {settings.pick}; pick one of 1 to {len(rows)}")
        policy = settings.out / "policy.json"
        write_json(policy, points[rows[settings.pick - 1]]["policy"])
    result = {
        "model": settings.model,
        "data": settings.data,
        "task": dataset.task.wording._asdict(),
        "metric": settings.metric,
        "agent": settings.agent,
        "episodes": settings.episodes,
        "seed": settings.seed,
        "limits": sorted(settings.limits),
        "rescore_steps": settings.rescore_steps,
        "wishes": [name for name in WISHES if name in base["costs"]],
        "base": base,
        "points": points,
        "front": rows,
        "pick": settings.pick,
        "command": command(),
        "versions": versions(),
    }
    page = write_pareto_report(settings.out, result)
    return [page] if policy is None else [policy, page]


def front(points: Sequence[Entry], known: Any) -> list[int]:
    """Places of the points that no other beats.

    One beats another if it is nowhere worse in accuracy and the costs of ``WISHES`` that are
    ``known``, and somewhere better. Of equal ones the first stays.
    """

    def merits(point: Entry) -> list[float]:
        costs = [-point["costs"][name] for name in WISHES if name in known]
        return [point["fresh_accuracy"], *costs]

    def beaten(place: int) -> bool:
        own = merits(points[place])
        return any(
            all(theirs >= mine for theirs, mine in zip(other, own, strict=True))
            and (other != own or number < place)
            for number, other in enumerate(map(merits, points))
            if number != place
        )

    return [place for place in range(len(points)) if not beaten(place)]


def _check_folder(settings: ParetoSettings) -> None:
    begun = sorted(settings.out.glob("limit-*/config.json"))
    if begun and not settings.resume:
        raise SettingsError(
            f"{settings.out} already holds searches; go on with them with --resume, or choose"
            " another --out"
        )
    if begun and settings.latency != (settings.out / LATENCY_FILE).exists():
        kind = "without" if settings.latency else "with"
        raise SettingsError(
            f"the searches in {settings.out} were made {kind} latency; give the same settings, or"
            " choose another --out"
        )


def _latency_table(
    settings: ParetoSettings, searches: Sequence[CompressSettings], graph: Graph, weights: Path
) -> Path | None:
    """Where the latency model is, measured if it is not there yet; every limit can be met."""
    path, model = settings.out / LATENCY_FILE, None
    if settings.latency and path.exists():
        model = read_latency(graph, path)
    elif settings.latency:
        model = measure_latency(graph, settings.keep_min, settings.round_to, settings.seed)
    # Limits that cannot be met are refused before anything is written.
    costs = CostModel(graph, model, settings.recipe)
    for each in searches:
        Decisions(make_problem(each, weights, None), graph, costs)
    if model is None:
        return None
    if not path.exists():
        write_json(path, model.to_json())
    return path


def _problem(
    search_settings: CompressSettings, settings: ParetoSettings, weights: Path, table: Path | None
) -> Problem:
    """A problem whose task is that of all limits, so that they share evaluator and cache."""
    problem = make_problem(search_settings, weights, table)
    assert isinstance(problem.task, NetworkTask)
    cache = str(settings.out / "evaluations.sqlite")
    return replace(problem, task=replace(problem.task, cache=cache))


def _points(
    search_settings: CompressSettings, settings: ParetoSettings, weights: Path, table: Path | None
) -> list[Entry]:
    """The re-scored candidates of a limit; what an earlier start finished is read back."""
    folder = RunFolder(search_settings)
    points = folder.read("rescored.json")
    if points is not None:
        return points
    searched = search(search_settings, folder, _problem(search_settings, settings, weights, table))
    points = _rescore(search_settings, searched)
    write_json(folder.path / "rescored.json", points)
    return points


def _rescore(settings: CompressSettings, searched: Searched) -> list[Entry]:
    """The best of a search, and the uniform policy under the same limit."""
    runtime = searched.runtime
    evaluator = runtime.evaluate
    assert isinstance(evaluator, Evaluator)
    decisions = Decisions(searched.problem, runtime.graph, runtime.costs)
    uniform = decisions.uniform(decisions.limit).policy(runtime.graph)
    control = Candidate(None, uniform, evaluator(uniform))
    candidates = find_candidates(searched.result.history, settings.finish.candidates, control)
    points = []
    with stage("re-scoring candidates", noun="networks") as progress:
        for number, candidate in enumerate(candidates, 1):
            judged = evaluator.score(candidate.policy, "fresh", settings.finish.rescore_steps)
            if judged.finite:
                points.append(
                    {
                        "target": settings.target,
                        "episode": candidate.episode,
                        "search_accuracy": candidate.evaluation.accuracy,
                        "fresh_accuracy": judged.quality,
                        "costs": candidate.evaluation.costs,
                        "policy": candidate.policy.to_json(),
                    }
                )
            progress(number, len(candidates))
    return points


def _base(
    settings: ParetoSettings, any_search: CompressSettings, weights: Path, table: Path | None
) -> Entry:
    """The uncompressed network after the fine-tuning that all get."""
    path = settings.out / "base.json"
    if path.exists():
        return read_json(path)
    runtime = _problem(any_search, settings, weights, table).open()
    evaluator = runtime.evaluate
    assert isinstance(evaluator, Evaluator)
    whole = Policy.uniform(runtime.graph)
    with stage("scoring the base network"):
        judged = evaluator.score(whole, "fresh", settings.rescore_steps)
    images = len(judged.each)
    base = {"fresh_accuracy": judged.accuracy, "costs": runtime.costs.base, "images": images}
    write_json(path, base)
    return base


def _distinct(points: Sequence[Entry]) -> list[Entry]:
    """Without policies that a lower limit found as well."""
    found: dict[str, Entry] = {}
    for point in points:
        found.setdefault(str(point["policy"]), point)
    return list(found.values())


def _in_order(places: Sequence[int], points: Sequence[Entry], metric: str) -> list[int]:
    return sorted(places, key=lambda place: (points[place]["costs"][metric], place))
