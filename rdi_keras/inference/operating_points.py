"""Which exits to keep and where their thresholds stand: all choices, judged on held-out data."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rdi_keras.inference.calibration import exits_at
from rdi_keras.inference.policy import entropy

# What a share of the worst case may cost, in shares of the compute; and how much accuracy counts beside it.
PRICES = tuple(np.geomspace(0.003, 1.0, 10))
ACCURACY_WEIGHT = 0.25
# Thresholds that are tried for an exit: quantiles of its entropies.
NUM_LEVELS = 32
# Side exits for which all combinations are tried.
MAX_GRID_EXITS = 2
MAX_SWEEPS = 4


@dataclass(frozen=True)
class Views:
    """What every exit makes of n samples.

    Attributes:
        entropies: float `[n, N]`, nats.
        correct: bool `[n, N]`.
    """

    entropies: np.ndarray
    correct: np.ndarray

    @classmethod
    def of(cls, logits: Iterable[ArrayLike], labels: np.ndarray) -> "Views":
        """From the logits `[n, C]` of N exits and the labels `[n]`."""
        stacked = np.stack([np.asarray(each) for each in logits], axis=1)
        return cls(np.asarray(entropy(stacked)), np.argmax(stacked, axis=-1) == np.asarray(labels)[:, None])

    def decided(self, exits: Sequence[int], thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """With only these exits (1-based): the place in `exits` where a sample leaves, and if it is right."""
        kept = np.asarray(exits) - 1
        places = exits_at(self.entropies[:, kept], thresholds) - 1
        return places, self.correct[np.arange(len(places)), kept[places]]


@dataclass(frozen=True)
class OperatingPoint:
    """A choice of exits and thresholds, and what it does on held-out data.

    Attributes:
        exits: 1-based, of the whole network; the last one is always among them.
        thresholds: one fewer, nats.
        accuracy: clean.
        worst_case: share that is right clean and on all the attacked images at hand. They were made against
            other choices, so that an attack on this one may find more.
        cost: mean per sample, clean, in the unit of the cost given.
        exit_shares: clean, in the order of `exits`.
    """

    exits: tuple[int, ...]
    thresholds: tuple[float, ...]
    accuracy: float
    worst_case: float
    cost: float
    exit_shares: tuple[float, ...]

    def is_choice_of(self, other: "OperatingPoint") -> bool:
        """Whether exits and thresholds are the other's."""
        return (self.exits, self.thresholds) == (other.exits, other.thresholds)


def operating_point(
    exits: Sequence[int],
    thresholds: np.ndarray,
    clean: Views,
    attacked: Sequence[Views],
    cost: Callable[[Sequence[int], np.ndarray], float],
) -> OperatingPoint:
    """What a choice does, by what every exit makes of held-out samples.

    Args:
        exits: 1-based, the last one included.
        thresholds: one fewer, nats.
        clean: as for `operating_points`.
        attacked: likewise.
        cost: likewise.
    """
    places, right = clean.decided(exits, thresholds)
    robust = right[: len(attacked[0].correct)] if attacked else right
    for views in attacked:
        robust = robust & views.decided(exits, thresholds)[1]
    shares = np.bincount(places, minlength=len(exits)) / len(places)
    return OperatingPoint(
        tuple(exits),
        tuple(map(float, thresholds)),
        float(right.mean()),
        float(robust.mean()),
        float(cost(exits, shares)),
        tuple(shares.tolist()),
    )


def operating_points(
    clean: Views,
    attacked: Sequence[Views],
    cost: Callable[[Sequence[int], np.ndarray], float],
    max_side_exits: int = 3,
    num_thresholds: int = 40,
) -> Iterator[OperatingPoint]:
    """Every choice of side exits, with one entropy threshold for all of them: be that sure, anywhere.

    Args:
        clean: of n held-out samples.
        attacked: of the first m of them, m ≤ n, as one attack or another changed them.
        cost: mean per sample, from the exits (1-based, the last one included) and the share that leaves at
            each.
        max_side_exits: how many to keep at most.
        num_thresholds: how many to try: quantiles of the entropies.

    Yields:
        First the network without side exits, then the others.
    """
    last = clean.entropies.shape[1]
    levels = np.unique(np.quantile(clean.entropies[:, :-1], np.linspace(0, 1, num_thresholds)))
    for count in range(min(max_side_exits, last - 1) + 1):
        for chosen in itertools.combinations(range(1, last), count):
            exits = [*chosen, last]
            for level in levels if chosen else [0.0]:
                yield operating_point(exits, np.full(count, level, np.float32), clean, attacked, cost)


def threshold_points(
    clean: Views,
    attacked: Sequence[Views],
    cost: Callable[[Sequence[int], np.ndarray], float],
    exits: Sequence[int] | None = None,
) -> Iterator[OperatingPoint]:
    """Choices of thresholds, each exit its own, for one choice of exits.

    With up to two side exits all combinations of levels are judged. With more, thresholds climb exit by exit,
    for one price of compute after the other, to the most of worst case (and, a quarter as much, accuracy)
    minus price times cost; all that was judged on the way is given.

    Args:
        clean: as for `operating_points`.
        attacked: likewise.
        cost: likewise.
        exits: 1-based, the last one included; default: all.
    """
    last = clean.entropies.shape[1]
    exits = list(range(1, last + 1) if exits is None else exits)
    whole = cost([last], np.ones(1))
    kept = np.asarray(exits[:-1], int) - 1
    quantiles = np.quantile(clean.entropies[:, kept], np.linspace(0, 1, NUM_LEVELS), axis=0).T
    # Nobody leaves; a share does; everybody does.
    levels = [np.array([0.0, *each, 2 * each[-1] + 1], np.float32) for each in quantiles]
    if len(kept) <= MAX_GRID_EXITS:
        for thresholds in itertools.product(*levels):
            yield operating_point(exits, np.array(thresholds, np.float32), clean, attacked, cost)
        return
    best = operating_point(exits, np.zeros(len(kept), np.float32), clean, attacked, cost)
    yield best
    for price in PRICES:

        def worth(point: OperatingPoint, price: float = price) -> float:
            return point.worst_case + ACCURACY_WEIGHT * point.accuracy - price * point.cost / whole

        for _ in range(MAX_SWEEPS):
            before = worth(best)
            for number, allowed in enumerate(levels):
                for level in allowed:
                    tried = np.array(best.thresholds, np.float32)
                    tried[number] = level
                    point = operating_point(exits, tried, clean, attacked, cost)
                    yield point
                    best = max(best, point, key=worth)
            if worth(best) == before:
                break


def most_robust(
    points: Sequence[OperatingPoint], budget: float, accuracy: float = 0.0
) -> OperatingPoint | None:
    """The point of largest worst case, then accuracy, then least cost, of those within budget and accuracy.

    Args:
        points: to choose from.
        budget: largest cost.
        accuracy: least clean accuracy.

    Returns:
        The point; `None` if there is none.
    """
    allowed = [each for each in points if each.cost <= budget and each.accuracy >= accuracy]
    return max(allowed, key=lambda each: (each.worst_case, each.accuracy, -each.cost), default=None)


def cheapest(points: Sequence[OperatingPoint], accuracy: float, worst_case: float) -> OperatingPoint | None:
    """The point of least cost that reaches both; `None` if there is none."""
    allowed = [each for each in points if each.accuracy >= accuracy and each.worst_case >= worst_case]
    return min(allowed, key=lambda each: each.cost, default=None)


def pareto_front(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """The points that none beats in worst case, accuracy and cost at once, by rising cost."""

    def goodness(point: OperatingPoint) -> tuple[float, float]:
        return point.worst_case, point.accuracy

    front: list[OperatingPoint] = []
    for point in sorted(points, key=lambda each: (each.cost, *(-value for value in goodness(each)))):
        if not any(
            all(a >= b for a, b in zip(goodness(each), goodness(point), strict=True)) for each in front
        ):
            front.append(point)
    return front
