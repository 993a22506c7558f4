"""What ``pfrl inspect`` found, as tables and sentences for people."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.records.wording import percent
from experiments.report.coupling import short_count, short_names

PIPED_WIDTH = 100
"""Columns of the tables where there is no terminal."""
SHOWN_LAYERS = 2
"""Layers of a group that are named in a table; ``--json`` has all."""


def output_console() -> Console:
    """Standard output, as wide as the terminal if it is one."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)


def show(console: Console, found: Mapping[str, Any]) -> None:
    """Print what ``experiments.report.inspection.facts`` found as tables and sentences."""
    short = short_names(group["name"] for group in found["groups"])
    reasons = {entry["reason"]: f"f{n}" for n, entry in enumerate(found["frozen"], 1)}
    console.print(Text.assemble((found["network"], "bold"), " on ", _inputs(found)))
    if not found["layers"]:
        console.print("No layer: nothing in it multiplies its input by a kernel.")
        return
    console.print(_layer_table(found["layers"], short, reasons))
    if found["groups"]:
        console.print(_group_table(found["groups"], short, found["macs"]))
    else:
        console.print("No channel group: nothing can be removed from this network.\n")
    if reasons:
        console.print(_frozen_table(found["frozen"], reasons))
    if found["unknown"]:
        console.print(Text(_unknown(found["unknown"])), "")
    console.print(Text(_totals(found)))


def _inputs(found: Mapping[str, Any]) -> str:
    return " and ".join(
        f"{' × '.join(['N', *map(str, each['shape'][1:])])} {each['dtype']}"
        for each in found["inputs"]
    )


def _table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for column in columns:
        if column in right:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table


def _layer_table(
    layers: Sequence[Mapping[str, Any]], short: Mapping[str, str], reasons: Mapping[str, str]
) -> Table:
    table = _table(
        "Layers, in order of execution",
        *("layer", "kind", "kernel", "output", "MACs", "params", "group"),
        right=("MACs", "params"),
    )
    for layer in layers:
        table.add_row(
            Text(layer["name"]),
            layer["kind"],
            "×".join(map(str, layer["kernel_shape"])),
            "×".join(map(str, layer["output_shape"])),
            short_count(layer["macs"]),
            short_count(layer["params"]),
            _channels(layer, short, reasons),
        )
    return table


def _channels(
    layer: Mapping[str, Any], short: Mapping[str, str], reasons: Mapping[str, str]
) -> str:
    """``g1``, ``g1 + g4``, ``g2×g3`` (every channel of the one in every head of the other)."""
    parts = []
    for term in layer["c_out"]["terms"]:
        product = "×".join(short[group] for group in term["groups"])
        parts.append(product if term["places"] == 1 else f"{term['places']} {product}")
    parts += [reasons[reason] for reason in layer["frozen"]]
    return " + ".join(parts)


def _group_table(groups: Sequence[Mapping[str, Any]], short: Mapping[str, str], macs: int) -> Table:
    saved = "MACs saved\nby half of it"
    table = _table(
        "Channel groups: what can only go together",
        *("", "size", "produced by", "read by", saved),
        right=("", "size", saved),
    )
    for group in groups:
        less = group["half"]["macs_saved"]
        table.add_row(
            short[group["name"]],
            f"{group['size']} {group['kind']}",
            _some(group["producers"]),
            _some(group["consumers"]),
            f"{short_count(less)}  {percent(less / max(macs, 1), 1):>6}",
        )
    return table


def _frozen_table(frozen: Sequence[Mapping[str, Any]], reasons: Mapping[str, str]) -> Table:
    table = _table(
        "Frozen: output channels that are never removed",
        *("", "channels", "of layers", "because"),
        right=("", "channels"),
    )
    for entry in frozen:
        table.add_row(
            reasons[entry["reason"]],
            str(sum(entry["layers"].values())),
            _some(list(entry["layers"])),
            Text(entry["reason"]),
        )
    return table


def _some(names: Sequence[str]) -> Text:
    """The first names, and how many there are beyond them."""
    more = len(names) - SHOWN_LAYERS
    shown = ", ".join(names[:SHOWN_LAYERS])
    return Text(f"{shown}, +{more}" if more > 0 else shown or "no layer")


def _unknown(names: Sequence[str]) -> str:
    many = len(names) > 1
    what = ", ".join(f"'{name}'" for name in names)
    return (
        f"No rule for the primitive{'s' if many else ''} {what}: nothing that"
        f" {'they touch' if many else 'it touches'} is removed."
    )


def _totals(found: Mapping[str, Any]) -> str:
    sizes = Counter[str]()
    for group in found["groups"]:
        sizes[group["kind"]] += group["size"]
    together = " and ".join(f"{size} {kind}" for kind, size in sizes.items())
    half = found["half"]
    products = found["product_macs"]
    inside = f" ({short_count(products)} of them in products of activations)" if products else ""
    lines = [
        f"{len(found['layers'])} layers, {len(found['groups'])} channel groups"
        + (f" with {together}." if together else "."),
        f"{short_count(found['macs'])} MACs per example{inside},"
        f" {short_count(found['params'])} parameters.",
    ]
    if found["groups"]:
        lines.append(
            f"With half of every group {short_count(half['macs'])} MACs"
            f" ({percent(half['macs_share'], 1)}) and {short_count(half['params'])} parameters"
            " are left."
        )
    return "\n".join(lines)
