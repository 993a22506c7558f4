"""``pfrl pick``: a policy for a limit, or for a loss, from what a finished run or study knows.

Nothing is computed: what the episodes evaluated is in ``history.jsonl``, and what an agent that was
trained for every limit plans is in ``answers.jsonl``, for limits that lie close together.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.records.history import is_whole, read_history
from experiments.records.run_folder import BASE
from experiments.records.wording import cost, noun_of, percent
from experiments.settings.blocks import SettingsError
from experiments.studies.pareto.settings import PickSettings
from experiments.watch.progress import tell
from pfrl.cost.budget import Budget
from pfrl.files import FileError, check_folders, read_json, write_json

ANSWERS = "answers.jsonl"


class Known(NamedTuple):
    """A policy of a run.

    Attributes:
      place: the search's folder, below the run's.
      who: 'episode 12', or 'the plan of the agent'.
      accuracy: on the search images after an episode's training; None if nobody evaluated it.
      costs: by metric.
      policy: plain data.
    """

    place: str
    who: str
    accuracy: float | None
    costs: Mapping[str, float]
    policy: Any


def run(settings: PickSettings) -> list[Path]:
    """Write the policy, and say in a sentence what it is and what is known of it.

    Raises:
      SettingsError, FileError, BudgetError: with a sentence for the user, if the folder is not
        there, holds no search, or nothing that meets what is asked for.
    """
    check_folders(settings.run_dir)
    metric, limit = _limit(settings)
    base = _base(settings.run_dir)
    if base is None and (settings.max_drop is not None or limit is None or limit.relative):
        raise FileError(
            f"{settings.run_dir} has no {BASE} with the base network's costs, as a finished run"
            " has; start its command again, or give an absolute target"
        )
    base = base or {"costs": {metric: None}, "accuracy": None}
    if metric not in base["costs"]:
        raise SettingsError(f"{settings.run_dir} has no cost of the metric {metric}")
    most = math.inf if limit is None else limit.limit(base["costs"])
    known = [each for each in _known(settings) if each.costs.get(metric, math.inf) <= most]
    if settings.max_drop is None:
        if not known:
            raise SettingsError(
                f"{settings.run_dir} knows no policy with {limit}; the least that it may be asked"
                " for is what its searches were given"
            )
        chosen = max(known, key=lambda each: _merit(each, metric))
    else:
        chosen = _cheapest(settings, known, base["accuracy"], metric)
    path = settings.out or settings.run_dir / "picked" / "policy.json"
    write_json(path, chosen.policy)
    tell(_sentence(chosen, metric, base, path))
    return [path]


def _limit(settings: PickSettings) -> tuple[str, Budget | None]:
    if "=" in settings.target:
        budget = Budget.parse(settings.target)
        return budget.metric, budget
    return Budget.parse(f"{settings.target}=1").metric, None


def _merit(known: Known, metric: str) -> tuple[float, float]:
    """What is evaluated goes by its quality; of plans the one for the highest limit."""
    if known.accuracy is None:
        return 0.0, known.costs[metric]
    return known.accuracy, -known.costs[metric]


def _cheapest(
    settings: PickSettings, known: list[Known], accuracy: float | None, metric: str
) -> Known:
    if accuracy is None:
        raise SettingsError(
            f"{settings.run_dir} does not say how good the base network is on the search images;"
            " pick from a run of compress or pareto, or give a limit as --target"
        )
    least = accuracy - (settings.max_drop or 0.0) / 100
    good = [each for each in known if each.accuracy is not None and each.accuracy >= least]
    if not good:
        best = max((each.accuracy or 0.0 for each in known), default=0.0)
        raise SettingsError(
            f"no policy of {settings.run_dir} that was evaluated is within"
            f" {settings.max_drop:g} points of the base network's {percent(accuracy)}; the best"
            f" has {percent(best)}"
        )
    return min(good, key=lambda each: (each.costs[metric], -(each.accuracy or 0.0)))


def _known(settings: PickSettings) -> Iterator[Known]:
    """The policies that may be chosen: plans only where they are wanted."""
    run_dir, found = settings.run_dir, False
    if settings.plan and settings.max_drop is None:
        for path in sorted(run_dir.rglob(ANSWERS)):
            for text in path.read_text().splitlines():
                line, found = json.loads(text), True
                yield Known(
                    _place(path, run_dir), "the plan of the agent", None, line["costs"],
                    line["policy"],
                )  # fmt: skip
        if not found:
            raise SettingsError(
                f"{run_dir} has no agent that was trained for every limit; leave out --plan, or"
                " train one with pfrl pareto"
            )
        return
    for path in sorted(run_dir.rglob("history.jsonl")):
        for line in filter(is_whole, read_history(path)):
            found = True
            yield Known(
                _place(path, run_dir), f"episode {line['episode']}", line["accuracy"],
                line["costs"], line["policy"],
            )  # fmt: skip
    if not found:
        raise FileError(f"{run_dir} holds no search; expected the folder of a run or of a study")


def _place(path: Path, run_dir: Path) -> str:
    return str(path.parent.relative_to(run_dir))


def _base(run_dir: Path) -> Any:
    """What the first ``BASE`` in the folder holds."""
    found = sorted(run_dir.rglob(BASE), key=lambda path: len(path.parts))
    return read_json(found[0]) if found else None


def _sentence(chosen: Known, metric: str, base: Any, path: Path) -> str:
    spent = chosen.costs[metric]
    share = base["costs"].get(metric)
    told = cost(metric, spent) + (f" ({percent(spent / share)} of the base)" if share else "")
    where = "" if chosen.place == "." else f" in {chosen.place}"
    if chosen.accuracy is None:
        known = "nobody has evaluated it: the agent decided it from what it learned at other limits"
    else:
        known = (
            f"its quality was {percent(chosen.accuracy)} on the search images after an episode's"
            " short training, which flatters the best of many"
        )
        if base["accuracy"] is not None:
            known += f" (the base network: {percent(base['accuracy'])})"
    return (
        f"{chosen.who}{where}: {noun_of(metric)} {told}; {known}. Train and measure it with"
        f" pfrl apply --policy {path}"
    )
