"""What a policy will cost, before anything is built."""

from pfrl.cost.budget import Budget, BudgetError, largest_that_fit, largest_that_fits
from pfrl.cost.metrics import METRICS, CostModel

__all__ = ["METRICS", "Budget", "BudgetError", "CostModel", "largest_that_fit", "largest_that_fits"]
