"""Entropy thresholds from held-out data: for given exit shares, or for a mean-compute budget."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rdi_keras.errors import InputError

BISECTIONS = 40


@dataclass(frozen=True)
class BudgetTable:
    """Thresholds by mean compute, so that a request can name what it wants to spend.

    Attributes:
        budgets: K rising fractions of the backbone's MACs.
        thresholds: K lists of N-1 entropies in nats; each met its budget on calibration data.
    """

    budgets: list[float]
    thresholds: list[list[float]]

    def thresholds_for(self, budgets: np.ndarray) -> np.ndarray:
        """The thresholds float32 `[B, N-1]` of the largest budgets in the table that `[B]` allow.

        What is below all of them gets those of the smallest.
        """
        rows = np.searchsorted(np.asarray(self.budgets, np.float32), np.asarray(budgets, np.float32), "right")
        return np.asarray(self.thresholds, np.float32)[np.maximum(rows - 1, 0)]


def thresholds_for_shares(entropies: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Chooses thresholds so that each exit answers its share of the calibration samples.

    Args:
        entropies: float `[n, N]` in nats, of every exit on calibration data.
        shares: N fractions that add up to 1; `[1/N] * N` is the paper's equal share.

    Returns:
        float32 `[N-1]`. Shares are met up to ties and to one sample per exit.

    Raises:
        InputError: if the shares are not N fractions with sum 1, or there are no samples.
    """
    num_samples, num_exits = entropies.shape
    if len(shares) != num_exits or min(shares) < 0 or not np.isclose(sum(shares), 1) or not num_samples:
        raise InputError(
            f"Exit shares must be {num_exits} fractions that add up to 1, for at least one sample. "
            f"Received: {list(shares)} for {num_samples} samples"
        )
    inside = np.ones(num_samples, dtype=bool)
    thresholds = []
    # Cumulative, so that rounding errors and ties do not add up from exit to exit.
    targets = np.round(np.cumsum(shares[:-1]) * num_samples)
    for exit_entropies, target in zip(entropies.T[:-1], targets, strict=True):
        num_inside = int(inside.sum())
        leaving = int(np.clip(target - (num_samples - num_inside), 0, num_inside))
        thresholds.append(_threshold_between(np.sort(exit_entropies[inside]), leaving))
        inside &= ~(exit_entropies < thresholds[-1])
    return np.asarray(thresholds, np.float32)


def thresholds_for_budget(entropies: np.ndarray, macs_per_exit: Sequence[float], budget: float) -> np.ndarray:
    """Chooses thresholds so that the mean compute on the calibration samples meets a budget.

    Every side exit lets the same fraction q leave of the samples that reach it; q is the smallest
    that meets the budget, so that no more samples leave early than the budget asks for.

    Args:
        entropies: float `[n, N]` in nats, of every exit on calibration data.
        macs_per_exit: N cumulative MACs.
        budget: largest mean MACs per sample.

    Returns:
        float32 `[N-1]`.

    Raises:
        InputError: if the budget is below the cost of the first exit.
    """
    num_exits = len(macs_per_exit)

    def thresholds_at(fraction: float) -> np.ndarray:
        shares = [fraction * (1 - fraction) ** k for k in range(num_exits - 1)]
        return thresholds_for_shares(entropies, [*shares, 1 - sum(shares)])

    def mean_macs(fraction: float) -> float:
        exits = exits_at(entropies, thresholds_at(fraction))
        return float(np.mean(np.asarray(macs_per_exit)[exits - 1]))

    if mean_macs(0.0) <= budget:
        return thresholds_at(0.0)
    if not mean_macs(1.0) <= budget:
        raise InputError(
            f"A mean budget of {budget:.0f} MACs per sample cannot be met: leaving at the first exit "
            f"takes {macs_per_exit[0]:.0f}. Raise the budget to at least that"
        )
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_macs(middle) > budget else (low, middle)
    return thresholds_at(high)


def budget_table(
    entropies: np.ndarray, macs_per_exit: Sequence[float], macs_backbone: float, size: int = 17
) -> BudgetTable:
    """Calibrates thresholds for a range of budgets, from the first exit's cost to the last one's.

    Args:
        entropies: float `[n, N]` in nats, of every exit on calibration data.
        macs_per_exit: N cumulative MACs.
        macs_backbone: what a budget of 1 means.
        size: how many budgets.
    """
    # Rounded up: rounding must not push a budget below what the first exit costs.
    steps = np.linspace(macs_per_exit[0], macs_per_exit[-1], size) / macs_backbone
    budgets = [float(np.ceil(1e4 * step) / 1e4) for step in steps]
    found = [
        thresholds_for_budget(entropies, macs_per_exit, budget * macs_backbone).tolist() for budget in budgets
    ]
    return BudgetTable(budgets, found)


def exits_at(entropies: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Where samples with these entropies `[n, N]` leave: int32 `[n]`, 1-based."""
    stays = ~(entropies[:, :-1] < thresholds)
    return 1 + np.cumprod(stays, axis=1, dtype=np.int32).sum(axis=1, dtype=np.int32)


def _threshold_between(ordered: np.ndarray, leaving: int) -> float:
    """A float32 threshold that the `leaving` smallest of the ordered entropies stay below."""
    if leaving == 0:
        return 0.0
    if leaving == len(ordered):
        return float(np.nextafter(np.float32(ordered[-1]), np.float32(np.inf)))
    middle = np.float32((ordered[leaving - 1] + ordered[leaving]) / 2)
    return float(max(middle, np.nextafter(np.float32(ordered[leaving - 1]), np.float32(np.inf))))
