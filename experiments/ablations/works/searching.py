"""The work of most experiments: a search by a cell's agent, its best policy fine-tuned and tested.

It is the search of ``pfrl sweep``, of other settings in every cell. One that another experiment
has done already is taken over.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs import Problem
from experiments.ablations.experiment import Cell, Context, Job, Shared, changed
from experiments.ablations.works.elsewhere import name_of, taken_over
from experiments.records.history import read_history
from experiments.studies.study import problem_of, task_of
from experiments.studies.sweep.curves import at
from experiments.studies.sweep.searches import searched
from pfrl.compression.policy import Policy
from pfrl.cost import Budget

NO_TARGET = "none"


class Found(NamedTuple):
    """A search of a cell.

    Attributes:
      line: what its job's line says.
      problem: what was searched.
      settings: of the cell.
      folder: of its history.
    """

    line: dict[str, Any]
    problem: Problem
    settings: Shared
    folder: Path

    @property
    def best(self) -> Policy:
        """The policy with the highest reward."""
        lines = read_history(self.folder / "history.jsonl")
        return Policy.from_json(lines[self.line["best"]]["policy"])


def search(context: Context, job: Job) -> dict[str, Any]:
    """What the line of a cell's search says."""
    return find(context, context.cell(job.cell), job.seed).line


def find(context: Context, cell: Cell, seed: int) -> Found:
    """Search as a cell says; a search that was stopped goes on."""
    settings = changed(context.settings, cell.changes)
    problem = problem_in(context, settings, cell)
    folder = settings.out / cell.name.replace("/", "-") / f"seed-{seed}"
    name = name_of(context, settings, cell, seed)
    line = taken_over(name, settings.out, folder)
    if line is None:
        line = _searched(settings, problem, cell, seed, folder)
    here = {"search": name, "folder": str(folder.relative_to(context.settings.out))}
    return Found({**line, **here}, problem, settings, folder)


def _searched(
    settings: Shared, problem: Problem, cell: Cell, seed: int, folder: Path
) -> dict[str, Any]:
    """What a search's line says, in whichever experiment."""
    line = searched(settings, problem, cell.agent, seed, folder, cell.options)
    curve, length = line.pop("curve"), line["episodes"]
    early, half = at(curve, "evaluations", np.array([max(length // 4, 1), max(length // 2, 1)]))
    metric = problem.budget.metric if problem.budget else "macs"
    return {
        **line,
        "agent": cell.agent,
        "target": cell.target or settings.targets[0],
        "early_accuracy": float(early),
        "half_accuracy": float(half),
        "share": line["cost"] / problem.open().costs.base[metric],
        "spent": None if line["limit"] is None else line["cost"] / line["limit"],
    }


def problem_in(context: Context, settings: Shared, cell: Cell) -> Problem:
    """The problem of a cell.

    Args:
      context: of the run.
      settings: of the cell.
      cell: whose budget and problem.
    """
    task = task_of(settings, context.weights, latency=context.latency)
    target = cell.target or settings.targets[0]
    # What is no budget still has to be one until it is taken away.
    problem = problem_of(
        settings, task, "macs=1" if target == NO_TARGET else target, settings.reward
    )
    budget = None if target == NO_TARGET else Budget.parse(target)
    return replace(problem, budget=budget, **cell.problem)
