"""The picture of a policy: channels kept and bits, layer by layer."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.pictures import BLUE, DARK, GREY, ORANGE, PALE, WIDTH, subtitle, title

FLOAT_POSITION = 10
"""Where 32 bits stand on an axis of 2 to 8."""


def policy_figure(
    policy: Mapping[str, Any],
    heading: str = "The policy: what each layer keeps",
    groups: Mapping[str, Sequence[int]] | None = None,
) -> Figure:
    """Keep share of every channel group and, where they are chosen, bits of every layer.

    From top to bottom in the policy's order, the network's; the height grows
    with the number of layers.

    Args:
      policy: plain data of a ``Policy``.
      heading: above the picture.
      groups: by channel group how many channels are kept and how many there were: shares are of
        these. Without it they are what the policy asks for, before any rounding.
    """
    keep = policy.get("keep") or {}
    if groups:
        keep = {name: groups[name][0] / groups[name][1] for name in keep}
    layers = quantized_layers(policy)
    panels = [name for name, there in (("keep", keep), ("bits", layers)) if there]
    rows = max(len(keep), len(layers), 5)
    figure = Figure(figsize=(WIDTH, 1.5 + 0.2 * rows), layout="constrained")
    title(figure, heading)
    if not panels:
        figure.text(0.5, 0.5, "Nothing is pruned and nothing is quantized.", ha="center")
        return figure
    for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if name == "keep":
            _keep_bars(axes, keep)
        else:
            _bit_bars(axes, layers, policy)
    return figure


def quantized_layers(policy: Mapping[str, Any]) -> list[str]:
    """Names of all layers with bits in the policy, in order; none if all of them are 32."""
    bits = (policy.get("weight_bits") or {}, policy.get("act_bits") or {})
    if all(value >= 32 for table in bits for value in table.values()):
        return []
    return list(dict.fromkeys(name for table in bits for name in table))


def _keep_bars(axes: Axes, keep: Mapping[str, float]) -> None:
    shares = [100 * share for share in keep.values()]
    rows = range(len(keep))
    axes.barh(rows, 100, color=PALE, height=0.72)
    axes.barh(rows, shares, color=BLUE, height=0.72)
    for row, share in zip(rows, shares, strict=True):
        axes.text(101.5, row, f"{share:.0f} %", va="center", fontsize=7.5, color=DARK)
    _rows(axes, keep)
    subtitle(axes, f"Blue is kept, {np.mean(shares):.0f} % on average; grey is removed", 9)
    axes.set_xlim(0, 114)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("channels kept (%)")
    axes.set_ylabel("channel group")


def _bit_bars(axes: Axes, layers: Sequence[str], policy: Mapping[str, Any]) -> None:
    rows = np.arange(len(layers))
    ticks = {bits: str(bits) for bits in (0, 2, 4, 6, 8)}
    for key, colour, label, shift in (
        ("weight_bits", BLUE, "bits of weights", -0.2),
        ("act_bits", ORANGE, "bits of activations", 0.2),
    ):
        bits = [(policy.get(key) or {}).get(name, 32) for name in layers]
        if any(value >= 32 for value in bits):
            ticks[FLOAT_POSITION] = "float"
        shown = [min(value, FLOAT_POSITION) for value in bits]
        axes.barh(rows + shift, shown, color=colour, height=0.38, label=label)
    _rows(axes, layers)
    axes.set_xlim(0, max(ticks) + 0.4)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlabel("bits" + (" (float: not quantized)" if FLOAT_POSITION in ticks else ""))
    axes.set_ylabel("layer")
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        fontsize=9,
        frameon=False,
        labelcolor=GREY,
        borderaxespad=0.3,
        borderpad=0,
        handlelength=1.2,
    )


def _rows(axes: Axes, names: Iterable[str]) -> None:
    short = [name if len(name) <= 26 else f"…{name[-25:]}" for name in names]
    axes.set_yticks(range(len(short)), short, fontsize=7.5)
    axes.set_ylim(len(short) - 0.4, -0.6)
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
