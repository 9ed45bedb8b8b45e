import numpy as np
import pytest

from rdi_keras.evaluation import Outcome, efficacy, worst_of
from rdi_keras.inference import CostTable

COST = CostTable(segments=(10, 20, 30), heads=(1, 2, 4))


def outcome(correct, exits):
    correct = np.array(correct, bool)
    return Outcome(correct, np.array(exits, np.int32), np.repeat(correct[:, None], 3, axis=1))


def test_summary_by_hand():
    summary = outcome([1, 1, 0, 1], [1, 3, 3, 2]).summary(COST)
    # Cumulative: 11, 33, 67. The backbone without side exits: 64.
    assert summary["accuracy"] == 0.75
    assert summary["mean_macs"] == (11 + 67 + 67 + 33) / 4
    assert summary["saving"] == pytest.approx(1 - 44.5 / 64)
    assert summary["exit_shares"] == [0.25, 0.25, 0.5]


def test_worst_case_survives_everything_and_costs_the_most():
    clean = outcome([1, 1, 1, 0], [1, 1, 3, 1])
    attacked = [outcome([1, 0, 1, 1], [1, 2, 1, 1]), outcome([1, 1, 0, 1], [2, 1, 1, 1])]
    worst = worst_of(clean, attacked)
    np.testing.assert_array_equal(worst.correct, [True, False, False, False])
    np.testing.assert_array_equal(worst.exit, [2, 2, 1, 1])


def test_efficacy_is_one_where_all_leave_first_and_none_where_all_leave_last():
    assert outcome([1, 1], [1, 1]).summary(COST)["efficacy"] == 1
    assert outcome([1, 1], [3, 3]).summary(COST)["efficacy"] == 0
    # Half leave at a cost of 11, half at 33: the area from 11 to 67 is ½ · 22 / 56 + 34 / 56.
    assert outcome([1, 1], [1, 2]).summary(COST)["efficacy"] == pytest.approx((0.5 * 22 + 34) / 56)
    assert efficacy(64.0, CostTable(segments=(60,), heads=(4,))) == 0


def test_parts_of_an_outcome_are_put_back_where_they_were_taken():
    whole = outcome([1, 0, 1, 0], [1, 2, 3, 1])
    other = outcome([0, 0], [3, 3])
    changed = whole.put(np.array([0, 2]), other)
    np.testing.assert_array_equal(changed.correct, [False] * 4)
    np.testing.assert_array_equal(changed.exit, [3, 2, 3, 1])
    np.testing.assert_array_equal(whole.exit, [1, 2, 3, 1])
    np.testing.assert_array_equal(changed.take(np.array([0, 2])).exit, [3, 3])
    np.testing.assert_array_equal(Outcome.joined([whole, other]).exit, [1, 2, 3, 1, 3, 3])
