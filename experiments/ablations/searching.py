"""The work of most experiments: a search by a cell's agent, its best policy fine-tuned and tested.

It is the search of ``pfrl sweep``, of other settings in every cell.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from envs import Problem
from experiments.ablations.experiment import Cell, Context, Job, Shared, changed
from experiments.studies.study import problem_of, task_of
from experiments.studies.sweep.searches import searched
from pfrl.cost import Budget

NO_TARGET = "none"


def search(context: Context, job: Job) -> dict[str, Any]:
    """What the line of a cell's search says."""
    cell = context.cell(job.cell)
    settings = changed(context.settings, cell.changes)
    problem = problem_in(context, settings, cell)
    line = searched(settings, problem, cell.agent, job.seed, folder_of(context, job), cell.options)
    line.pop("curve")
    share = None if line["limit"] is None else line["cost"] / line["limit"]
    return {**line, "spent": share, "share": line["cost"] / base_cost(problem)}


def folder_of(context: Context, job: Job) -> Path:
    """Where the history of a job is."""
    return context.settings.out / job.cell.replace("/", " per ") / f"seed-{job.seed}"


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
    problem = problem_of(settings, task, "macs=1" if target == NO_TARGET else target)
    budget = None if target == NO_TARGET else Budget.parse(target)
    return replace(problem, budget=budget, reward=settings.reward, **cell.problem)


def base_cost(problem: Problem) -> float:
    """Of the base network, in the metric of the budget or else in MACs."""
    metric = problem.budget.metric if problem.budget else "macs"
    return problem.open().costs.base[metric]
