"""The table of what was measured, beside PyTorch's, and what was left out."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from benchmarks.accelerator.plan import OURS, PYTORCH, Report, Row
from experiments.records.wording import DASH, number, table
from experiments.studies.proxy.table import kendall


def describe(facts: Mapping[str, Any], rows: Sequence[Report], left: Sequence[Any]) -> str:
    """The page.

    Args:
      facts: command, settings, device, machine and versions.
      rows: what was measured.
      left: ``(row, why)`` of what was not.
    """
    settings, versions = facts["settings"], facts["versions"]
    what = settings["data"] or "noise of CIFAR's shape and random weights"
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    text = [
        "# Evaluations on a GPU",
        f"{facts['device']}; {facts['machine']['cores']} core(s) of {facts['machine']['cpu']};"
        f" {libraries}. On {what}; random policies. Ours evaluates all policies of a population in"
        " one call; PyTorch prunes with Torch-Pruning, fine-tunes (16 × 64 images) and judges one"
        " policy after the other, on the same card, of the same images. Medians over the calls"
        " after the first, which compiles.",
        f"Made by `{facts['command']}`.",
    ]
    text.append(rates(rows) if rows else "Nothing could be measured.")
    text += ranks(rows) if settings["data"] else []
    if left:
        text += ["Left out:", "\n".join(left_out(left))]
    return "\n\n".join(text)


def rates(rows: Sequence[Report]) -> str:
    """One line a row, with PyTorch's rate at the same precision for comparison."""
    theirs = {
        (each.row.network, each.row.precision): each.policies_a_second
        for each in rows
        if each.row.who == PYTORCH
    }
    head = (
        "network", "fidelity", "precision", "policies at once", "policies a second",
        "× PyTorch", "first call, s", "preparing a policy, s", "device memory, GiB",
    )  # fmt: skip
    lines = []
    for each in rows:
        row = each.row
        peer = theirs.get((row.network, row.precision))
        lines.append(
            (
                row.network,
                row.fidelity if row.who == OURS else f"{PYTORCH}, {row.fidelity}",
                row.precision,
                str(row.population),
                number(each.policies_a_second),
                DASH if peer is None else number(each.policies_a_second / peer),
                number(each.first),
                number(each.preparing),
                number(each.peak_gib),
            )
        )
    return table(head, lines, left=3)


def ranks(rows: Sequence[Report]) -> list[str]:
    """How far precisions rank policies as float32 does, of the same policies."""
    mine = [each for each in rows if each.row.who == OURS]
    known = {each.row: each for each in mine}
    found = []
    for each in mine:
        row = each.row
        exact = known.get(row._replace(precision="float32"))
        if exact is None or row.precision == "float32" or row.population < 4:
            continue
        tau = float(kendall(np.asarray(exact.accuracies), np.asarray(each.accuracies)))
        found.append((row.network, row.fidelity, row.precision, str(row.population), number(tau)))
    if not found:
        return []
    head = ("network", "fidelity", "precision", "policies", "Kendall's τ")
    return ["Ranks beside those of float32:", table(head, found, left=3)]


def left_out(left: Sequence[tuple[Row, str]]) -> list[str]:
    """One line a reason."""
    ordered = sorted(left, key=lambda pair: pair[1])
    return [
        f"- {why}: {'; '.join(row.text for row, _ in group)}."
        for why, group in groupby(ordered, key=lambda pair: pair[1])
    ]
