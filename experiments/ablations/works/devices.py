"""A search whose best policy is measured on this machine and computed for other devices."""

from typing import Any

from experiments.ablations.experiment import Context, Job
from experiments.ablations.works.measuring import measured
from experiments.ablations.works.searching import find
from pfrl.cost.metrics import METRICS, Metric
from pfrl.registry import register

COSTS = ("macs", "bytes", "array")
ROWS = COLUMNS = 16
"""Processing elements of the array."""


def _array(costs: Any, at: Any) -> float:
    """Cycles of a weight-stationary array of 16 x 16 elements that holds one tile at a time."""
    return sum(
        layer.places.at(at.counts)
        * -(-layer.kernel_elements_at(at.counts) // (layer.c_out.at(at.counts) * ROWS))
        * -(-layer.c_out.at(at.counts) // COLUMNS)
        for layer in costs.graph.layers
    )


# Here and not beside the experiment: listing experiments adds no metric to other commands.
register("metric", "array", Metric(_array, True, "cycles of a 16 x 16 array", "cycles"))


def search(context: Context, job: Job) -> dict[str, Any]:
    """The line of the search, with what its policy costs by every measure, over the base."""
    found = find(context, context.cell(job.cell), job.seed)
    opened, policy = found.problem.open(), found.best
    computed = opened.costs.of(policy)
    ratios = {name: computed[name] / opened.costs.base[name] for name in COSTS if name in METRICS}
    seconds = 2.0 if found.line["episodes"] < 20 else 10.0
    return {**found.line, **ratios, **measured(opened.graph, policy, seconds)}
