"""Statistics of cells: means over seeds, paired differences, probability of improvement, and the
interquartile mean over tasks.

The last two, and their intervals by the bootstrap, follow Agarwal and others, Deep reinforcement
learning at the edge of the statistical precipice, NeurIPS 2021 (arXiv 2108.13264).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from experiments.records.history import Line
from experiments.report.intervals import Mean, mean_interval
from experiments.report.studies.layout import Column, Layout

RESAMPLES = 2_000


class Estimate(NamedTuple):
    """A value and its 95 % interval; without bounds where a bootstrap has nothing to draw from."""

    value: float
    low: float | None = None
    high: float | None = None


class Against(NamedTuple):
    """A cell beside its rival."""

    rival: str
    difference: Mean
    """Of a column, over the seeds that both have."""
    pairs: int
    improvement: Estimate
    """Probability that a line of the cell is better than one of the rival's; ties count half."""


class Cell(NamedTuple):
    """The lines of one cell."""

    task: str
    name: str
    lines: Mapping[Any, Line]
    """By seed, ascending; of lines with one seed the last counts."""
    means: Mapping[str, Mean]
    """By column; of columns for which the cell has numbers."""
    beside: Mapping[str, Against] = MappingProxyType({})
    """The rival's, by column that is compared, the first one first."""

    @property
    def against(self) -> Against | None:
        """Beside the rival in the first column."""
        return next(iter(self.beside.values()), None)


def cells(lines: Sequence[Line], layout: Layout) -> list[Cell]:
    """All cells, task by task in the order of the lines, beside the rival of their task."""
    found: dict[tuple[str, str], dict[Any, Line]] = {}
    for number, line in enumerate(lines):
        place = _name(line, layout.task), _name(line, layout.cell)
        mine = found.setdefault(place, {})
        mine[line.get(layout.seed, f"line {number + 1}")] = line
    every = [
        Cell(task, name, dict(sorted(mine.items(), key=_by_seed)), _means(mine, layout))
        for (task, name), mine in found.items()
    ]
    column = layout.columns[0] if layout.columns else None
    if column is None:
        return every
    rivals = {task: _rival(every, task, layout, column) for task in {cell.task for cell in every}}
    others = [each for each in layout.columns[1:] if each.compared]
    return [
        cell._replace(beside=_beside(cell, rivals[cell.task], column, others)) for cell in every
    ]


def _beside(
    cell: Cell, rival: Cell | None, first: Column, others: Sequence[Column]
) -> dict[str, Against]:
    """Nothing where the first column cannot be compared."""
    each = {column.name: against(cell, rival, column) for column in (first, *others)}
    there = {name: one for name, one in each.items() if one is not None}
    return there if first.name in there else {}


def against(cell: Cell, rival: Cell | None, column: Column, name: str = "") -> Against | None:
    """The cell's column beside the rival's; None without a rival or a common seed.

    Args:
      name: of the rival, if it is another than its cell's.
    """
    if rival is None or rival is cell:
        return None
    mine, other = _values(cell, column), _values(rival, column)
    pairs = [mine[seed] - other[seed] for seed in mine if seed in other]
    if not pairs:
        return None
    found = improvement(list(mine.values()), list(other.values()), column.better or 1)
    return Against(name or rival.name, mean_interval(pairs), len(pairs), found)


def improvement(x: Sequence[float], y: Sequence[float], better: int = 1) -> Estimate:
    """P(X better than Y) for one of ``x`` and one of ``y``, each drawn from its own; ties half."""

    def statistic(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        signs = np.sign(x[..., :, None] - y[..., None, :])
        return 0.5 + better * signs.mean((-2, -1)) / 2

    return _bootstrapped([x, y], statistic)


def interquartile_mean(tasks: Sequence[Sequence[float]]) -> Estimate:
    """Mean of the middle half of all tasks' values; the bootstrap draws within each task."""
    from scipy.stats import trim_mean

    def statistic(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        return trim_mean(np.concatenate(samples, axis), 0.25, axis)

    return _bootstrapped(tasks, statistic)


def pooled(every: Sequence[Cell], column: Column) -> dict[str, Estimate]:
    """The interquartile mean over tasks, by the name of the cells that have all of several."""
    tasks = list(dict.fromkeys(cell.task for cell in every))
    values: dict[str, list[list[float]]] = {}
    for cell in every:
        values.setdefault(cell.name, []).append(list(_values(cell, column).values()))
    whole = {n: v for n, v in values.items() if len(v) == len(tasks) > 1 and all(v)}
    return {name: interquartile_mean(each) for name, each in whole.items()}


def _bootstrapped(samples: Sequence[Sequence[float]], statistic: Any) -> Estimate:
    from scipy.stats import bootstrap  # takes most of a second to import

    arrays = [np.asarray(sample, float) for sample in samples]
    value = float(statistic(*arrays))
    if min(map(len, arrays)) < 2:
        return Estimate(value)
    found = bootstrap(arrays, statistic, n_resamples=RESAMPLES, method="percentile",
                      rng=np.random.default_rng(0)).confidence_interval  # fmt: skip
    return Estimate(value, float(found.low), float(found.high))


def _name(line: Line, fields: Sequence[str]) -> str:
    return " · ".join(str(line[name]) for name in fields if line.get(name) is not None)


def _by_seed(item: tuple[Any, Line]) -> tuple[bool, Any]:
    """Numbers in their order, then texts."""
    return isinstance(item[0], str), item[0]


def _means(mine: Mapping[Any, Line], layout: Layout) -> dict[str, Mean]:
    values = {column.name: [column.of(line) for line in mine.values()] for column in layout.columns}
    there = {name: [v for v in each if v is not None] for name, each in values.items()}
    return {name: mean_interval(each) for name, each in there.items() if each}


def _values(cell: Cell, column: Column) -> dict[Any, float]:
    values = {seed: column.of(line) for seed, line in cell.lines.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def _rival(every: Sequence[Cell], task: str, layout: Layout, column: Column) -> Cell | None:
    mine = [cell for cell in every if cell.task == task and column.name in cell.means]
    if layout.baselines:
        mine = [
            cell
            for cell in mine
            if str(next(iter(cell.lines.values()))[layout.cell[0]]) in layout.baselines
        ]
        return max(
            mine, key=lambda x: (column.better or 1) * x.means[column.name].mean, default=None
        )
    return mine[0] if mine else None
