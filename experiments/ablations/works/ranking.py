"""Scores of random policies of equal cost by one kind of evaluation, for rank correlations."""

from typing import Any

import numpy as np

from envs.decisions import Decisions
from experiments.ablations.experiment import Context, Job, changed
from experiments.ablations.papers.pipelines import LONG
from experiments.ablations.works.searching import problem_in
from experiments.studies.proxy.scores import draw
from experiments.watch.runs import tell_tuning
from pfrl.compression.policy import Policy
from pfrl.deploy.runtimes.base import RUNTIMES
from pfrl.evaluation.base import Evaluator, Tuning
from pfrl.tasks.judging import validate
from pfrl.training.fit import Diverged


def score(context: Context, job: Job) -> dict[str, Any]:
    """Scores of the policies of a seed, the same ones in every cell, and seconds for each."""
    cell = context.cell(job.cell)
    settings = changed(context.settings, cell.changes)
    problem = problem_in(context, settings, cell)
    opened = problem.open()
    decisions = Decisions(problem, opened.graph, opened.costs)
    limit = decisions.limit
    assert limit is not None, "policies of equal cost need a limit"
    rng = np.random.default_rng([job.seed, 15])
    count = settings.length.evaluations(opened.evaluator.images_each)
    policies = [draw(decisions, limit, rng).policy(opened.graph) for _ in range(count)]
    if job.cell == LONG:
        tuning = Tuning(settings.tuning_images, settings.learning_rate, job.seed, tell_tuning)
        scores = [_trained(opened.evaluator, policy, tuning) for policy in policies]
        return {"policies": count, "scores": scores}
    found = [opened.evaluator.evaluate(policy) for policy in policies]
    seconds = float(np.median([each.seconds for each in found]))
    return {
        "policies": count,
        "scores": [each.accuracy for each in found],
        "seconds": seconds,
    }


def _trained(evaluator: Evaluator, policy: Policy, tuning: Tuning) -> float:
    """On held-out search images, which no evaluation uses; 0 if the training diverged."""
    try:
        small = evaluator.network(policy, tuning)
    except Diverged:
        return 0.0
    judge = RUNTIMES["onnx"].judge(small, evaluator.graph.input_shape)
    images: Any = evaluator
    while hasattr(images, "inner"):
        images = images.inner
    return validate(judge, images.images["held_out"], evaluator.dataset.task).quality
