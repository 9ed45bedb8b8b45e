"""Thresholds that hold under attack, from held-out data."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.evaluation.policy_attacks import PolicyAttacks
from rdi_keras.inference import (
    BudgetTable,
    OperatingPoint,
    Views,
    cost_table,
    most_robust,
    operating_point,
    pareto_front,
    threshold_points,
)
from rdi_keras.models import MultiExitModel
from rdi_keras.names import parse_epsilon
from rdi_keras.presets import Config
from rdi_keras.training.calibrating import calibrate, calibrate_budgets, calibration_facts, logits_of
from rdi_keras.training.temperature import scale_temperatures

ROUNDS = 4
# Budgets for which a choice is attacked too, for the front.
FRONT = 5
# A choice that an attack on it takes less from is believed.
BELIEVED = 0.005


def calibrate_robustly(
    model: MultiExitModel,
    held_out: Split,
    epsilon: float,
    budget: float,
    num_attacked: int,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    accuracy: float = 0.0,
) -> dict:
    """Sets the model's thresholds to those of the largest worst case within a compute budget.

    All choices are judged on attacked images at hand. The best one is attacked itself, what that finds joins
    them, and all are judged again, until an attack on the best finds next to nothing.

    Args:
        model: trained.
        held_out: calibration data: all say what a choice costs, the first `num_attacked` how it holds.
        epsilon: radius of the L∞ ball.
        budget: largest mean compute of clean samples, as a fraction of the backbone's MACs.
        num_attacked: how many samples are attacked.
        seed: of the attacks.
        say: is told what happens.
        accuracy: least clean accuracy on `held_out`.

    Returns:
        As `calibrate`, and `front`: of the choices that were attacked themselves, for this budget and some
        others, those that none beats in cost, accuracy and worst case at once.

    Raises:
        InputError: if no thresholds meet budget and accuracy, or nothing is to be attacked.
    """
    if num_attacked < 1 or model.num_exits == 1:
        raise InputError(
            "Robust calibration takes a model with side exits and at least 1 sample to attack. Received: "
            f"{model.num_exits} exits, {num_attacked} samples"
        )
    table = cost_table(model)
    costs = np.asarray(table.cumulative) / table.backbone
    if budget < costs[0]:
        raise InputError(
            f"A budget of {budget:g} of the backbone's MACs cannot be met: the first exit costs "
            f"{costs[0]:.3f}. Name a larger one"
        )
    clean = Views.of(np.moveaxis(logits_of(model, held_out.images), 1, 0), held_out.labels)
    attack = PolicyAttacks(model, held_out.first(num_attacked), epsilon, seed)
    attacked = attack.at_several(clean.entropies)

    def cost(exits: Sequence[int], shares: np.ndarray) -> float:
        return float(costs[np.asarray(exits) - 1] @ shares)

    def held(point: OperatingPoint) -> OperatingPoint:
        """The same choice, judged by all that has been found."""
        return operating_point(point.exits, np.asarray(point.thresholds, np.float32), clean, attacked, cost)

    def attack_best(allowed: float, least: float = 0.0) -> tuple[OperatingPoint, OperatingPoint]:
        points = list(threshold_points(clean, attacked, cost))
        promised = most_robust(points, allowed, least)
        if promised is None:
            most = max(each.accuracy for each in points if each.cost <= allowed)
            raise InputError(
                f"Within a budget of {allowed:g} no thresholds reach a clean accuracy of {least:g} on "
                f"held-out data; the most is {most:.4f}. Ask for less, or allow more compute"
            )
        attacked.extend(attack(np.asarray(promised.thresholds, np.float32)))
        return promised, held(promised)

    tried: list[OperatingPoint] = []
    for number in range(1, ROUNDS + 1):
        promised, found = attack_best(budget, accuracy)
        tried.append(found)
        say(
            f"calibration, round {number}: worst case {promised.worst_case:.3f}, attacked itself "
            f"{found.worst_case:.3f}"
        )
        if found.worst_case >= promised.worst_case - BELIEVED:
            break
    for other in np.linspace(costs[0], 1.0, FRONT + 1)[1:]:
        tried.append(attack_best(float(other))[1])
    tried = [held(each) for each in tried]
    best = most_robust(tried, budget, accuracy)
    assert best is not None  # What was tried first is within both.
    model.thresholds.assign(best.thresholds)
    method = f"largest worst case within budget {budget:g}"
    method += f" at accuracy {accuracy:g} or more" if accuracy else ""
    return {
        **calibration_facts(model, held_out, method),
        "attacked": min(num_attacked, len(held_out)),
        "worst_case": best.worst_case,
        "front": [dataclasses.asdict(point) for point in pareto_front(tried)],
    }


def calibrate_finally(
    model: MultiExitModel, config: Config, held_out: Split, say: Callable[[str], None] = lambda line: None
) -> tuple[dict, BudgetTable | None]:
    """Sets a trained model's thresholds as a configuration says.

    Returns:
        How they were chosen and what they do on held-out data, and the table of thresholds by budget.
    """
    wanted = config.calibration
    if wanted.temperature is not None:
        scale_temperatures(model, held_out, wanted.temperature)
    if not wanted.attacked or model.num_exits == 1:
        facts = calibrate(model, held_out, wanted)
        return with_temperature(facts, wanted.temperature), calibrate_budgets(model, held_out)
    facts = calibrate_robustly(
        model,
        held_out,
        parse_epsilon(config.epsilon),
        wanted.budget,
        wanted.attacked,
        config.seed,
        say,
        wanted.accuracy or 0.0,
    )
    return with_temperature(facts, wanted.temperature), robust_budget_table(facts["front"])


def with_temperature(facts: dict, temperature: float | None) -> dict:
    """What is known of a calibration, with the temperature that exits have, if any."""
    if temperature is None:
        return facts
    return facts | {"method": f"{facts['method']}, temperature {temperature:g}", "temperature": temperature}


def robust_budget_table(front: list[dict]) -> BudgetTable:
    """Thresholds by mean compute: of the front, the most robust within each budget."""
    points = sorted((OperatingPoint(**each) for each in front), key=lambda each: each.cost)
    kept: list[OperatingPoint] = []
    for point in points:
        if not kept or point.worst_case > kept[-1].worst_case:
            kept.append(point)
    # Rounded up, so that a budget as it is printed allows its own thresholds.
    budgets = [float(np.ceil(1e4 * each.cost) / 1e4) for each in kept]
    return BudgetTable(budgets, [list(each.thresholds) for each in kept])
