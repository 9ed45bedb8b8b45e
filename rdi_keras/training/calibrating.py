"""Thresholds of a trained model, from data held out of its training."""

import numpy as np

from rdi_keras.data import Split
from rdi_keras.inference import (
    BudgetTable,
    CostTable,
    budget_table,
    cost_table,
    entropy,
    exits_at,
    thresholds_for_budget,
    thresholds_for_shares,
)
from rdi_keras.models import MultiExitModel
from rdi_keras.presets import CalibrationConfig

BATCH = 500


def calibrate(model: MultiExitModel, held_out: Split, config: CalibrationConfig) -> dict:
    """Sets the model's thresholds from held-out data.

    Returns:
        How they were chosen, and accuracy, mean MACs, saving and exit shares on these data.
    """
    cost = cost_table(model)
    logits = logits_of(model, held_out.images)
    entropies = np.asarray(entropy(logits))
    model.thresholds.assign(_choose_thresholds(entropies, cost, config))
    method = f"shares {config.shares}" if config.shares else f"budget {config.budget}"
    return _facts(model, logits, held_out, method)


def calibration_facts(model: MultiExitModel, held_out: Split, method: str) -> dict:
    """What a model's thresholds do on held-out data, and in words how they were chosen."""
    return _facts(model, logits_of(model, held_out.images), held_out, method)


def _facts(model: MultiExitModel, logits: np.ndarray, held_out: Split, method: str) -> dict:
    cost = cost_table(model)
    exits = exits_at(np.asarray(entropy(logits)), model.thresholds.numpy())
    answers = np.argmax(logits, axis=-1)[np.arange(len(exits)), exits - 1]
    mean_macs = float(np.asarray(cost.cumulative)[exits - 1].mean())
    return {
        "method": method,
        "n": len(held_out),
        "accuracy": float(np.mean(answers == held_out.labels)),
        "mean_macs": mean_macs,
        "saving": 1 - mean_macs / cost.backbone,
        "exit_shares": (np.bincount(exits, minlength=model.num_exits + 1)[1:] / len(exits)).tolist(),
    }


def calibrate_budgets(model: MultiExitModel, held_out: Split) -> BudgetTable | None:
    """Thresholds by mean compute, from held-out data; `None` for a model with one exit."""
    if model.num_exits == 1:
        return None
    cost = cost_table(model)
    entropies = np.asarray(entropy(logits_of(model, held_out.images)))
    return budget_table(entropies, cost.cumulative, cost.backbone)


def logits_of(model: MultiExitModel, images: np.ndarray) -> np.ndarray:
    """The logits of every exit, float32 `[n, N, C]`.

    Not `predict`, which does not work where several machines train together.
    """
    parts = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return np.concatenate([np.stack([each.numpy() for each in model.logits(part)], axis=1) for part in parts])


def _choose_thresholds(entropies: np.ndarray, cost: CostTable, config: CalibrationConfig) -> np.ndarray:
    if entropies.shape[1] == 1:
        return np.zeros(0, np.float32)
    if config.shares is not None:
        return thresholds_for_shares(entropies, config.shares)
    return thresholds_for_budget(entropies, cost.cumulative, config.budget * cost.backbone)
