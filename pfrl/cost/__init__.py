"""What a policy will cost, before anything is built."""

from pfrl.cost.budget import Budget, BudgetError
from pfrl.cost.metrics import METRICS, CostModel

__all__ = ["METRICS", "Budget", "BudgetError", "CostModel"]
