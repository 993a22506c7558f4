"""Pictures of a search: its curve, and the task's metric against cost of all that it tried.

Colours are those of Okabe and Ito (distinct for all common kinds of colour
blindness); phases differ in their marker, too, so that a grey print tells them
apart. Figures are plain objects: nothing is registered anywhere, so none need
be closed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.records.history import Line, best_so_far, is_sound, pareto_front
from experiments.records.wording import axis_label, cost, described, percent, sentence, unit_of
from pfrl.files import write_whole
from pfrl.tasks import Classification, Wording

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
DARK, GREY, PALE = "#222222", "#7A7A7A", "#E4E4E4"

WIDTH = 8.4
"""Inches. A page shows pictures about this wide, so the letters keep their size."""


class Mark(NamedTuple):
    """How the episodes of a phase are drawn."""

    label: str
    marker: str
    colour: str
    filled: bool = True


PHASES = {
    "uniform": Mark("uniform policy", "s", GREEN),
    "random": Mark("random policy", "o", GREY, filled=False),
    "warmup": Mark("warm-up, not decided by the agent", "o", GREY, filled=False),
    "explore": Mark("agent exploring", "o", BLUE),
    "final": Mark("agent's own choice, no exploration", "D", VERMILION),
}
"""One mark for each phase of an episode."""


def search_figure(
    history: Sequence[Line],
    chosen: int | None = None,
    wording: Wording = Classification.wording,
) -> Figure:
    """The task's metric and, where it is something else, reward of every episode; the best so far.

    Args:
      history: at least one episode.
      chosen: position of the episode whose policy was handed over.
      wording: of the task.
    """
    value = _percent_of(wording)
    sound = [line for line in history if is_sound(line)]
    both = any(abs(line["reward"] - line["accuracy"]) > 1e-6 for line in sound)
    figure = Figure(figsize=(WIDTH, 6.2 if both else 4.2), layout="constrained")
    panels = figure.subplots(2 if both else 1, 1, sharex=True, squeeze=False)[:, 0]
    best = [position for position in best_so_far(history) if position is not None]
    extreme = f"{'lowest' if wording.error else 'highest'} {wording.metric}"
    outcome = "none without divergence"
    if best:
        shown = percent(wording.value(history[best[-1]]["accuracy"]), 1)
        outcome = (
            f"{wording.metric} {shown} at the highest reward" if both else f"{extreme} {shown}"
        )
    reward = f"the reward is {'1 −' if wording.error else 'the'} {wording.metric}"
    if both and sound:
        most = percent(wording.value(max(line["accuracy"] for line in sound)), 1)
        reward = f"the {extreme} is {most}"
    title(figure, f"The search: {_networks(history)} tried, {outcome}")
    subtitle(
        panels[0],
        f"Each mark is one network, judged on images that are kept for the search; {reward}",
    )
    _curve(panels[0], history, value, chosen, wording)
    panels[0].set_ylabel(f"search {wording.metric} (%)")
    if both:
        _curve(panels[1], history, lambda line: line["reward"], chosen, wording)
        panels[1].set_ylabel("reward")
        subtitle(panels[1], "The reward is what the agent tries to raise")
    panels[-1].set_xlabel("episode (one network each)")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    legend(figure, panels[0])
    return figure


def tradeoff_figure(
    history: Sequence[Line],
    metric: str,
    limit: float | None = None,
    base_cost: float | None = None,
    chosen: int | None = None,
    uniform: Mapping[str, Any] | None = None,
    wording: Wording = Classification.wording,
    runtime: str | None = None,
) -> Figure:
    """The task's metric against cost of all episodes.

    Args:
      history: at least one episode.
      metric: the key of ``costs`` on the horizontal axis.
      limit: the budget's limit, in the metric's own unit; a vertical line.
      base_cost: of the uncompressed network; adds an axis in percent of it.
      chosen: position of the episode whose policy was handed over.
      uniform: ``{"accuracy", "costs"}`` of the uniform policy of the same budget.
      wording: of the task.
      runtime: in which a latency is predicted, as people call it.
    """
    against = described(metric).title + (f" in {runtime}" if runtime else "")
    value = _percent_of(wording)
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    axes = figure.subplots()
    values = [line["costs"][metric] for line in history]
    beside = [] if uniform is None else [uniform["costs"][metric]]
    if limit is not None:
        beside.append(limit)
    unit = unit_of(metric, max(*values, limit or 0.0, 0.0))
    x = np.asarray(values) / unit.divisor
    title(
        figure,
        f"{sentence(wording.metric)} against {against}: {_networks(history)}",
    )
    subtitle(
        axes,
        f"{'Down' if wording.error else 'Up'} and to the left is better; judged on images that are"
        " kept for the search",
    )
    _episodes(axes, history, x, value, wording)
    front = pareto_front(history, metric)
    y = [value(history[i]) for i in front]
    staircase(axes, x[front], y, "Pareto front of the episodes")
    if uniform is not None:
        place = uniform["costs"][metric] / unit.divisor
        label = "uniform policy of the same budget"
        marks(axes, place, value(uniform), "s", 9, GREEN, DARK, label, zorder=5)
    if chosen is not None:
        star(axes, x[chosen], value(history[chosen]), "handed over")
    _finish(axes)
    _widen(axes, [spent / unit.divisor for spent in (*values, *beside)])
    if limit is not None:
        _limit(axes, limit / unit.divisor, f"limit {cost(metric, limit)}; grey: too expensive")
    axes.set_xlabel(axis_label(metric, unit))
    axes.set_ylabel(f"search {wording.metric} (%)")
    if base_cost:
        scale = 100 * unit.divisor / base_cost
        top = axes.secondary_xaxis("top", functions=(_times(scale), _times(1 / scale)))
        top.set_xlabel("% of the uncompressed network", fontsize=9, color=GREY)
        top.tick_params(labelsize=8, colors=GREY)
    legend(figure, axes)
    return figure


def save_png(path: Path, figure: Figure) -> Path:
    """The figure as a PNG of about 1,200 pixels' width, written whole or not at all.

    Raises:
      FileError: if the disk is full or the place cannot be written to.
    """
    return write_whole(path, lambda stream: figure.savefig(stream, format="png", dpi=144))


def to_pixels(figure: Figure, dpi: float = 80) -> np.ndarray:
    """The figure as uint8 ``[H, W, 3]``."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _percent_of(wording: Wording) -> Callable[[Line], float]:
    """The task's metric in percent, of a line or of whatever else has an 'accuracy'."""
    return lambda line: 100 * wording.value(line["accuracy"])


def _networks(history: Sequence[Line]) -> str:
    return f"{len(history)} network{'s' if len(history) != 1 else ''}"


def _curve(
    axes: Axes,
    history: Sequence[Line],
    value: Callable[[Line], float],
    chosen: int | None,
    wording: Wording,
) -> None:
    episodes = [line["episode"] for line in history]
    _episodes(axes, history, episodes, value, wording)
    best = best_so_far(history)
    y = [np.nan if i is None else value(history[i]) for i in best]
    staircase(axes, episodes, y, "best reward so far")
    if chosen is not None:
        star(axes, episodes[chosen], value(history[chosen]), "handed over")
    _finish(axes)


def _episodes(
    axes: Axes,
    history: Sequence[Line],
    x: Iterable[float],
    value: Callable[[Line], float],
    wording: Wording,
) -> None:
    """The episodes, phase by phase; diverged ones at the bottom edge, whatever their reward."""
    x = np.asarray(list(x), float)
    size = 6 if len(history) <= 150 else 4
    for phase, mark in PHASES.items():
        members = [i for i, line in enumerate(history) if line["phase"] == phase and is_sound(line)]
        if members:
            final = phase == "final"
            inside, edge = (mark.colour, "white") if mark.filled else ("white", mark.colour)
            marks(
                axes,
                x[members],
                [value(history[i]) for i in members],
                mark.marker,
                size + 2 * final,
                inside,
                edge,
                mark.label,
                markeredgewidth=0.5 if mark.filled else 1.2,
                zorder=4 if final else 3,
            )
    lost = [i for i, line in enumerate(history) if not is_sound(line)]
    if lost:
        marks(
            axes,
            x[lost],
            np.full(len(lost), 0.025),
            "x",
            7,
            VERMILION,
            VERMILION,
            f"training diverged (no {wording.metric})",
            transform=axes.get_xaxis_transform(),
            markeredgewidth=2,
            zorder=4,
        )


def _limit(axes: Axes, x: float, label: str) -> None:
    right = axes.get_xlim()[1]
    axes.axvspan(x, right, color=PALE, alpha=0.6, linewidth=0, zorder=0)
    axes.axvline(x, color=VERMILION, linestyle="--", linewidth=1.5, label=label, zorder=1)
    axes.set_xlim(right=right)


def _widen(axes: Axes, x: Sequence[float]) -> None:
    """Room to both sides, at least two percent: policies that spend it all lie on one line."""
    low, high = min(x), max(x)
    room = max(0.06 * (high - low), 0.02 * high)
    axes.set_xlim(low - room, high + room)


def _finish(axes: Axes) -> None:
    """A grid, and room above and below for the larger marks."""
    axes.grid(color=PALE, linewidth=0.8)
    axes.margins(y=0.09)


def _times(factor: float) -> Callable[[Any], Any]:
    return lambda values: np.asarray(values) * factor


def title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=13, fontweight="bold")


def subtitle(axes: Axes, text: str, size: float = 9.5, pad: float | None = None) -> None:
    axes.set_title(text, loc="left", fontsize=size, color=GREY, pad=pad)


def legend(figure: Figure, axes: Axes, **style: Any) -> None:
    """Below the figure, of what one of its panels shows; in three columns, or as many as fit."""
    place: dict[str, Any] = {"loc": "outside lower left", "fontsize": 8.5, "frameon": False}
    for columns in (3, 2, 1):
        made = figure.legend(*axes.get_legend_handles_labels(), ncols=columns, **place, **style)
        if columns == 1 or made.get_window_extent().width <= figure.bbox.width:
            break
        made.remove()


def marks(
    axes: Axes,
    x: Any,
    y: Any,
    marker: str,
    size: float,
    inside: str,
    edge: str,
    label: str | None = None,
    **style: Any,
) -> None:
    """Points that no line joins."""
    colours = {"markerfacecolor": inside, "markeredgecolor": edge}
    axes.plot(
        x, y, linestyle="none", marker=marker, markersize=size, label=label, **colours, **style
    )


def star(axes: Axes, x: float, y: float, label: str) -> None:
    """The one that was chosen."""
    marks(axes, x, y, "*", 17, ORANGE, DARK, label, zorder=6)


def staircase(
    axes: Axes, x: Any, y: Any, label: str, color: str = DARK, zorder: int = 2, alpha: float = 1
) -> None:
    """The best so far, or up to a cost."""
    style: dict[str, Any] = {"color": color, "zorder": zorder, "alpha": alpha}
    axes.plot(x, y, linewidth=1.3, drawstyle="steps-post", label=label, **style)
