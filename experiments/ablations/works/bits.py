"""A search under the cost of a policy with the same bits everywhere."""

from dataclasses import replace
from typing import Any

from experiments.ablations.experiment import Context, Job, changed
from experiments.ablations.papers.haq import FIXED
from experiments.ablations.works.searching import find, problem_in
from pfrl.compression.policy import Policy


def search(context: Context, job: Job) -> dict[str, Any]:
    """The line of a cell whose target is a metric: the limit is what the fixed policy costs."""
    cell = context.cell(job.cell)
    metric = cell.target
    assert metric is not None
    settings = changed(context.settings, cell.changes)
    opened = problem_in(context, settings, replace(cell, target="macs=1")).open()
    graph = opened.graph
    fixed = Policy.uniform(graph, weight_bits=FIXED, act_bits=FIXED)
    edges = dict.fromkeys((graph.layers[0].name, graph.layers[-1].name), settings.space.edge_bits)
    fixed = replace(
        fixed, weight_bits={**fixed.weight_bits, **edges}, act_bits={**fixed.act_bits, **edges}
    )
    limit = opened.costs.of(fixed)[metric]
    return find(context, replace(cell, target=f"{metric}={limit:.0f}"), job.seed).line
