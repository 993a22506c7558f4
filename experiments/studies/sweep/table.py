"""The tables of a sweep: every searcher's cells with intervals, paired differences, and curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents import AGENTS
from experiments.records.history import Line
from experiments.records.wording import DASH, comma_separated, is_number, number, table
from experiments.report.intervals import Mean, mean_interval
from experiments.report.pictures import save_png
from experiments.studies.sweep.curves import Point, common_accuracy, taken
from experiments.studies.sweep.picture import progress_figure
from pfrl.files import write_text

COLUMNS = ("target", "agent", "seed", "episodes", "best", "search_accuracy", "test_accuracy",
           "cost", "limit", "images",
           "evaluation_seconds", "agent_seconds", "hits", "runtime")  # fmt: skip

PROGRESS = ("target", "agent", "seed", *Point._fields)


def write_results(out: Path, lines: Sequence[Line], facts: dict[str, Any]) -> list[Path]:
    """``search.csv``, ``search.md``, ``progress.csv`` and ``progress.png`` from the lines."""
    lines = sorted(lines, key=_key)
    rows = [COLUMNS, *([line[column] for column in COLUMNS] for line in lines)]
    curves = [PROGRESS, *((*_key(line), *point) for line in lines for point in line["curve"])]
    return [
        write_text(out / "search.csv", comma_separated(rows)),
        write_text(out / "search.md", page(lines, facts)),
        write_text(out / "progress.csv", comma_separated(curves)),
        save_png(out / "progress.png", progress_figure(lines)),
    ]


def _key(line: Line) -> tuple[Any, ...]:
    return line["target"], line["agent"], line["seed"]


def page(lines: Sequence[Line], facts: dict[str, Any]) -> str:
    """The whole sweep as Markdown: a table for every budget, and how it was made."""
    parts = []
    for target in dict.fromkeys(line["target"] for line in lines):
        parts += [f"## {target}", "", _table([x for x in lines if x["target"] == target]), ""]
    parts += ["![Accuracy of the best policy so far](progress.png)", ""]
    machine = facts["machine"]
    parts += [
        "Accuracies in percent: mean over seeds ± half the width of the 95 % interval (Student's"
        " t). Seconds and images to an accuracy: of the median search, as if nothing had come from"
        " the cache of evaluations. The paired difference is of the search accuracies, seed by"
        " seed, to the best searcher without reinforcement learning. Minutes are of one search on"
        " one core, with the cached evaluations likewise; the agent's share is all that is not"
        " evaluation.",
        "",
        "One policy each, by a rule: "
        + ", ".join(f"{name} {agent.rule}" for name, agent in AGENTS.items() if agent.rule)
        + ".",
        "",
        f"Made on {machine['cpu']} ({machine['instruction_set']}), {machine['cores']} cores, by",
        "",
        *(f"- `{command}`" for command in facts["commands"]),
        "",
    ]
    return "\n".join(parts)


def _table(lines: Sequence[Line]) -> str:
    by_agent: dict[str, dict[int, Line]] = {}
    for line in lines:
        by_agent.setdefault(line["agent"], {})[line["seed"]] = line
    others = [n for n in by_agent if not (AGENTS[n].learns or AGENTS[n].rule)]
    rival = max(others, key=lambda name: _of(by_agent[name], "search_accuracy").mean, default=None)
    searchers = [found for name, found in by_agent.items() if not AGENTS[name].rule]
    ends = [
        [x["search_accuracy"] for x in found.values()]
        for found in searchers or [*by_agent.values()]
    ]
    goal = common_accuracy(ends)
    head = ["searcher", "seeds", "evaluations", "search accuracy", "test accuracy",
            f"difference to {rival or 'none'}", f"seconds to {100 * goal:.2f}",
            f"images to {100 * goal:.2f}", "minutes", "agent's share"]  # fmt: skip
    rows = []
    order = sorted(by_agent, key=lambda name: -_of(by_agent[name], "search_accuracy").mean)
    for name in order:
        found = by_agent[name]
        spent = [x["evaluation_seconds"] + x["agent_seconds"] for x in found.values()]
        share = sum(x["agent_seconds"] for x in found.values()) / max(sum(spent), 1e-9)
        spent_to = taken([x["curve"] for x in found.values()], goal)
        paired = ""
        if rival is not None and name != rival:
            seeds = found.keys() & by_agent[rival].keys()
            paired = _difference(found, by_agent[rival], sorted(seeds)).percent(signed=True)
        rows.append([
            name,
            str(len(found)),
            str(max(x["episodes"] for x in found.values())),
            _of(found, "search_accuracy").percent(),
            _of(found, "test_accuracy").percent(),
            paired,
            number(spent_to.seconds),
            f"{spent_to.images:,.0f}" if is_number(spent_to.images) else DASH,
            f"{sum(spent) / len(spent) / 60:.1f}",
            f"{share:.1%}",
        ])  # fmt: skip
    return table(head, rows)


def _of(found: dict[int, Line], key: str) -> Mean:
    return mean_interval([line[key] for line in found.values()])


def _difference(found: dict[int, Line], rival: dict[int, Line], seeds: Sequence[int]) -> Mean:
    return mean_interval([found[s]["search_accuracy"] - rival[s]["search_accuracy"] for s in seeds])
