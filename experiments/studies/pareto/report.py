"""What ``pfrl pareto`` found, for people: ``pareto.md``, ``pareto.png`` and ``pareto.csv``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.records.history import unbeaten
from experiments.records.wording import (
    axis_label,
    bullets,
    code_block,
    comma_separated,
    cost,
    details,
    noun_of,
    percent,
    section,
    table,
    unit_of,
)
from experiments.report.intervals import accuracy_interval
from experiments.report.pictures import (
    BLUE,
    DARK,
    GREEN,
    ORANGE,
    PALE,
    WIDTH,
    legend,
    marks,
    save_png,
    staircase,
    subtitle,
    title,
)
from experiments.studies.pareto.limits import PLAN
from pfrl.files import write_text
from pfrl.tasks import Wording

Entry = Mapping[str, Any]


def write_pareto_report(out: Path, result: Entry) -> Path:
    """Write the three files and return the path of the page."""
    wording, settings = Wording(**result["task"]), result["settings"]
    write_text(out / "pareto.csv", _csv(result))
    save_png(out / "pareto.png", front_figure(result, wording))
    beaten = [place for place in range(len(result["points"])) if place not in result["front"]]
    parts = [
        f"# Several objectives at once: {settings['model']} on {settings['data']}",
        _headline(result),
        "![Accuracy against costs: the front, and what it beats](pareto.png)",
        section("The front", _table(result, wording, result["front"], rows=True), _note(result)),
        section("Pick one", *_pick(result)),
        section("How it was measured", _method(result)),
        details(f"The {len(beaten)} networks that the front beats", _table(result, wording, beaten))
        if beaten
        else "",
        section("Do it again", code_block("\n".join(result["commands"]), "sh")),
    ]
    return write_text(out / "pareto.md", "\n\n".join(filter(None, parts)) + "\n")


def panels(result: Entry) -> list[str]:
    """What the picture shows: the costs of the front, and the limited one if there is room."""
    shown, metric = list(result["objectives"]), result["settings"]["metric"]
    return [metric, *shown] if metric not in shown and len(shown) < 2 else shown


def front_figure(result: Entry, wording: Wording) -> Figure:
    """The task's metric against each cost: all that was re-scored, with the front numbered."""
    costs = panels(result)
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    axes = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    count, kept = len(result["points"]), len(result["front"])
    objectives = [noun_of(name) for name in result["objectives"]]
    title(figure, f"{kept} of {count} networks are on the front")
    subtitle(
        axes[0],
        "Numbers are rows of the table. Each of these is better than any other network in"
        f" {wording.metric}, {' or '.join(objectives)}.\n{'Down' if wording.error else 'Up'} and to"
        " the left is better.",
    )
    for each, name in zip(axes, costs, strict=True):
        _panel(each, result, name, wording)
    axes[0].set_ylabel(f"{wording.metric} on held-out search images (%)")
    legend(figure, axes[0], labelspacing=1.1)
    return figure


def _panel(axes: Axes, result: Entry, metric: str, wording: Wording) -> None:
    every, base = result["points"], result["base"]
    unit = unit_of(metric, base["costs"][metric])

    def at(point: Entry) -> tuple[float, float]:
        return (
            point["costs"][metric] / unit.divisor,
            100 * float(wording.value(point["held_out_accuracy"])),
        )

    chosen = [every[place] for place in result["front"]]
    x, y = np.transpose([at(point) for point in every])
    label = "re-scored network that another one beats"
    marks(axes, x, y, "o", 7, "#C9C9C9", "white", label, zorder=2)
    x, y = np.transpose([at(point) for point in chosen])
    marks(axes, x, y, "o", 13, BLUE, "white", "on the front, with its row", zorder=4)
    if result["pick"] is not None:
        x, y = at(chosen[result["pick"] - 1])
        marks(axes, x, y, "o", 17, ORANGE, DARK, f"picked: row {result['pick']}", zorder=5)
    for row, point in enumerate(chosen, 1):
        picked = row == result["pick"]
        axes.annotate(
            str(row),
            at(point),
            ha="center",
            va="center_baseline",
            fontsize=8,
            color=DARK if picked else "white",
            fontweight="bold",
            zorder=6,
        )
    marks(axes, *at(base), "s", 9, GREEN, DARK, "the base network, trained on alike", zorder=3)
    axes.grid(color=PALE, linewidth=0.8)
    axes.margins(x=0.08, y=0.09)
    # From zero, so that a distance is a saving; then the line may go on to the edge.
    right = 1.08 * max(at(point)[0] for point in (*every, base))
    axes.set_xlim(0, right)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    places = [at(point) for point in every]
    best = unbeaten([(-x, -y if wording.error else y) for x, y in places])
    steps = sorted(places[place] for place in best)
    x, y = np.transpose([*steps, (right, steps[-1][1])])
    staircase(axes, x, y, "best up to this cost", BLUE, zorder=1, alpha=0.6)
    axes.set_xlabel(axis_label(metric, unit))


def _headline(result: Entry) -> str:
    objectives = [noun_of(name) for name in result["objectives"]]
    limits = ", ".join(percent(limit, 0) for limit in result["limits"])
    limited = noun_of(result["settings"]["metric"])
    return (
        f"**{len(result['front'])} of {len(result['points'])} networks are on the front**: each is"
        f" better than any other in accuracy, {' or '.join(objectives)}. They were found in"
        f" searches with at most {limits} of the base network's {limited}."
    )


def _note(result: Entry) -> str:
    return (
        f"Shares are of the base network. Accuracies are of {result['base']['images']:,} images:"
        " rows whose intervals overlap much may well be equally good."
    )


def _costs(result: Entry) -> list[str]:
    return list(dict.fromkeys([result["settings"]["metric"], *result["objectives"]]))


def _table(result: Entry, wording: Wording, places: Sequence[int], rows: bool = False) -> str:
    """Of the points at ``places``, numbered with ``rows``; the base comes last then."""
    base, shown = result["base"], _costs(result)
    classes = wording.metric == "accuracy"
    head = [
        *(["row"] if rows else []),
        "found at",
        "by",
        f"held-out {wording.metric}",
        *(["95 % interval"] if classes else []),
        *(noun_of(name) for name in shown),
    ]

    def line(point: Entry, found: str, who: str) -> list[str]:
        quality = point["held_out_accuracy"]
        low, high = accuracy_interval(round(quality * base["images"]), base["images"])
        return [
            found,
            who,
            percent(wording.value(quality), 1),
            *([f"{100 * low:.1f} to {100 * high:.1f}"] if classes else []),
            *(
                f"{cost(name, point['costs'][name])}"
                f" ({percent(point['costs'][name] / base['costs'][name], 0)})"
                for name in shown
            ),
        ]

    lines = []
    for row, place in enumerate(places, 1):
        point = result["points"][place]
        mark = " ★" if rows and row == result["pick"] else ""
        own = line(point, _limit(point), _who(point))
        lines.append([f"{row}{mark}", *own] if rows else own)
    if rows:
        lines.append(["base", *line(base, "", "")])
    return table(head, lines, left=3 if rows else 2)


def _limit(point: Entry) -> str:
    metric, share = point["target"].split("=")
    return f"{noun_of(metric)} {percent(float(share), 0)}"


def _who(point: Entry) -> str:
    if point["episode"] == PLAN:
        return "the agent's plan"
    return "uniform policy" if point["episode"] is None else f"episode {point['episode']}"


def _pick(result: Entry) -> tuple[str, ...]:
    if result["pick"] is not None:
        return (f"Row {result['pick']} was picked (★): its policy is `policy.json`.",)
    return (
        "Its policy is written to `policy.json` by",
        code_block(f"{result['commands'][-1]} --pick 1", "sh"),
    )


def _method(result: Entry) -> str:
    settings = result["settings"]
    latency = (
        " Latency is predicted by a model that was measured on this machine (`latency.json`)."
        if "latency" in result["objectives"]
        else ""
    )
    count = len(result["limits"]) * settings["episodes"]
    how = (
        f"One search of `{settings['agent']}` made {count} evaluations (seed {settings['seed']}),"
        " of episodes with limits of their own."
        if settings.get("one_search")
        else f"At each limit `{settings['agent']}` made {settings['episodes']} evaluations (seed"
        f" {settings['seed']}); evaluations that searches have in common were made once."
    )
    return bullets(
        how,
        "The best of each search, and the uniform policy at the same limit, were fine-tuned anew"
        f" for {settings['rescore_steps']} steps and judged on {result['base']['images']:,} images"
        " of the search split that no reward has used. The base network got the same fine-tuning.",
        f"The test split was not opened: it is for the network that is picked.{latency}",
    )


def _csv(result: Entry) -> str:
    """One line a re-scored network, the front first, and the base."""
    names, base = list(result["base"]["costs"]), result["base"]
    head = ["row", "picked", "target", "episode", "search_accuracy", "held_out_accuracy", *names]
    rows: list[list[Any]] = [head]
    every = result["points"]
    order = [*result["front"], *(p for p in range(len(every)) if p not in result["front"])]
    for number, place in enumerate(order, 1):
        point = every[place]
        rows.append([
            number if place in result["front"] else "",
            int(number == result["pick"]),
            point["target"],
            "uniform" if point["episode"] is None else point["episode"],
            point["search_accuracy"],
            point["held_out_accuracy"],
            *(point["costs"][name] for name in names),
        ])  # fmt: skip
    costs = [base["costs"][name] for name in names]
    rows.append(["base", 0, "", "", "", base["held_out_accuracy"], *costs])
    return comma_separated(rows)
