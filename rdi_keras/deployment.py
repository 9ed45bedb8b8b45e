"""From a trained network to the one that a deployment runs: fewer exits, thresholds by measured time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rdi_keras import evaluation
from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.evaluation.cascade import WORST_CASE
from rdi_keras.evaluation.policy_attacks import PolicyAttacks
from rdi_keras.inference import (
    LatencyTable,
    OperatingPoint,
    Views,
    cheapest,
    operating_point,
    operating_points,
    threshold_points,
)
from rdi_keras.models import MultiExitModel

__all__ = ["Deployment", "choose_deployment"]

TRIES = 12
# Choices of exits for which every exit gets a threshold of its own.
CLOSER = 3
# Shares of samples are quotients: a loss of just the tolerance is allowed.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Deployment:
    """What was chosen, and why.

    Attributes:
        point: exits, thresholds, and what they promised.
        model: with these exits and thresholds; shares its weights with the network it was chosen from.
        points: all that was tried; the first is the network without side exits.
        worst_case: of the chosen model, by the whole suite.
        last_exit_worst_case: of the last exit alone, by the same suite on the same samples.
        refused: points that looked better and fell to the suite, with their worst cases by it.
    """

    point: OperatingPoint
    model: MultiExitModel
    points: list[OperatingPoint]
    worst_case: float
    last_exit_worst_case: float
    refused: list[tuple[OperatingPoint, float]]


def choose_deployment(
    model: MultiExitModel,
    held_out: Split,
    latency: LatencyTable,
    suite: str,
    epsilon: float,
    batch_size: int = 1,
    num_attacked: int = 100,
    tolerance: float = 0.01,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Deployment:
    """Chooses the exits to keep and their thresholds: least mean time, within a tolerance of the last exit.

    All choices are judged on attacked images at hand, made with the `quick` list. The cheapest that passes is
    attacked itself; what that finds joins the images at hand, and all are judged again, until a choice
    stands. The suite has the last word on it.

    Args:
        model: the trained network.
        held_out: calibration data.
        latency: measured of the model; what a point costs is taken from it.
        suite: the attack list that decides.
        epsilon: radius of the L∞ ball.
        batch_size: one of the latency table's; time per sample is what is minimised.
        num_attacked: how many of the samples are attacked.
        tolerance: how much accuracy and worst case may lie below those of the last exit alone.
        seed: of the attacks.
        say: is told what happens.

    Raises:
        InputError: if the model has one exit, or the table lacks the batch size.
    """
    if model.num_exits == 1:
        raise InputError("A model with one exit has nothing to choose. Received: 1 exit")
    if batch_size not in latency.batch_sizes:
        raise InputError(
            f"The batch size must be one that was timed: {latency.batch_sizes}. Received: {batch_size}"
        )
    if num_attacked < 1:
        raise InputError(f"At least 1 sample must be attacked. Received: {num_attacked}")
    part = held_out.first(num_attacked)
    clean = Views.of(model.predict(held_out.images, batch_size=500, verbose=0).values(), held_out.labels)
    attack = PolicyAttacks(model, part, epsilon, seed)
    attacked = attack.at_several(clean.entropies)

    def by_suite(point: OperatingPoint) -> tuple[MultiExitModel, float]:
        kept = model.keep_exits(point.exits)
        kept.thresholds.assign(point.thresholds)
        entries = evaluation.suite(suite, epsilon)
        conditions = evaluation.run_suite(kept, kept.thresholds.numpy(), part, entries, seed=seed)
        return kept, float(conditions.outcomes[WORST_CASE].correct.mean())

    def cost(exits: Sequence[int], shares: np.ndarray) -> float:
        return latency.with_exits(exits).of_batch(batch_size * shares) / batch_size

    def missed(point: OperatingPoint, last: OperatingPoint) -> float:
        """How far a point misses what is wanted of it, many times over; 0 if it does not."""
        return 100 * max(
            max(last.accuracy - point.accuracy, last.worst_case - point.worst_case) - tolerance, 0.0
        )

    refused: list[tuple[OperatingPoint, float]] = []

    def judged() -> list[OperatingPoint]:
        found = list(operating_points(clean, attacked, cost))
        # One threshold for all exits tells which exits are worth a closer look.
        promising = sorted(found, key=lambda each: each.cost / found[0].cost + missed(each, found[0]))
        choices = list(dict.fromkeys(each.exits for each in promising if len(each.exits) > 1))[:CLOSER]
        for exits in choices:
            found += threshold_points(clean, attacked, cost, exits)
        return [each for each in found if not any(each.is_choice_of(old) for old, _ in refused)]

    points = judged()
    whole, last_worst = by_suite(points[0])
    say(f"the last exit alone: accuracy {points[0].accuracy:.3f}, worst case {last_worst:.3f}")
    least = last_worst - tolerance - ROUNDING
    for _ in range(TRIES):
        point = cheapest(points, points[0].accuracy - tolerance - ROUNDING, least)
        if point is None or len(point.exits) == 1:
            say("no other choice is left that is faster and as robust")
            break
        attacked += attack(_of_all_exits(point, model.num_exits))
        points = judged()
        here = operating_point(point.exits, np.asarray(point.thresholds, np.float32), clean, attacked, cost)
        if here.worst_case < least:
            say(f"{_named(here)}: falls to an attack on it, worst case {here.worst_case:.3f}")
            continue
        kept, worst = by_suite(here)
        say(f"{_named(here)}: worst case {worst:.3f} by the suite")
        if worst >= least:
            return Deployment(here, kept, points, worst, last_worst, refused)
        refused.append((here, worst))
        points = judged()
    else:
        say(f"none of {TRIES} choices stood; there may be others")
    return Deployment(points[0], whole, points, last_worst, last_worst, refused)


def _of_all_exits(point: OperatingPoint, num_exits: int) -> np.ndarray:
    """The point's policy for the whole network: at an exit that is not kept nobody leaves."""
    thresholds = np.zeros(num_exits - 1, np.float32)
    thresholds[np.asarray(point.exits[:-1]) - 1] = point.thresholds
    return thresholds


def _named(point: OperatingPoint) -> str:
    levels = " / ".join(f"{each:.3g}" for each in point.thresholds)
    return f"exits {list(point.exits)} at {levels} nats, accuracy {point.accuracy:.3f}, {point.cost:.3g} ms"


def __dir__() -> list[str]:
    return __all__
