"""A method's policies for eight limits, from as many evaluations in all as any other's."""

from typing import Any

from experiments.ablations.experiment import Context, Job, changed
from experiments.ablations.papers.any_budget import ONE
from experiments.ablations.works.searching import problem_in
from experiments.studies.pareto.comparison import EIGHT, Method, compare

CHOSEN = 2
"""Evaluated policies that are scored again at a limit."""


def search(context: Context, job: Job) -> dict[str, Any]:
    """The line of a method; ``episodes`` of the settings are of each limit."""
    cell = context.cell(job.cell)
    settings = changed(context.settings, cell.changes)
    problem = problem_in(context, settings, cell)
    each = settings.length.evaluations(problem.open().evaluator.images_each)
    method = Method(cell.agent, cell.name.startswith(ONE), job.seed)
    steps = max(settings.tuning_images // settings.episode.batch, 1)
    folder = context.settings.out / cell.name / f"seed-{job.seed}"
    found = compare(problem, method, EIGHT, each, CHOSEN, steps, cell.options, folder)
    place = folder.relative_to(context.settings.out).as_posix()
    return {**found, "agent": cell.agent, "folder": place}
