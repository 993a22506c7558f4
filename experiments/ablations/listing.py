"""``pfrl ablate --list``: which experiments there are, what they test and what they cost."""

import json
from typing import Any

from experiments.ablations.experiment import EXPERIMENTS, SCALES, Experiment, Scale
from experiments.ablations.scales import SECONDS
from experiments.records.wording import duration


def described(seeds: int) -> list[dict[str, Any]]:
    """All experiments as plain data, in the order of their names.

    Args:
      seeds: that costs are told for.
    """
    return [
        {
            "name": name,
            "title": experiment.title,
            "paper": experiment.paper,
            "table": experiment.table,
            "claim": experiment.claim,
            "lacks": experiment.lacks,
            "cost": {scale: cost(experiment, scale, seeds) for scale in SCALES},
        }
        for name, experiment in sorted(EXPERIMENTS.items())
    ]


def cost(experiment: Experiment, scale: Scale, seeds: int) -> dict[str, Any]:
    """Jobs and evaluations at a scale, and about how long they take one core."""
    settings = experiment.scales[scale]
    jobs = experiment.jobs(settings, seeds)
    evaluations = len(jobs) * experiment.limits * (settings.length.episodes or 1)
    return {
        "network": f"{settings.network.model} on {settings.network.data}",
        "jobs": len(jobs),
        "evaluations": evaluations,
        "core_seconds": round(len(jobs) * job_seconds(experiment, scale)),
    }


def job_seconds(experiment: Experiment, scale: Scale) -> float:
    """What a job takes at a scale, about."""
    each, rest = SECONDS[scale]
    return experiment.limits * ((experiment.scales[scale].length.episodes or 1) * each + rest)


def as_json(seeds: int) -> str:
    """One document."""
    return json.dumps(described(seeds), indent=1, ensure_ascii=False)


def as_text(seeds: int) -> str:
    """A paragraph an experiment."""
    parts = []
    for each in described(seeds):
        costs = [
            f"  {scale}: {found['jobs']} jobs of {found['network']}, {found['evaluations']:,}"
            f" evaluations, about {duration(found['core_seconds'])} of one core"
            for scale, found in each["cost"].items()
        ]
        parts.append(
            "\n".join(
                [
                    f"{each['name']}: {each['title']}",
                    f"  {each['paper']}, {each['table']}",
                    f"  claim: {each['claim']}",
                    *([f"  not here: {each['lacks']}"] if each["lacks"] else []),
                    *costs,
                ]
            )
        )
    return "\n\n".join(parts)
