"""The table of a sweep: every searcher's cells with intervals, and paired differences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents import AGENTS
from experiments.records.history import Line
from experiments.records.wording import comma_separated, table
from experiments.report.intervals import Mean, mean_interval
from pfrl.files import write_text

COLUMNS = ("target", "agent", "seed", "episodes", "best", "search_accuracy", "test_accuracy",
           "cost", "limit", "evaluation_seconds", "agent_seconds", "hits", "runtime")  # fmt: skip


def write_results(out: Path, lines: Sequence[Line], facts: dict[str, Any]) -> list[Path]:
    """``search.csv`` and ``search.md`` from the lines of the searches."""
    lines = sorted(lines, key=lambda line: (line["target"], line["agent"], line["seed"]))
    rows = [COLUMNS, *([line[column] for column in COLUMNS] for line in lines)]
    return [
        write_text(out / "search.csv", comma_separated(rows)),
        write_text(out / "search.md", page(lines, facts)),
    ]


def page(lines: Sequence[Line], facts: dict[str, Any]) -> str:
    """The whole sweep as Markdown: a table for every budget, and how it was made."""
    parts = []
    for target in dict.fromkeys(line["target"] for line in lines):
        parts += [f"## {target}", "", _table([x for x in lines if x["target"] == target]), ""]
    machine = facts["machine"]
    parts += [
        "Accuracies in percent: mean over seeds ± half the width of the 95 % interval (Student's"
        " t). The paired difference is of the search accuracies, seed by seed, to the best"
        " searcher without reinforcement learning. Minutes are of one search on one core, as if"
        " nothing had come from the cache of evaluations; the agent's share is all that is not"
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
    head = ["searcher", "seeds", "evaluations", "search accuracy", "test accuracy",
            f"difference to {rival or 'none'}", "minutes", "agent's share"]  # fmt: skip
    rows = []
    order = sorted(by_agent, key=lambda name: -_of(by_agent[name], "search_accuracy").mean)
    for name in order:
        found = by_agent[name]
        spent = [x["evaluation_seconds"] + x["agent_seconds"] for x in found.values()]
        share = sum(x["agent_seconds"] for x in found.values()) / max(sum(spent), 1e-9)
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
            f"{sum(spent) / len(spent) / 60:.1f}",
            f"{share:.1%}",
        ])  # fmt: skip
    return table(head, rows)


def _of(found: dict[int, Line], key: str) -> Mean:
    return mean_interval([line[key] for line in found.values()])


def _difference(found: dict[int, Line], rival: dict[int, Line], seeds: Sequence[int]) -> Mean:
    return mean_interval([found[s]["search_accuracy"] - rival[s]["search_accuracy"] for s in seeds])
