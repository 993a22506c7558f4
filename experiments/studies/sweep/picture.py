"""The picture of a sweep: how good each searcher's best policy was by when."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents import AGENTS
from experiments.records.history import Line
from experiments.report.lines import look
from experiments.report.pictures import GREY, PALE, WIDTH, legend, subtitle, title
from experiments.studies.sweep.curves import at

EARLY = 0.1
"""Share of the evaluations whose best policies may lie below the picture."""
PLACES = 400
"""Of an axis, at which curves are drawn."""


def progress_figure(lines: Sequence[Line]) -> Figure:
    """A row of panels for each budget: against evaluations, images and seconds.

    Args:
      lines: of the searches, each with its curve.
    """
    targets = list(dict.fromkeys(line["target"] for line in lines))
    figure = Figure(figsize=(WIDTH * 1.25, 1.4 + 3.2 * len(targets)), layout="constrained")
    panels = figure.subplots(len(targets), 3, sharey="row", squeeze=False)
    title(figure, "How good is the best network that a search has found so far?")
    names = [name for name in dict.fromkeys(x["agent"] for x in lines) if not AGENTS[name].rule]
    looks = {name: look(place) for place, name in enumerate(names)}
    for row, target in zip(panels, targets, strict=True):
        found = [line for line in lines if line["target"] == target]
        longest = max(line["curve"][-1][2] for line in found)
        minutes = longest > 180
        for axes, (axis, words, unit) in zip(
            row,
            (
                ("evaluations", "networks evaluated", 1),
                ("images", "images looked at (thousands)", 1000),
                ("seconds", "minutes of work" if minutes else "seconds of work", 60**minutes),
            ),
            strict=True,
        ):
            _panel(axes, found, axis, unit, looks)
            axes.set_xlabel(words)
        row[0].set_ylim(_heights(found))
        seeds = len({line["seed"] for line in found})
        band = f" Line: mean of {seeds} seeds; band: lowest to highest." if seeds > 1 else ""
        subtitle(row[0], f"Budget {target}. Up and to the left is better.{band}")
        row[0].set_ylabel("accuracy on search images (%)")
    legend(figure, panels[0, 0])
    return figure


def _heights(lines: Sequence[Line]) -> tuple[float, float]:
    """The shown accuracies: from where all searches are past their first policies."""
    early = [at(x["curve"], "evaluations", np.array([EARLY * x["episodes"]]))[0] for x in lines]
    lowest = min([100 * each for each in early if np.isfinite(each)], default=0.0)
    highest = max(100 * x["search_accuracy"] for x in lines)
    room = 0.05 * max(highest - lowest, 0.1)
    return lowest - room, highest + room


def _panel(
    axes: Axes,
    lines: Sequence[Line],
    axis: str,
    unit: float,
    looks: Mapping[str, tuple[str, str]],
) -> None:
    """Means and bands of the searchers, as far as their longest search goes."""
    place = ("evaluations", "images", "seconds").index(axis)
    for name, (colour, style) in looks.items():
        curves = [line["curve"] for line in lines if line["agent"] == name]
        if not curves:
            continue
        # From where all seeds have a policy; one that has ended stays where it is.
        first = max(curve[0][place] for curve in curves)
        places = np.linspace(first, max(curve[-1][place] for curve in curves), PLACES)
        values = 100 * np.stack([at(curve, axis, places) for curve in curves])
        x = places / unit
        axes.plot(x, values.mean(0), style, color=colour, linewidth=1.6, label=name)
        axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.13, linewidth=0)
    rules = {line["agent"]: line["search_accuracy"] for line in lines if AGENTS[line["agent"]].rule}
    if rules:
        best = max(rules, key=lambda name: rules[name])
        axes.axhline(100 * rules[best], color=GREY, linestyle="-.", linewidth=1.2,
                     label=f"the best rule, {best}")  # fmt: skip
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(left=0)
