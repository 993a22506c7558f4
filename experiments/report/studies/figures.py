"""Pictures of a study: learning curves with bands, and the policies side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.records.history import Line, best_so_far
from experiments.report.lines import look
from experiments.report.pictures import DARK, GREY, PALE, WIDTH, legend, subtitle, title
from experiments.report.studies.comparing import Cell
from experiments.report.studies.limits import limits_figure
from experiments.report.studies.source import Study, best_policy

POLICY_CELLS = 8
"""Most cells whose policies fit side by side."""

Histories = Mapping[str, Sequence[Sequence[Line]]]
"""By cell, the episodes of each of its runs."""


def best_accuracies(history: Sequence[Line]) -> np.ndarray:
    """Accuracy of the best-rewarded policy so far ``[episodes]``, NaN before the first."""
    best = best_so_far(history)
    return np.array([np.nan if i is None else history[i]["accuracy"] for i in best])


def drawn(study: Study, every: Sequence[Cell]) -> dict[str, tuple[Figure, str]]:
    """The pictures that there are numbers for, and what each shows, by name."""
    answers = limits_figure(every)
    if answers is not None:
        # Such a job has no best policy: every limit has one.
        return {"limits": (answers, "Quality by limit")}
    tasks: dict[str, dict[str, list[list[Line]]]] = {}
    for cell in every:
        runs = [run for line in cell.lines.values() if (run := study.histories(line))]
        if runs:
            tasks.setdefault(cell.task, {})[cell.name] = runs
    if not tasks:
        return {}
    found = {"curves": (curves_figure(tasks), "Accuracy of the best policy so far, by episode")}
    for number, (task, runs) in enumerate(tasks.items(), 1):
        shown = dict(list(runs.items())[:POLICY_CELLS])
        policies = {n: [p for run in r if (p := best_policy(run))] for n, r in shown.items()}
        figure = policies_figure({name: each for name, each in policies.items() if each}, task)
        if figure is not None:
            found[f"policies-{number}"] = figure, f"Best policies, layer by layer: {task or 'all'}"
    return found


def curves_figure(tasks: Mapping[str, Histories]) -> Figure:
    """The best policy's accuracy on search images, episode by episode; a panel for each task.

    A line is the mean of a cell's seeds, its band goes from the lowest to the highest seed.
    """
    columns = min(len(tasks), 2)
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(WIDTH * 1.15, 1.2 + 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    title(figure, "Is it learning? The best network found so far")
    names = list(dict.fromkeys(name for cells in tasks.values() for name in cells))
    for axes, (task, cells) in zip(panels, tasks.items(), strict=False):
        for name, runs in cells.items():
            _curve(axes, name, [best_accuracies(run) for run in runs], look(names.index(name)))
        seeds = max(len(runs) for runs in cells.values())
        band = f"line: mean of up to {seeds} seeds; band: lowest to highest" if seeds > 1 else ""
        subtitle(axes, "\n".join(filter(None, (task, band))))
        axes.set_xlabel("episode (one network each)")
        axes.set_ylabel("accuracy on search images (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=PALE, linewidth=0.8)
        axes.set_axisbelow(True)
    for axes in panels[len(tasks) :]:
        axes.set_visible(False)
    legend(figure, _fullest(panels))
    return figure


def extended(runs: Sequence[np.ndarray]) -> np.ndarray:
    """Curves as ``[runs, longest]``; one that has ended stays where it is."""
    length = max(map(len, runs))
    return np.stack([np.pad(run, (0, length - len(run)), "edge") for run in runs])


def _curve(axes: Axes, name: str, runs: Sequence[np.ndarray], how: tuple[str, str]) -> None:
    values = 100 * extended(runs)
    length, (colour, style) = values.shape[1], how
    if length == 1:
        # One policy by a rule: a level to compare with.
        axes.axhline(values.mean(), color=colour, linestyle=style, linewidth=1.2, label=name)
        return
    x = np.arange(length)
    axes.plot(x, values.mean(0), style, color=colour, linewidth=1.6, label=name)
    axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.13, linewidth=0)


def _fullest(panels: Sequence[Axes]) -> Axes:
    return max(panels, key=lambda axes: len(axes.get_legend_handles_labels()[1]))


def policies_figure(
    policies: Mapping[str, Sequence[Mapping[str, Any]]], task: str = ""
) -> Figure | None:
    """What the best policies decide, side by side: a row for each layer, a column for each cell.

    A number is the mean of the cell's seeds: percent of the channels kept, then bits of weights
    and of activations where they are decided. None where nothing is.

    Args:
      policies: by cell, the best policy of each of its runs as plain data.
      task: that they are for.
    """
    panels = {
        text: (found, most)
        for key, text, most in (
            ("keep", "channels kept (%)", 100.0),
            ("weight_bits", "bits of weights", 8.0),
            ("act_bits", "bits of activations", 8.0),
        )
        if (found := _means(policies, key, 100 if key == "keep" else 1))
    }
    if not panels:
        return None
    rows = max(len(names) for (names, _), _ in panels.values())
    width = max(WIDTH, 2.6 + 0.75 * len(policies) * len(panels))
    figure = Figure(figsize=(width, 2.3 + 0.22 * rows), layout="constrained")
    title(figure, f"Policies side by side{', ' * bool(task)}{task}: what is decided for each layer")
    drawn = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (text, ((names, values), most)) in zip(drawn, panels.items(), strict=True):
        _heat(axes, names, list(policies), values, most)
        subtitle(axes, f"{text}, mean over seeds of the best policy; darker is more")
    return figure


def _means(
    policies: Mapping[str, Sequence[Mapping[str, Any]]], key: str, scale: float
) -> tuple[list[str], np.ndarray] | None:
    """Names of layers or groups, and means ``[L, cells]``; NaN where a cell decides nothing."""
    every = [each for mine in policies.values() for each in mine]
    names = list(dict.fromkeys(name for each in every for name in each.get(key) or {}))
    decided = {v for each in every for v in (each.get(key) or {}).values()}
    if not names or (key != "keep" and min(decided) >= 32):
        return None
    values = [
        [_mean([scale * each[key][name] for each in mine if name in (each.get(key) or {})])
         for mine in policies.values()]
        for name in names
    ]  # fmt: skip
    return names, np.array(values)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else np.nan


def _heat(
    axes: Axes, names: Sequence[str], cells: Sequence[str], values: np.ndarray, most: float
) -> None:
    axes.imshow(values, cmap="Blues", vmin=0, vmax=most, aspect="auto")
    short = [name if len(name) <= 26 else f"…{name[-25:]}" for name in names]
    axes.set_yticks(range(len(names)), short, fontsize=7.5)
    axes.set_xticks(range(len(cells)), cells, fontsize=8, rotation=20, ha="right")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        colour = "white" if value > 0.6 * most else DARK
        text = f"{value:.0f}" if most > 10 else f"{value:.1f}".removesuffix(".0")
        axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    axes.set_ylabel("layer", color=GREY)
