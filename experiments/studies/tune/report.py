"""What ``pfrl tune`` found, for people: ``tune.md`` and ``tune.png``."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.records.wording import (
    DASH,
    bullets,
    code_block,
    cost,
    details,
    duration,
    percent,
    points,
    section,
    table,
)
from experiments.report.pictures import (
    BLUE,
    GREEN,
    GREY,
    PALE,
    VERMILION,
    WIDTH,
    legend,
    marks,
    save_png,
    staircase,
    star,
    subtitle,
    title,
)
from experiments.studies.tune.space import Parameter
from pfrl.files import write_text
from pfrl.tasks import Wording

Entry = Mapping[str, Any]

OPTIONS = {
    "learning_rate": "finish.learning-rate",
    "distillation_weight": "finish.distillation-weight",
    "temperature": "finish.temperature",
    "criterion": "recipe.criterion",
    "repair": "recipe.repair",
    "weights": "recipe.weights",
    "clips": "recipe.clips",
    "calibration": "recipe.calibration",
}
"""By hyper-parameter, the option of ``pfrl compress``; the others have none there."""


def write_tune_report(out: Path, result: Entry, parameters: Sequence[Parameter]) -> Path:
    """Write both files and return the path of the page.

    Args:
      out: directory.
      result: what ``tune.json`` holds.
      parameters: what was searched.
    """
    wording, settings = Wording(**result["task"]), result["settings"]
    save_png(out / "tune.png", tuning_figure(result, wording))
    trials = result["trials"]
    parts = [
        f"# Hyper-parameters of {settings['model']} on {settings['data']}",
        _headline(result, wording),
        "![Every trial, the best so far, and the defaults](tune.png)",
        section("What was searched", _best_table(result, parameters)),
        section("Use it", *_usage(result, parameters)),
        section("How it was measured", _method(result)),
        details(f"All {len(trials)} trials", _trial_table(result, parameters, wording)),
        section("Do it again", code_block("\n".join(result["commands"]), "sh")),
    ]
    return write_text(out / "tune.md", "\n\n".join(filter(None, parts)) + "\n")


def tuning_figure(result: Entry, wording: Wording) -> Figure:
    """The task's metric of every trial on the search split, the best so far, the defaults.

    The axis is about those near the defaults and better; trials far worse stand at its end.
    """
    trials, default, best = result["trials"], result["default"], result["best"]

    def value(trial: Entry) -> float:
        return 100 * float(wording.value(trial["quality"]))

    worse = -1 if not wording.error else 1
    shown = [abs(value(t) - value(best)) for t in trials if not t["diverged"]]
    reach = max(3 * abs(value(best) - value(default)), float(np.median(shown)) * 1.5, 1.0)
    end = value(best) + worse * reach
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    gain = abs(value(best) - value(default))
    verdict = (
        f"{gain:.1f} points better than the defaults on the search images"
        if result["beaten_at"]
        else "none better than the defaults"
    )
    title(figure, f"{len(trials)} trials: {verdict}")
    subtitle(
        axes,
        "Each mark is one compression of the same network, with other hyper-parameters;"
        f" {'down' if wording.error else 'up'} is better",
    )
    kinds = (
        ("trained to the end", BLUE, "white", lambda t: not t["pruned"]),
        ("given up early, as it was then", "white", GREY, lambda t: t["pruned"]),
    )
    near = [t for t in trials if (value(t) - end) * worse <= 0 and not t["diverged"]]
    for label, inside, edge, belongs in kinds:
        members = [t for t in near if belongs(t)]
        if members:
            x, y = [t["trial"] for t in members], [value(t) for t in members]
            marks(axes, x, y, "o", 7, inside, edge, label, zorder=3)
    far = [t for t in trials if t not in near]
    if far:
        marker, height = ("^", 0.97) if wording.error else ("v", 0.03)
        marks(
            axes,
            [t["trial"] for t in far],
            np.full(len(far), height),
            marker,
            8,
            VERMILION,
            VERMILION,
            f"beyond the axis ({_span([value(t) for t in far])})",
            transform=axes.get_xaxis_transform(),
            zorder=3,
        )
    axes.axhline(
        value(default),
        color=GREEN,
        linestyle="--",
        linewidth=1.5,
        label=f"the defaults, trial {default['trial']}: {value(default):.1f} %",
        zorder=1,
    )
    whole = [t for t in trials if not t["pruned"]]
    so_far = [
        max((t for t in whole if t["trial"] <= trial["trial"]), key=lambda t: t["quality"])
        for trial in trials[whole[0]["trial"] - 1 :]
    ]
    x = [t["trial"] for t in trials[whole[0]["trial"] - 1 :]]
    staircase(axes, x, [value(t) for t in so_far], "best so far")
    label = f"the best, trial {best['trial']}: {value(best):.1f} %"
    star(axes, best["trial"], value(best), label)
    margin = 0.12 * reach
    axes.set_ylim(*sorted((end + worse * margin, value(best) - worse * margin)))
    axes.set_xlim(0.4, len(trials) + 0.6)
    axes.grid(color=PALE, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("trial")
    axes.set_ylabel(f"search {wording.metric} after fine-tuning (%)")
    legend(figure, axes)
    return figure


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.0f} %" if round(low) == round(high) else f"{low:.0f} to {high:.0f} %"


def _headline(result: Entry, wording: Wording) -> str:
    default, best, test = result["default"], result["best"], result["test"]

    def shown(quality: float) -> str:
        return percent(wording.value(quality))

    if result["beaten_at"] is None:
        return (
            f"**None of {len(result['trials'])} trials was better than the defaults**, which reach"
            f" a search {wording.metric} of {shown(default['quality'])} and a test"
            f" {wording.metric} of {shown(test['default'])}."
        )
    difference = test["best_minus_default"]
    ends = sorted(wording.change(difference[end]) for end in ("low", "high"))
    sure = difference["low"] > 0 or difference["high"] < 0
    change = points(wording.change(difference["difference"]))
    rows = [
        ["defaults", shown(default["quality"]), shown(test["default"])],
        [f"best (trial {best['trial']})", shown(best["quality"]), shown(test["best"])],
    ]
    verdict = (
        f"On the {test['images']:,} test images, which no trial has seen, the best differs from the"
        f" defaults by **{change} points** (95 % interval {points(ends[0])} to"
        f" {points(ends[1])}, {test['interval']})"
    )
    return "\n\n".join(
        [
            f"The defaults were first beaten in **trial {result['beaten_at']}** of"
            f" {len(result['trials'])}.",
            table(["", f"search {wording.metric}", f"test {wording.metric}"], rows),
            f"{verdict}{'.' if sure else ': so few images do not tell them apart.'}"
            " The search images flatter the best, which was chosen by them.",
        ]
    )


def _best_table(result: Entry, parameters: Sequence[Parameter]) -> str:
    default, best = result["default"]["values"], result["best"]["values"]
    rows = [
        [f"`{p.name}`", p.searched, _value(default[p.name]), _value(best[p.name])]
        for p in parameters
    ]
    return table(["hyper-parameter", "searched", "defaults", "best"], rows, left=2)


def _usage(result: Entry, parameters: Sequence[Parameter]) -> tuple[str, ...]:
    values, settings = result["best"]["values"], result["settings"]
    words = ["pfrl", "compress", "--model", settings["model"], "--data", settings["data"]]
    if result["weights"] is not None:
        words += ["--weights", result["weights"]]
    words += [
        word
        for name, option in OPTIONS.items()
        if name in values
        for word in (f"--{option}", _value(values[name]))
    ]
    absent = [f"`{p.name}`" for p in parameters if p.name not in OPTIONS]
    note = f"`pfrl compress` has no option for {', '.join(absent)}." if absent else ""
    return code_block(shlex.join(words), "sh"), note


def _method(result: Entry) -> str:
    settings, costs = result["settings"], result["costs"]
    share = costs["compressed"]["macs"] / costs["base"]["macs"]
    pruned = sum(trial["pruned"] for trial in result["trials"])
    return bullets(
        "The policy is the same in all trials (`policy.json`):"
        f" {cost('macs', costs['compressed']['macs'])} MACs per image, {percent(share, 0)} of the"
        f" base network's, and {cost('bytes', costs['compressed']['bytes'])} packed.",
        f"A trial prunes, repairs and rounds the base network anew and fine-tunes it for"
        f" {settings['steps']:,} steps of {settings['batch']} training images, the same ones in the"
        " same order. It is judged on the search split, which nothing is trained on.",
        f"Proposals by `{settings['sampler']}`, seed {settings['seed']}; trials given up by"
        f" `{settings['pruner']}`: {pruned} of {len(result['trials'])}.",
        f"{duration(sum(trial['seconds'] or 0 for trial in result['trials']))} in all on"
        f" {result['machine']['cpu']}.",
    )


def _trial_table(result: Entry, parameters: Sequence[Parameter], wording: Wording) -> str:
    head = ["trial", f"search {wording.metric}", "steps", *(f"`{p.name}`" for p in parameters)]
    rows = []
    for trial in result["trials"]:
        quality = DASH if trial["diverged"] else percent(wording.value(trial["quality"]), 1)
        mark = " (diverged)" if trial["diverged"] else " (given up)" if trial["pruned"] else ""
        values = [_value(trial["values"][p.name]) for p in parameters]
        rows.append([str(trial["trial"]), quality + mark, str(trial["steps"]), *values])
    return table(head, rows)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
