"""What a report is made of: folders of studies and of single runs, read as lines."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.records.history import Line, best_so_far, read_history
from experiments.records.run_folder import CONFIG
from experiments.report.studies.layout import LAYOUT, Layout, layout_of
from pfrl.files import FileError, read_json

RESULTS = "results.jsonl"
SINGLE = "report.json"


class Study(NamedTuple):
    """Lines of one folder, or of several single runs."""

    name: str
    path: Path
    """What the lines' own folders are relative to."""
    lines: list[Line]
    facts: Mapping[str, Any]
    """As ``config.json`` has them: commands, commits, machine."""
    layout: Layout

    def histories(self, line: Line) -> list[Line]:
        """The episodes of the line's run; none if it has no folder of its own."""
        return (
            read_history(self.path / line["folder"] / "history.jsonl") if "folder" in line else []
        )


def is_single(paths: Sequence[Path]) -> bool:
    """Whether it is the folder of one run of ``pfrl compress`` or ``pfrl apply``."""
    return len(paths) == 1 and not (paths[0] / RESULTS).is_file() and not _runs_in(paths[0])


def read_studies(paths: Sequence[Path]) -> list[Study]:
    """Every folder that holds a study, and all single runs as one more.

    Args:
      paths: of studies, of single runs, or folders that hold such.

    Raises:
      FileError: if one is neither, or a file is damaged.
    """
    studies, singles = [], []
    for path in paths:
        found = (
            [path] if (path / RESULTS).is_file() or (path / SINGLE).is_file() else _runs_in(path)
        )
        if not found:
            raise FileError(
                f"{path} holds neither a study ({RESULTS}) nor a finished run ({SINGLE}); give a"
                " folder that a command of pfrl wrote"
            )
        for each in found:
            (studies if (each / RESULTS).is_file() else singles).append(each)
    read = [_read_study(path) for path in studies]
    return [*_named_apart(read), *([_read_runs(singles)] if singles else [])]


def best_policy(history: Sequence[Line]) -> Mapping[str, Any] | None:
    """The policy of the episode with the highest reward."""
    best = best_so_far(history)[-1] if history else None
    return None if best is None else history[best]["policy"]


def _runs_in(path: Path) -> list[Path]:
    """Studies and finished runs directly inside a folder that is neither."""
    if (path / SINGLE).is_file() or not path.is_dir():
        return []
    inside = sorted(each for each in path.iterdir() if each.is_dir())
    return [x for x in inside if (x / RESULTS).is_file() or (x / SINGLE).is_file()]


def _read_study(path: Path) -> Study:
    facts = read_json(path / CONFIG) if (path / CONFIG).exists() else {}
    lines = read_history(path / RESULTS)
    command = facts.get("command") or _command_in(facts.get("commands", ()))
    if command == "pareto":
        lines = _best_of_limits(lines, facts)
    if not lines:
        raise FileError(f"{path / RESULTS} has no finished line; start the same command again")
    kept = read_json(path / LAYOUT) if (path / LAYOUT).exists() else None
    return Study(path.resolve().name, path, lines, facts, layout_of(command, lines, kept))


def _command_in(commands: Iterable[str]) -> str:
    """Of a folder that is older than its entry 'command'."""
    words = next(iter(commands), "").split()
    return words[1] if len(words) > 1 else ""


def _best_of_limits(lines: Sequence[Line], facts: Mapping[str, Any]) -> list[Line]:
    """A line each search: its best policy on images that no reward has used."""
    settings = facts.get("settings", {})
    return [
        {
            "limit": target,
            "seed": settings.get("seed", 0),
            "held_out_accuracy": max(point["held_out_accuracy"] for point in points),
            # Nobody has evaluated what an agent plans.
            "search_accuracy": max(point["search_accuracy"] or 0.0 for point in points),
            **({"folder": line["folder"]} if "folder" in line else {}),
        }
        for line in lines
        for target, points in _by_target(line.get("points", ())).items()
    ]


def _by_target(points: Iterable[Line]) -> dict[str, list[Line]]:
    """The points of a search, which may be one for several limits, by their limit."""
    found: dict[str, list[Line]] = {}
    for point in points:
        found.setdefault(point["target"], []).append(point)
    return found


def _read_runs(paths: Sequence[Path]) -> Study:
    """Single runs as the lines of one study; their folders are absolute."""
    lines, commands, commits, machine = [], [], [], {}
    for path in paths:
        report = read_json(path / SINGLE)
        config = read_json(path / CONFIG) if (path / CONFIG).exists() else {}
        lines.append({**_run_line(report), "folder": str(path.resolve())})
        commands.append(report.get("command") or next(iter(config.get("commands", ())), ""))
        commits += config.get("commits", ())
        machine = machine or report.get("machine") or {}
    facts = {
        "commands": list(dict.fromkeys(filter(None, commands))),
        "commits": list(dict.fromkeys(commits)),
        "machine": machine,
    }
    return Study("runs", Path("/"), lines, facts, layout_of("compress", lines, None))


def _run_line(report: Mapping[str, Any]) -> Line:
    small, budget = report.get("compressed") or {}, report.get("budget") or {}
    latency = small.get("latency_ms") or {}
    change = (report.get("comparison") or {}).get("compressed_minus_base") or {}
    found = {
        "model": report.get("model"),
        "data": report.get("data"),
        "budget": f"{budget['metric']}={_rounded(budget)}" if budget else "no budget",
        "agent": report.get("agent") or "one policy",
        "seed": report.get("seed", 0),
        "test_accuracy": small.get("test_accuracy"),
        "change": change.get("difference"),
        "macs": small["macs"] / 1e6 if "macs" in small else None,
        "latency": latency.get("median"),
        "bytes": small["nbytes"] / 1e3 if "nbytes" in small else None,
        "seconds": (report.get("search") or {}).get("seconds"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _rounded(budget: Mapping[str, Any]) -> str:
    """A limit relative to the base network, if that is known."""
    limit, base = budget["limit"], budget.get("base")
    return f"{limit / base:.2g}" if base else f"{limit:g}"


def _named_apart(studies: Sequence[Study]) -> list[Study]:
    """Studies whose folders have one name get the shortest ends of their paths that differ."""
    paths = [study.path.resolve().parts for study in studies]
    depth = 1
    while len({path[-depth:] for path in paths}) < len(set(paths)):
        depth += 1
    return [
        study._replace(name="/".join(path[-depth:]))
        for study, path in zip(studies, paths, strict=True)
    ]


def describe(facts: Mapping[str, Any]) -> str:
    """One sentence on the machine, as a footer says it."""
    machine = facts.get("machine") or {}
    if not machine:
        return "unknown"
    return f"{machine['cpu']} ({machine['instruction_set']}), {machine['cores']} cores"
