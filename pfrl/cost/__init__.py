"""What a policy will cost, before anything is built.

The cost model loads on first use: budgets are read without JAX.
"""

from typing import TYPE_CHECKING, Any

from pfrl.cost.budget import Budget, BudgetError, largest_that_fit, largest_that_fits
from pfrl.cost.metrics import METRICS, Metric

if TYPE_CHECKING:
    from pfrl.cost.model import Assignment, CostModel

__all__ = [
    "METRICS",
    "Assignment",
    "Budget",
    "BudgetError",
    "CostModel",
    "Metric",
    "largest_that_fit",
    "largest_that_fits",
]


def __getattr__(name: str) -> Any:
    if name not in ("Assignment", "CostModel"):
        raise AttributeError(f"module 'pfrl.cost' has no attribute '{name}'")
    from pfrl.cost import model

    return getattr(model, name)
