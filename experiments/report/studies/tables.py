"""The tables of a study, as plain data that is written as Markdown, CSV and HTML."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from experiments.records import wording
from experiments.records.history import Line
from experiments.records.wording import DASH, is_number, number
from experiments.report.intervals import Mean
from experiments.report.studies.comparing import Cell, Estimate, against, cells, pooled
from experiments.report.studies.layout import Column, Layout


class Entry(NamedTuple):
    """What stands in one place of a table."""

    text: str
    value: float | str | None = None
    """By which rows are sorted; the text, if None."""
    links: tuple[tuple[str, str], ...] = ()
    """``(text, address)`` behind the text."""
    hint: str = ""


class Table(NamedTuple):
    """A table; all but the first ``left`` columns hold numbers."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[Entry, ...]]
    left: int = 1


class Folders(NamedTuple):
    """Where the run of a line is, as seen from the report."""

    study: Path
    report: Path

    def here(self, line: Line) -> bool:
        """Whether the run has a folder of its own, and that was not left behind by a copy."""
        return "folder" in line and (self.study / line["folder"]).is_dir()

    def address(self, line: Line) -> str:
        """Relative, for a link; the study's folder where a run has none of its own."""
        place = self.study / line["folder"] if self.here(line) else self.study
        return quote(Path(os.path.relpath(place, self.report)).as_posix() + "/")


def study_tables(lines: Sequence[Line], layout: Layout, folders: Folders) -> list[Table]:
    """A table for each task; then, of several tasks, one pooled over them."""
    every = cells(lines, layout)
    tables = [
        _task_table(task, [cell for cell in every if cell.task == task], layout, folders)
        for task in dict.fromkeys(cell.task for cell in every)
    ]
    together = pooled(every, layout.columns[0]) if layout.columns else {}
    if together:
        column = layout.columns[0]
        rows = [(Entry(n), _estimate(e, column.scale)) for n, e in together.items()]
        header = (", ".join(layout.cell), f"interquartile mean of {column.heading}")
        tables.append(Table("All tasks together", header, rows))
    return tables


def _task_table(task: str, mine: Sequence[Cell], layout: Layout, folders: Folders) -> Table:
    columns = [c for c in layout.columns if any(c.name in cell.means for cell in mine)]
    compared = [cell.against for cell in mine if cell.against is not None]
    rival = compared[0].rival if compared else ""
    header = (", ".join(layout.cell), "n", *(column.heading for column in columns))
    others = [c for c in columns[1:] if any(c.name in cell.beside for cell in mine)]
    if rival:
        header += (f"difference to {rival}", f"P(better than {rival})")
        header += tuple(f"difference in {c.heading}" for c in others)
    rows = []
    for cell in mine:
        row = [
            Entry(cell.name),
            Entry(str(len(cell.lines)), len(cell.lines), _links(cell, folders)),
            *(_mean(cell, column) for column in columns),
        ]
        if rival and cell.against is None:
            row += [Entry(DASH, ""), Entry(DASH, "")]
        elif rival and cell.against is not None:
            row += [_difference(cell, columns[0]), _estimate(cell.against.improvement)]
        row += [_difference(cell, column) for column in others]
        rows.append(tuple(row))
    return Table(task, header, rows)


def _difference(cell: Cell, column: Column) -> Entry:
    """To the rival's, in a column."""
    found = cell.beside.get(column.name)
    if found is None:
        return Entry(DASH, "")
    text = mean_text(found.difference, column.scale, signed=True)
    hint = f"over {found.pairs} seeds that both have"
    return Entry(text, found.difference.mean, hint=hint)


def runs_table(lines: Sequence[Line], layout: Layout, folders: Folders) -> Table:
    """Every line by itself, with a link to its run."""
    names = [
        name for name in (*layout.task, *layout.cell, layout.seed) if any(name in x for x in lines)
    ]
    columns = [c for c in layout.columns if any(c.of(line) is not None for line in lines)]
    rows = [
        (
            *(_plain(line.get(name)) for name in names),
            *(_one(column, line) for column in columns),
            Entry("", links=(("folder", folders.address(line)),)),
        )
        for line in lines
    ]
    header = (*names, *(column.heading for column in columns), "run")
    return Table("All runs", header, rows, left=len(names))


def versus_table(
    names: tuple[str, str], first: Sequence[Cell], second: Sequence[Cell], layout: Layout
) -> Table | None:
    """Cells that two studies have in common, the second beside the first; None if there is none.

    Args:
      names: of the two studies.
      first, second: their cells.
      layout: whose first column is compared.
    """
    column = layout.columns[0]
    known = {(cell.task, cell.name): cell for cell in first if column.name in cell.means}
    rows = []
    for cell in second:
        before = known.get((cell.task, cell.name))
        found = against(cell, before, column, names[0])
        if before is None or found is None:
            continue
        rows.append((
            Entry(" · ".join(filter(None, (cell.task, cell.name)))),
            _mean(before, column),
            _mean(cell, column),
            Entry(str(found.pairs), found.pairs),
            Entry(mean_text(found.difference, column.scale, True), found.difference.mean),
            _estimate(found.improvement),
        ))  # fmt: skip
    if not rows:
        return None
    header = ("cell", f"{names[0]}: {column.heading}", f"{names[1]}: {column.heading}",
              "pairs", "paired difference", f"P({names[1]} better)")  # fmt: skip
    return Table(f"{names[1]} against {names[0]}", header, rows)


def markdown(table: Table, linked: bool = True) -> str:
    """With its title as a heading, if it has one; with ``linked``, runs are links."""

    def cell(entry: Entry) -> str:
        links = ", ".join(f"[{text}]({address})" for text, address in entry.links if linked)
        return f"{entry.text} ({links})" if links and entry.text else entry.text or links

    rows = [[cell(entry) for entry in row] for row in table.rows]
    heading = f"## {table.title}\n\n" if table.title else ""
    return heading + wording.table(table.header, rows, table.left)


def summary_rows(study: str, every: Sequence[Cell], layout: Layout) -> list[list[Any]]:
    """For a CSV file: a row for each number of each cell, in the lines' own units."""
    rows: list[list[Any]] = []
    for cell in every:
        for column in layout.columns:
            mean = cell.means.get(column.name)
            if mean is None:
                continue
            found = cell.beside.get(column.name)
            count = sum(column.of(line) is not None for line in cell.lines.values())
            row = [study, cell.task, cell.name, column.name, count, mean.mean, *_bounds(mean)]
            if found is not None:
                row += [found.rival, found.pairs, found.difference.mean]
                row += [*_bounds(found.difference), *found.improvement]
            rows.append([*row, *[None] * (len(SUMMARY) - len(row))])
    return rows


SUMMARY = ("study", "task", "cell", "column", "n", "mean", "low", "high", "rival", "pairs",
           "difference", "difference_low", "difference_high", "improvement", "improvement_low",
           "improvement_high")  # fmt: skip
"""Header of ``summary_rows``; bounds are of 95 % intervals."""


def mean_text(mean: Mean, scale: float = 1.0, signed: bool = False) -> str:
    """``81.0 ± 12.7``, of shares in percent with two decimals."""
    if scale == 100:
        return mean.percent(signed).replace("-", "−")
    shown = number(mean.mean)
    sign = "+" if signed and mean.mean >= 0 else ""
    if mean.margin is None:
        return sign + shown
    decimals = len(shown.partition(".")[2])
    return f"{sign}{shown} ± {mean.margin:.{decimals}f}"


def _mean(cell: Cell, column: Column) -> Entry:
    mean = cell.means.get(column.name)
    if mean is None:
        return Entry(DASH, "")
    each = ((seed, column.of(line)) for seed, line in cell.lines.items())
    hint = "; ".join(f"{seed}: {_shown(column, value)}" for seed, value in each)
    return Entry(mean_text(mean, column.scale), mean.mean, hint=hint)


def _plain(value: Any) -> Entry:
    return Entry(DASH if value is None else str(value), value if is_number(value) else None)


def _one(column: Column, line: Line) -> Entry:
    value = column.of(line)
    return Entry(_shown(column, value), "" if value is None else value)


def _shown(column: Column, value: float | None) -> str:
    if value is None:
        return DASH
    return f"{100 * value:.2f}" if column.unit == "share" else number(value)


def _estimate(found: Estimate, scale: float = 1.0) -> Entry:
    def text(value: float) -> str:
        return f"{scale * value:.2f}"

    if found.low is None or found.high is None:
        return Entry(text(found.value), found.value)
    return Entry(f"{text(found.value)} ({text(found.low)} to {text(found.high)})", found.value)


def _links(cell: Cell, folders: Folders) -> tuple[tuple[str, str], ...]:
    """To each seed's run; to the study where the runs have no folders of their own."""
    runs = {seed: line for seed, line in cell.lines.items() if folders.here(line)}
    found = tuple((str(seed), folders.address(line)) for seed, line in runs.items())
    return found or (("study", folders.address({})),)


def _bounds(mean: Mean) -> tuple[float | None, float | None]:
    if mean.margin is None:
        return None, None
    return mean.mean - mean.margin, mean.mean + mean.margin
