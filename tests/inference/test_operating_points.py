import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdi_keras.inference import (
    EntropyPolicy,
    OperatingPoint,
    Views,
    cheapest,
    most_robust,
    operating_point,
    operating_points,
    pareto_front,
    threshold_points,
)

COSTS = np.array([1.0, 3.0, 6.0, 10.0])


def views(seed, samples=40, exits=4):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, samples)
    logits = [3 * random.normal(size=(samples, 5)).astype(np.float32) for _ in range(exits)]
    return logits, labels, Views.of(logits, labels)


def cost(exits, shares):
    return COSTS[np.array(exits) - 1] @ shares


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), chosen=st.sets(st.integers(1, 3)), level=st.floats(0, 1.7))
def test_decides_as_the_policy_does(seed, chosen, level):
    logits, labels, seen = views(seed)
    exits = [*sorted(chosen), 4]
    thresholds = np.full(len(chosen), level, np.float32)
    places, right = seen.decided(exits, thresholds)
    answers, expected = EntropyPolicy(thresholds).answer([logits[number - 1] for number in exits])
    np.testing.assert_array_equal(places + 1, expected)
    np.testing.assert_array_equal(right, np.argmax(answers, axis=-1) == labels)


def test_points_are_what_their_choice_does():
    _, _, clean = views(0)
    attacked = [Views(each.entropies[:25], each.correct[:25]) for each in (views(1)[2], views(2)[2])]
    points = list(operating_points(clean, attacked, cost, max_side_exits=2, num_thresholds=6))
    assert points[0].exits == (4,)
    assert {each.exits for each in points} == {(4,), (1, 4), (2, 4), (3, 4), (1, 2, 4), (1, 3, 4), (2, 3, 4)}
    for point in points:
        thresholds = np.array(point.thresholds, np.float32)
        places, right = clean.decided(point.exits, thresholds)
        robust = right[:25]
        for each in attacked:
            robust = robust & each.decided(point.exits, thresholds)[1]
        assert point.accuracy == right.mean()
        assert point.worst_case == robust.mean()
        assert point.cost == pytest.approx(COSTS[np.array(point.exits) - 1][places].mean())
        assert sum(point.exit_shares) == pytest.approx(1)


def test_without_attacks_the_worst_case_is_the_clean_one():
    _, _, clean = views(3)
    assert all(each.worst_case == each.accuracy for each in operating_points(clean, [], cost))


POINT = OperatingPoint((1, 4), (0.5,), 0.9, 0.5, 4.0, (0.6, 0.4))


def test_the_cheapest_that_reaches_both():
    dear, weak, best = (
        dataclasses.replace(POINT, cost=9.0, worst_case=0.8),
        dataclasses.replace(POINT, cost=1.0, accuracy=0.7),
        dataclasses.replace(POINT, cost=5.0, worst_case=0.6),
    )
    assert cheapest([dear, weak, best], accuracy=0.85, worst_case=0.55) == best
    assert cheapest([dear, weak, best], accuracy=0.95, worst_case=0.55) is None


@given(numbers=st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3]), st.integers(1, 4))))
def test_no_point_of_the_front_is_beaten_and_each_other_one_is(numbers):
    points = [
        dataclasses.replace(POINT, accuracy=a, worst_case=w, cost=float(cost)) for a, w, cost in numbers
    ]
    front = pareto_front(points)

    def beats(one, other):
        return (
            one.accuracy >= other.accuracy and one.worst_case >= other.worst_case and one.cost <= other.cost
        )

    for point in points:
        assert any(beats(each, point) for each in front)
    for point in front:
        assert not any(beats(each, point) and each != point for each in front)


def test_threshold_points_are_judged_and_reach_from_nobody_to_everybody_early():
    _, _, clean = views(4)
    attacked = [Views(*(getattr(views(5)[2], name)[:25] for name in ("entropies", "correct")))]
    fractions = COSTS / COSTS[-1]
    points = list(
        threshold_points(
            clean, attacked, lambda exits, shares: float(fractions[np.array(exits) - 1] @ shares)
        )
    )
    assert points[0].exit_shares == (0, 0, 0, 1)
    assert min(each.cost for each in points) == pytest.approx(0.1)
    for point in points[:: len(points) // 20]:
        thresholds = np.array(point.thresholds, np.float32)
        expected = operating_point(point.exits, thresholds, clean, attacked, lambda exits, shares: 0.0)
        assert dataclasses.replace(expected, cost=point.cost) == point


def test_an_exit_that_attacks_break_is_left_alone():
    """Two side exits, alike when clean; under attack the first one is always wrong."""
    entropies = np.tile(np.linspace(0.1, 1, 50)[:, None], (1, 3))
    clean = Views(entropies, np.ones((50, 3), bool))
    attacked = [Views(entropies, np.array([[False, True, True]] * 50))]
    fractions = np.array([0.1, 0.5, 1.0])
    points = list(
        threshold_points(
            clean, attacked, lambda exits, shares: float(fractions[np.array(exits) - 1] @ shares)
        )
    )
    best = most_robust(points, 0.6)
    assert best.worst_case == 1
    assert best.exit_shares[0] == 0
    assert 0.5 <= best.cost <= 0.6
    assert most_robust(points, 0.05) is None
    # For less than the second exit costs, some must leave at the first: no more than needed.
    tight = most_robust(points, 0.4)
    assert tight.worst_case == pytest.approx(1 - tight.exit_shares[0])
    assert tight.worst_case >= 0.7


@pytest.mark.parametrize("num_side_exits", [1, 2])
def test_of_up_to_two_side_exits_no_pair_of_levels_is_missed(num_side_exits):
    """On random views the best within a budget is at least as good as 500 random choices among the levels."""
    _, _, clean = views(6)
    clean = Views(clean.entropies[:, : num_side_exits + 1], clean.correct[:, : num_side_exits + 1])
    fractions = np.linspace(0.2, 1, num_side_exits + 1)

    def cost(exits, shares):
        return float(fractions[np.array(exits) - 1] @ shares)

    points = list(threshold_points(clean, [clean], cost))
    exits = range(1, num_side_exits + 2)
    random = np.random.default_rng(0)
    levels = np.array([each.thresholds for each in points])
    best = most_robust(points, 0.7)
    for _ in range(500):
        thresholds = np.array([random.choice(column) for column in levels.T], np.float32)
        other = operating_point(exits, thresholds, clean, [clean], cost)
        assert other.cost > 0.7 or other.worst_case <= best.worst_case
