"""Curves of a network: accuracy and saving against ε, attack steps and the scale of the thresholds."""

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from rdi_keras.attacks import Attack, ExitNetwork, objective, pgd
from rdi_keras.checks import check_thresholds
from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.evaluation.cascade import CLEAN, WORST_CASE, run_suite
from rdi_keras.evaluation.intervals import CONFIDENCE, wilson
from rdi_keras.evaluation.outcome import Outcome
from rdi_keras.evaluation.suite import Entry
from rdi_keras.inference import CostTable
from rdi_keras.names import parse_epsilon

# The curves, by what changes along them.
EPSILON, NUM_STEPS, THRESHOLD_SCALE = "epsilon", "num_steps", "threshold_scale"
# What a curve shows, each clean and in the worst case.
CONDITIONS = (CLEAN, WORST_CASE)

EPSILON_MULTIPLES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
STEP_COUNTS = (1, 2, 5, 10, 20, 50, 100)
THRESHOLD_SCALES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
# Steps per attack, where it is not they that change.
POINT_STEPS = 20
# The limit of ever larger thresholds; JSON has no infinity.
EVERYBODY_AT_EXIT_1 = None


def curve_attacks(epsilon: float, num_steps: int) -> dict[str, Attack]:
    """The attacks that make a point; a short list, since there are some twenty points.

    Step sizes are 2.5 · ε / steps, so that every attack can cross the ball.

    Args:
        epsilon: radius of the L∞ ball, in pixel units.
        num_steps: of PGD; `targeted_exit(1)`, which has a part for every exit, gets half as many.

    Returns:
        Condition names and attacks: `average`, `exit_aware`, `targeted_exit(1)`.

    Raises:
        InputError: if ε lies outside [0, 1] or there is not at least one step.
    """
    epsilon = parse_epsilon(epsilon)
    if num_steps < 1:
        raise InputError(f"A curve's attacks take at least 1 step. Received: num_steps={num_steps}")
    steps = {
        "average": num_steps,
        "exit_aware": num_steps,
        "targeted_exit(1)": max(1, num_steps // 2),
    }
    return {name: Attack(objective(name), pgd(epsilon, count)) for name, count in steps.items()}


def measure_curves(
    network: ExitNetwork,
    thresholds: ArrayLike,
    data: Split,
    cost: CostTable,
    epsilon: float | str,
    seed: int = 0,
    batch_size: int = 250,
    on_point: Callable[[str, int, int], None] = lambda curve, done, planned: None,
    loops: dict | None = None,
) -> dict:
    """Measures accuracy and saving, clean and in the worst case, along three curves.

    * `epsilon`: ε from 0 to four times the run's, at most 1. Where accuracy is not 0 there, ε is
      doubled until it is, or ε is 1: a curve that does not come down to 0 then says that the attacks
      are too weak to be believed.
    * `num_steps`: how hard the attacker tries. Where the curve still falls, more steps would find more.
    * `threshold_scale`: all thresholds times a number, from 0 (nobody leaves early) to the limit where
      everybody leaves at exit 1: what accuracy, robustness and compute cost each other. The attacker
      knows the scaled thresholds, so every point is attacked anew. Left out with one exit.

    Every point is one run of `curve_attacks` with the same seeds, so that its neighbours differ by
    what the curve is about alone. The point that all curves share is measured once.

    Args:
        network: under attack; in inference mode.
        thresholds: `[N-1]` in nats, as calibrated.
        data: the samples of every point.
        cost: of the network.
        epsilon: of the run, in pixel units, above 0.
        seed: of the attacks.
        batch_size: samples attacked at once.
        on_point: called after each point with the curve's name, how many points are done and how many
            are planned as yet; the latter grows where ε has to be doubled.
        loops: see `CompiledAttack`, of the network.

    Returns:
        What JSON can hold: `n`, `seed`, `epsilon`, `num_steps`, `thresholds`, `attacks` (their names) and
        `confidence` are those of all points. `against` maps each curve's name to `clean` and `worst_case`,
        and these to a list of points with `x` (ε in pixel units; steps; scale, `None` in the limit),
        `accuracy`, `interval` (low, high: Wilson, 95 %), `saving` (1 − mean cumulative MACs / those of
        the backbone; fractions all) and `n`.

    Raises:
        InputError: if ε is 0 or outside [0, 1], there are no samples, or the thresholds do not fit.
    """
    epsilon = parse_epsilon(epsilon)
    if epsilon == 0 or len(data) == 0:
        raise InputError(
            "Curves need an epsilon above 0 and at least 1 sample. Received: "
            f"epsilon={epsilon}, {len(data)} samples"
        )
    calibrated = tuple(check_thresholds(thresholds, network.num_exits).tolist())

    # ε, steps and thresholds are inputs of the compiled loops: they serve all points.
    loops = {} if loops is None else loops

    @functools.cache
    def measure(epsilon: float, num_steps: int, thresholds: tuple[float, ...]) -> dict[str, dict]:
        attacks = curve_attacks(epsilon, num_steps) if epsilon else {}
        suite = [Entry(name, attack) for name, attack in attacks.items()]
        known = np.asarray(thresholds, np.float32)
        outcomes = run_suite(network, known, data, suite, batch_size, seed, loops=loops).outcomes
        return {condition: _values(outcomes[condition], cost) for condition in CONDITIONS}

    settings = _settings(epsilon, calibrated, network.num_classes)
    done, planned = 0, sum(map(len, settings.values()))
    against: dict[str, dict[str, list[dict]]] = {}
    for curve, points in settings.items():
        lines = against[curve] = {condition: [] for condition in CONDITIONS}
        for x, setting in points:
            for condition, values in measure(*setting).items():
                lines[condition].append({"x": x, **values})
            is_last = len(lines[CLEAN]) == len(points)
            if curve == EPSILON and is_last and x < 1 and lines[WORST_CASE][-1]["accuracy"] > 0:
                # This very loop goes on with it.
                points.append(_at_epsilon(2 * x, calibrated))
                planned += 1
            done += 1
            on_point(curve, done, planned)
    return {
        "n": len(data),
        "seed": seed,
        "epsilon": epsilon,
        "num_steps": POINT_STEPS,
        "thresholds": list(calibrated),
        "attacks": list(curve_attacks(epsilon, POINT_STEPS)),
        "confidence": CONFIDENCE,
        "against": against,
    }


def _values(outcome: Outcome, cost: CostTable) -> dict:
    n, right = len(outcome.correct), int(outcome.correct.sum())
    return {
        "accuracy": right / n,
        "interval": list(wilson(right, n)),
        "saving": outcome.summary(cost)["saving"],
        "n": n,
    }


def _settings(epsilon: float, thresholds: tuple[float, ...], num_classes: int) -> dict[str, list[tuple]]:
    """Per curve, every x and the `(ε, steps, thresholds)` to measure there."""
    epsilons = sorted({min(1.0, multiple * epsilon) for multiple in EPSILON_MULTIPLES})
    settings = {
        EPSILON: [_at_epsilon(each, thresholds) for each in epsilons],
        NUM_STEPS: [(count, (epsilon, count, thresholds)) for count in STEP_COUNTS],
    }
    if thresholds:
        settings[THRESHOLD_SCALE] = [
            (scale, (epsilon, POINT_STEPS, _scaled(thresholds, scale, num_classes)))
            for scale in (*THRESHOLD_SCALES, EVERYBODY_AT_EXIT_1)
        ]
    return settings


def _at_epsilon(epsilon: float, thresholds: tuple[float, ...]) -> tuple:
    epsilon = min(1.0, epsilon)
    return epsilon, (epsilon, POINT_STEPS, thresholds)


def _scaled(thresholds: tuple[float, ...], scale: float | None, num_classes: int) -> tuple[float, ...]:
    if scale is EVERYBODY_AT_EXIT_1:
        # No entropy is above ln C; a multiple would not do, since a threshold may be 0.
        return (math.log(num_classes) + 1,) * len(thresholds)
    return tuple(scale * each for each in thresholds)
