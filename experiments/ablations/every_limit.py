"""The work of the experiment 'limits': one search for every limit, or a search for each."""

from typing import Any

from experiments.ablations.experiment import Context, Job, changed
from experiments.ablations.searching import problem_in
from experiments.studies.pareto.comparison import Method, compare
from pfrl.cost import Budget

MOST_STEPS = 128
"""Of fine-tuning before a policy is scored again, as in ``pfrl pareto``."""


def work(context: Context, job: Job) -> dict[str, Any]:
    """What the line of a cell's searches says; a cell with ``limits`` has one search for all."""
    cell = context.cell(job.cell)
    settings = changed(context.settings, cell.changes)
    problem = problem_in(context, settings, cell)
    limits = [Budget.parse(target).value for target in settings.targets]
    each = settings.length.evaluations(problem.open().evaluator.images_each)
    one = problem.limits is not None
    steps = min(settings.tuning_images // settings.episode.batch, MOST_STEPS)
    method = Method(cell.agent, one, job.seed)
    found = compare(problem, method, limits, each, rescore_steps=steps, options=cell.options)
    at = found.pop("at")
    return {**found, **{f"at {limit}": quality for limit, quality in at.items()}}
