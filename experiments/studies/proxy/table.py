"""What ``pfrl proxy`` found: rank correlations with intervals, as data, a page and a picture."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from experiments.records.history import Line
from experiments.records.wording import DASH, number, percent, table
from experiments.report.pictures import BLUE, GREY, PALE, WIDTH, save_png, subtitle, title
from pfrl.files import write_json, write_text

LONG = "long"
"""The long fine-tuning, in the place of a fidelity."""
SAMPLES = 2_000
"""Of the bootstrap."""
AT_ONCE = 40
"""Samples of the bootstrap that are in memory together."""
JUDGED = {"accuracy": "the same images", "held_out": "held-out images"}
"""What judges after the long fine-tuning, by the key of its line."""
SUBSETS = {"all": "all policies", "top": "the better half"}
STATISTICS = {"kendall": "Kendall's τ", "spearman": "Spearman's ρ"}


class Correlation(NamedTuple):
    """A rank correlation and the bounds of its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's τ-b of the last axis of ``x`` and ``y`` ``[..., N]``; NaN where one is constant.

    The sum over all pairs of the product of the signs of their differences, over the root of
    the product of the sums of their squares, so that ties are left out of either norm (Kendall,
    The treatment of ties in ranking problems, Biometrika 33, 1945).
    """
    signs = [np.sign(z[..., :, None] - z[..., None, :]) for z in (x, y)]
    return _cosine(*(sign.reshape(*sign.shape[:-2], -1) for sign in signs))


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's ρ of the last axis: the linear correlation of ranks, equal ones averaged."""
    ranks = [rankdata(z, axis=-1) for z in (x, y)]
    return _cosine(*(rank - rank.mean(-1, keepdims=True) for rank in ranks))


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norm = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.divide((a * b).sum(-1), norm, out=np.full_like(norm, np.nan), where=norm > 0)


def correlate(x: ArrayLike, y: ArrayLike, seed: int = 0) -> dict[str, Correlation]:
    """Both statistics of paired scores ``[N]``, with percentile bootstrap intervals over the pairs.

    Samples in which all scores of one side are equal have no correlation and are left out.
    """
    first, second = np.asarray(x, float), np.asarray(y, float)
    picks = np.random.default_rng(seed).integers(0, len(first), (SAMPLES, len(first)))
    found = {}
    for name, statistic in (("kendall", kendall), ("spearman", spearman)):
        value = float(statistic(first, second))
        # Part by part: pairs of a hundred policies, of all samples at once, are gigabytes.
        parts = np.array_split(picks, SAMPLES // AT_ONCE)
        samples = np.concatenate([statistic(first[part], second[part]) for part in parts])
        samples = samples[np.isfinite(samples)]
        if math.isnan(value) or len(samples) == 0:
            found[name] = Correlation(None, None, None)
            continue
        low, high = np.percentile(samples, [2.5, 97.5])
        found[name] = Correlation(value, float(low), float(high))
    return found


def study(lines: Sequence[Line]) -> dict[str, Any]:
    """Times and correlations of every fidelity, over the policies that were trained for long."""
    scores: dict[str, dict[int, Line]] = {}
    for line in lines:
        scores.setdefault(line["fidelity"], {})[line["number"]] = line
    long = scores.pop(LONG, {})
    found = {}
    for fidelity, own in {**scores, LONG: long}.items():
        both = sorted(own.keys() & long.keys())
        found[fidelity] = {
            "policies": len(both),
            "seconds": float(np.median([line["seconds"] for line in own.values()])),
            "setup": max(line["setup"] for line in own.values()),
            "diverged": sum(bool(line["diverged"]) for line in own.values()),
            "correlations": {
                judged: correlations([own[n] for n in both], [long[n] for n in both], judged)
                for judged in JUDGED
                if (fidelity, judged) != (LONG, "accuracy")
            },
        }
    return found


def correlations(
    own: Sequence[Line], long: Sequence[Line], judged: str
) -> dict[str, dict[str, Any]]:
    """Over all policies, and over the better half by the accuracy after the long fine-tuning."""
    x = np.array([line["accuracy"] for line in own])
    y = np.array([line[judged] for line in long])
    better = np.argsort(-y, kind="stable")[: -(-len(y) // 2)]
    return {
        subset: {
            name: correlation._asdict()
            for name, correlation in correlate(x[index], y[index]).items()
        }
        for subset, index in (("all", np.arange(len(y))), ("top", better))
    }


def write_study(folder: Path, lines: Sequence[Line], facts: Mapping[str, Any]) -> list[Path]:
    """``proxy.json``, ``proxy.md`` and ``proxy.png`` from the lines of all scores."""
    found = study(lines)
    data = write_json(folder / "proxy.json", {**facts, "fidelities": found})
    page = write_text(folder / "proxy.md", describe(lines, found, facts))
    picture = save_png(folder / "proxy.png", proxy_figure(lines, found))
    return [page, picture, data]


def describe(lines: Sequence[Line], found: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The page.

    Args:
      lines: of all scores.
      found: what ``study`` made of them.
      facts: the study's ``config.json``.
    """
    settings, machine = facts["settings"], facts["machine"]
    long = [line for line in lines if line["fidelity"] == LONG]
    held_out = [line["held_out"] for line in long]
    times = [
        (name, number(row["seconds"]), number(row["setup"]), str(row["diverged"]))
        for name, row in found.items()
    ]
    parts = [
        "# How well short evaluations rank policies",
        f"{len(long)} random policies of {settings['model']} with {settings['target']}, each scored"
        f" by every fidelity on {settings['search_images']} search images and trained on"
        f" {settings['long_images']} images (a learning rate that falls as a cosine from"
        f" {settings['learning_rate']}). After that they are right on"
        f" {percent(min(held_out), 1)} to {percent(max(held_out), 1)} of the search images that no"
        " evaluation uses.",
        "![Accuracy after the long fine-tuning, by fidelity](proxy.png)\n\nMade by "
        + ", ".join(f"`{command}`" for command in facts["commands"])
        + ".",
        "## Time",
        f"Seconds an evaluation (median), and once before the first (of the slowest process):"
        f" {machine['cpu']}, {machine['instruction_set']}.",
        table(("fidelity", "seconds", "once", "diverged"), times),
    ]
    for judged, name in JUDGED.items():
        parts += [
            f"## Rank correlation, the long fine-tuning judged on {name}",
            "In brackets 95 % intervals (percentile bootstrap over the policies, seed 0,"
            f" {SAMPLES:,} samples); the better half is that after the long fine-tuning."
            + (
                " The row 'long' is the long fine-tuning judged on the images of the evaluations:"
                " as far as images alone let ranks agree."
                if judged == "held_out"
                else ""
            ),
            correlation_table(found, judged),
        ]
    return "\n\n".join(parts) + "\n"


def correlation_table(
    found: Mapping[str, Any], judged: str, subsets: Iterable[str] = tuple(SUBSETS)
) -> str:
    """A row for every fidelity, a column for every statistic and subset."""
    columns = [(statistic, subset) for statistic in STATISTICS for subset in subsets]
    head = ["fidelity", *(f"{STATISTICS[name]}, {SUBSETS[subset]}" for name, subset in columns)]
    rows = []
    for fidelity, row in found.items():
        if judged in row["correlations"]:
            own = row["correlations"][judged]
            rows.append([fidelity, *(written(own[subset][name]) for name, subset in columns)])
    return table(head, rows)


def written(correlation: Mapping[str, float | None]) -> str:
    """``0.71 (0.58 to 0.80)``."""
    values = [correlation[key] for key in ("value", "low", "high")]
    if any(value is None for value in values):
        return DASH
    value, low, high = (f"{value:.2f}".replace("-", "−") for value in values)
    return f"{value} ({low} to {high})"


def proxy_figure(lines: Sequence[Line], found: Mapping[str, Any]) -> Figure:
    """One panel a fidelity: its accuracy against the held-out one after the long training."""
    long = {line["number"]: line["held_out"] for line in lines if line["fidelity"] == LONG}
    fidelities = [name for name in found if name != LONG]
    figure = Figure(figsize=(WIDTH, 4.1), layout="constrained")
    title(
        figure, f"{len(long)} policies of equal cost; blue: the better half after long fine-tuning"
    )
    panels = figure.subplots(1, len(fidelities), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, fidelities, strict=True):
        pairs = [
            (line["accuracy"], long[line["number"]])
            for line in lines
            if line["fidelity"] == name and line["number"] in long
        ]
        _panel(axes, name, 100 * np.array(pairs), found[name])
    panels[0].set_ylabel("after long fine-tuning, held-out images (%)")
    return figure


def _panel(axes: Axes, name: str, pairs: np.ndarray, row: Mapping[str, Any]) -> None:
    """Points ``pairs`` ``[policies, 2]`` in percent, the better half in blue."""
    better = np.zeros(len(pairs), bool)
    better[np.argsort(-pairs[:, 1], kind="stable")[: -(-len(pairs) // 2)]] = True
    for members, colour in ((better, BLUE), (~better, GREY)):
        axes.plot(*pairs[members].T, "o", markersize=5, color=colour, markeredgecolor="white")
    own = row["correlations"]["held_out"]
    all_of_them, half = (written(own[subset]["kendall"]) for subset in ("all", "top"))
    subtitle(axes, f"{name}, {number(row['seconds'])} s\nτ {all_of_them}\nblue: τ {half}", 9)
    axes.set_xlabel(f"accuracy by {name} (%)")
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
