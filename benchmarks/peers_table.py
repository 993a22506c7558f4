"""What ``benchmarks.peers`` found: medians, ratios and rank correlations, as data and a page."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.records.wording import number, table
from experiments.studies.proxy.table import JUDGED, correlate, correlation_table
from pfrl.compression.policy import Policy
from pfrl.deploy.timing import median_interval

PYTORCH = "PyTorch"
RACE = ", race"
CONTESTANTS = ("reconstruct", f"reconstruct{RACE}", "finetune", f"finetune{RACE}", PYTORCH)
"""Our fidelities, and PyTorch's fine-tuning; in a race judging ends when a policy is behind the
best one before it."""


class Case(NamedTuple):
    """A policy and, from a study, its line of the long fine-tuning."""

    policy: Policy
    long: Mapping[str, Any] | None


def summarize(
    lines: Sequence[Mapping[str, Any]], cases: Sequence[Case], seed: int
) -> dict[str, Any]:
    """Medians and ratios over the policies, with 95 % bootstrap intervals, and correlations."""
    there = {line["contestant"] for line in lines}
    columns = {
        name: sorted(
            (line for line in lines if line["contestant"] == name), key=lambda x: x["policy"]
        )
        for name in CONTESTANTS
        if name in there
    }
    seconds = {name: np.array([x["seconds"] for x in own]) for name, own in columns.items()}
    found = {}
    for name, own in columns.items():
        ratios = seconds[PYTORCH] / seconds[name]
        found[name] = {
            "seconds": float(np.median(seconds[name])),
            "parts": {
                part: float(np.median([x["parts"][part] for x in own])) for part in own[0]["parts"]
            },
            "times_faster": float(np.median(ratios)),
            "interval": median_interval(ratios, np.random.default_rng(seed)),
            "accuracies": [float(f([x["accuracy"] for x in own])) for f in (min, np.median, max)],
            "correlations": correlations([x["accuracy"] for x in own], cases),
        }
    return {"policies": len(cases), "contestants": found}


def correlations(accuracies: Sequence[float], cases: Sequence[Case]) -> dict[str, Any]:
    """With the accuracies after the study's long fine-tuning; none without a study."""
    long = [case.long for case in cases if case.long is not None]
    return {
        judged: {
            "all": {
                name: correlation._asdict()
                for name, correlation in correlate(
                    accuracies, [line[judged] for line in long]
                ).items()
            }
        }
        for judged in JUDGED
        if long
    }


def describe(found: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The page, which is printed too."""
    settings, here = facts["settings"], facts["machine"]
    rows = []
    for name, row in found["contestants"].items():
        low, high = row["interval"]
        parts = ", ".join(f"{part} {number(spent)}" for part, spent in row["parts"].items())
        ratio = (
            "1"
            if name == PYTORCH
            else f"{number(row['times_faster'])} ({number(low)} to {number(high)})"
        )
        accuracies = " / ".join(f"{100 * value:.1f}" for value in row["accuracies"])
        rows.append((name, parts, number(row["seconds"]), ratio, accuracies))
    head = ("", "seconds by part", "seconds", "times faster than PyTorch", "accuracy (%)")
    cast = ", autocast to bfloat16" if settings.get("autocast") else ""
    text = [
        "# An evaluation here and in PyTorch",
        f"{found['policies']} policies of {settings['model']}, all images of the search split, a"
        f" process each on {here['cores']} core(s) of {here['cpu']}, in turns. PyTorch (eager,"
        f" channels last{cast}): pruned by Torch-Pruning, {settings['steps']} × 64 images of"
        " fine-tuning. In a race judging ends when a policy is behind the best one before it."
        " Medians over the policies; in brackets 95 % bootstrap intervals; accuracies: lowest /"
        f" median / highest. Logits of the two networks, whole and pruned, differ by at most"
        f" {facts['logits_differ_by']:.0e} of the largest.",
        f"Made by `{facts['command']}`.",
        table(head, rows, left=2),
    ]
    for judged, images in JUDGED.items():
        if judged in found["contestants"][PYTORCH]["correlations"]:
            text += [
                f"Rank correlation with the long fine-tuning of the study, judged on {images}:",
                correlation_table(found["contestants"], judged, ["all"]),
            ]
    return "\n\n".join(text)
