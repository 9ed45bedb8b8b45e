"""Exit policies, calibration of their thresholds, adaptive execution, and what it costs."""

from rdi_keras.inference.adaptive import adaptive
from rdi_keras.inference.calibration import (
    BudgetTable,
    budget_table,
    exits_at,
    thresholds_for_budget,
    thresholds_for_shares,
)
from rdi_keras.inference.cost import ALL_COUNTED, CONVOLUTION_ONLY, CostTable, cost_table
from rdi_keras.inference.folding import fold_batch_norm
from rdi_keras.inference.latency import LatencyTable
from rdi_keras.inference.operating_points import (
    OperatingPoint,
    Views,
    cheapest,
    most_robust,
    operating_point,
    operating_points,
    pareto_front,
    threshold_points,
)
from rdi_keras.inference.policy import EntropyPolicy, entropy

__all__ = [
    "ALL_COUNTED",
    "CONVOLUTION_ONLY",
    "BudgetTable",
    "CostTable",
    "EntropyPolicy",
    "LatencyTable",
    "OperatingPoint",
    "Views",
    "adaptive",
    "budget_table",
    "cheapest",
    "cost_table",
    "entropy",
    "exits_at",
    "fold_batch_norm",
    "most_robust",
    "operating_point",
    "operating_points",
    "pareto_front",
    "threshold_points",
    "thresholds_for_budget",
    "thresholds_for_shares",
]


def __dir__() -> list[str]:
    return __all__
