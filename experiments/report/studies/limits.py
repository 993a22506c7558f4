"""A picture of jobs that answer at many limits each: quality against the limit."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.records.history import Line
from experiments.report.lines import look
from experiments.report.pictures import PALE, WIDTH, legend, subtitle, title
from experiments.report.studies.comparing import Cell

AT = "at"
"""In a job's line: quality in [0, 1] by limit, a share of the base network's cost."""


def limits_figure(every: Sequence[Cell]) -> Figure | None:
    """Quality by limit: a line for each cell, the mean of its seeds, and a band over them.

    None if no job answers at several limits.
    """
    cells = {cell.name: _answers(list(cell.lines.values())) for cell in every}
    cells = {name: found for name, found in cells.items() if found}
    if not cells:
        return None
    figure = Figure(figsize=(WIDTH * 1.15, 5.2), layout="constrained")
    axes = figure.subplots()
    title(figure, "Quality at each limit")
    for place, (name, found) in enumerate(cells.items()):
        colour, style = look(place)
        limits = 100 * np.array(sorted(found))
        values = [100 * np.array(found[limit]) for limit in sorted(found)]
        axes.plot(limits, [v.mean() for v in values], style, color=colour, marker=".", label=name)
        low, high = [v.min() for v in values], [v.max() for v in values]
        axes.fill_between(limits, low, high, color=colour, alpha=0.13, linewidth=0)
    seeds = max(len(values) for found in cells.values() for values in found.values())
    if seeds > 1:
        subtitle(axes, f"line: mean of up to {seeds} seeds; band: lowest to highest")
    axes.set_xlabel("limit (% of the base network's cost)")
    axes.set_ylabel("quality on held-out images (%)")
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    legend(figure, axes)
    return figure


def _answers(lines: Sequence[Line]) -> Mapping[float, list[float]]:
    """Qualities of the seeds, by limit."""
    found: dict[float, list[float]] = {}
    for line in lines:
        for limit, quality in line.get(AT, {}).items():
            found.setdefault(float(limit), []).append(quality)
    return found
