"""The table of an experiment: a row a cell, means over seeds with intervals, paired differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.ablations.experiment import Column, Experiment, Shared
from experiments.records.history import Line
from experiments.records.wording import DASH, comma_separated, is_number, number, table
from experiments.report.intervals import Mean, mean_interval
from pfrl.files import write_text


def write_results(
    out: Path,
    experiment: Experiment,
    settings: Shared,
    lines: Sequence[Line],
    facts: Mapping[str, Any],
) -> list[Path]:
    """``table.md`` and ``results.csv`` from the lines of all jobs."""
    columns = [*dict.fromkeys(key for line in lines for key in line if _plain(line[key]))]
    rows = [columns, *([line.get(column) for column in columns] for line in lines)]
    return [
        write_text(out / "results.csv", comma_separated(rows)),
        write_text(out / "table.md", page(experiment, settings, lines, facts)),
    ]


def page(
    experiment: Experiment,
    settings: Shared,
    lines: Sequence[Line],
    facts: Mapping[str, Any],
) -> str:
    """The table as Markdown, with what was asked and how it was made."""
    by_cell: dict[str, dict[int, Line]] = {}
    for line in lines:
        by_cell.setdefault(line["cell"], {})[line["seed"]] = line
    order = [cell.name for cell in experiment.cells(settings) if cell.name in by_cell]
    first, machine = experiment.columns[0], facts["machine"]
    head = [
        "cell",
        "seeds",
        *(column.heading for column in experiment.columns),
        f"{first.heading}, difference to {experiment.against}",
    ]
    rows = []
    for name in order:
        own, others = by_cell[name], by_cell.get(experiment.against, {})
        cells = [_shown(column, list(own.values())) for column in experiment.columns]
        paired = _paired(first, own, others) if name != experiment.against else ""
        rows.append([name, str(len(own)), *cells, paired])
    return "\n".join(
        [
            f"# {experiment.title}",
            "",
            f"{experiment.paper}, {experiment.table}. The claim that is tested: {experiment.claim}",
            "",
            table(head, rows),
            "",
            "Mean over seeds ± half the width of the 95 % interval (Student's t); shares in"
            " percent. Differences are paired seed by seed.",
            *(["", f"Not here: {experiment.lacks}"] if experiment.lacks else []),
            "",
            f"Made on {machine['cpu']} ({machine['instruction_set']}), {machine['cores']} cores,"
            " by",
            "",
            *(f"- `{command}`" for command in facts["commands"]),
            "",
        ]
    )


def _shown(column: Column, lines: Sequence[Line]) -> str:
    values = [line[column.key] for line in lines if is_number(line.get(column.key))]
    return _written(column, mean_interval(values)) if values else DASH


def _paired(column: Column, own: Mapping[int, Line], others: Mapping[int, Line]) -> str:
    pairs = [(own[s].get(column.key), others[s].get(column.key)) for s in own if s in others]
    found = [a - b for a, b in pairs if is_number(a) and is_number(b)]
    return _written(column, mean_interval(found), signed=True) if found else DASH


def _written(column: Column, found: Mean, signed: bool = False) -> str:
    if column.percent:
        return found.percent(signed)
    text = ("+" if signed and found.mean > 0 else "") + number(found.mean)
    return text if found.margin is None else f"{text} ± {number(found.margin)}"


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)
