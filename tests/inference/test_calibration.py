import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdi_keras.errors import InputError
from rdi_keras.inference import (
    BudgetTable,
    EntropyPolicy,
    budget_table,
    entropy,
    exits_at,
    thresholds_for_budget,
    thresholds_for_shares,
)

SEEDS = st.integers(0, 2**32 - 1)
SAMPLES = st.integers(1, 200)
EXITS = st.integers(1, 6)


def distinct_entropies(random, num_samples, num_exits):
    values = random.permutation(num_samples * num_exits) / (num_samples * num_exits) * math.log(10)
    return values.reshape(num_samples, num_exits).astype(np.float32)


def increasing_macs(random, num_exits):
    return np.cumsum(random.integers(1, 100, num_exits))


@given(seed=SEEDS, num_samples=SAMPLES, num_exits=EXITS)
def test_shares_are_met_to_one_sample(seed, num_samples, num_exits):
    random = np.random.default_rng(seed)
    entropies = distinct_entropies(random, num_samples, num_exits)
    shares = random.dirichlet(np.full(num_exits, 0.5))
    thresholds = thresholds_for_shares(entropies, shares.tolist())
    assert thresholds.shape == (num_exits - 1,)
    assert thresholds.dtype == np.float32
    counts = np.bincount(exits_at(entropies, thresholds), minlength=num_exits + 1)[1:]
    assert (np.abs(counts - shares * num_samples) < 1 + 1e-9).all()


@pytest.mark.parametrize(("num_samples", "num_exits"), [(9, 6), (6, 3), (2, 3), (1000, 7)])
def test_the_papers_equal_shares(num_samples, num_exits):
    entropies = distinct_entropies(np.random.default_rng(0), num_samples, num_exits)
    thresholds = thresholds_for_shares(entropies, [1 / num_exits] * num_exits)
    counts = np.bincount(exits_at(entropies, thresholds), minlength=num_exits + 1)[1:]
    assert (np.abs(counts - num_samples / num_exits) < 1).all()


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_tied_samples_leave_together(share):
    entropies = np.full((10, 2), 0.7, np.float32)
    exits = exits_at(entropies, thresholds_for_shares(entropies, [share, 1 - share]))
    assert len(set(exits)) == 1
    assert exits[0] == (1 if share else 2)


@pytest.mark.parametrize(
    "shares", [[0.5, 0.5], [0.2, 0.2, 0.2], [0.5, 0.6, -0.1], [math.nan, 0.5, 0.5], [1, 1, 1], []]
)
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(InputError, match="3 fractions that add up to 1"):
        thresholds_for_shares(np.ones((10, 3), np.float32), shares)


def test_no_samples_are_refused():
    with pytest.raises(InputError, match="for 0 samples"):
        thresholds_for_shares(np.ones((0, 2), np.float32), [0.5, 0.5])


@given(seed=SEEDS, num_samples=SAMPLES, num_exits=EXITS, tightness=st.floats(0, 1.2))
def test_a_budget_is_met_and_used(seed, num_samples, num_exits, tightness):
    random = np.random.default_rng(seed)
    entropies = distinct_entropies(random, num_samples, num_exits)
    macs = increasing_macs(random, num_exits)
    budget = macs[0] + tightness * (macs[-1] - macs[0])
    thresholds = thresholds_for_budget(entropies, macs.tolist(), budget)
    mean = macs[exits_at(entropies, thresholds) - 1].mean()
    assert mean <= budget
    if budget >= macs[-1]:
        assert mean == macs[-1]  # Nobody has to leave early.
    # With one sample fewer leaving at each side exit it would not be met.
    assert min(budget, macs[-1]) - mean <= (macs[-1] - macs[0]) / num_samples + 1e-9


@given(seed=SEEDS, budgets=st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted))
def test_a_larger_budget_lets_nobody_leave_earlier(seed, budgets):
    random = np.random.default_rng(seed)
    entropies, macs = distinct_entropies(random, 50, 3), increasing_macs(random, 3)
    low, high = (
        exits_at(
            entropies,
            thresholds_for_budget(entropies, macs.tolist(), macs[0] + share * (macs[-1] - macs[0])),
        )
        for share in budgets
    )
    assert np.sort(low).tolist() <= np.sort(high).tolist()
    assert macs[low - 1].mean() <= macs[high - 1].mean()


@pytest.mark.parametrize("budget", [9.99, 0, -1, math.nan])
def test_a_budget_below_the_first_exit_is_refused(budget):
    entropies = distinct_entropies(np.random.default_rng(0), 20, 3)
    with pytest.raises(InputError, match="cannot be met: leaving at the first exit takes 10"):
        thresholds_for_budget(entropies, [10, 20, 30], budget)


def test_the_cost_of_the_first_exit_is_budget_enough():
    entropies = distinct_entropies(np.random.default_rng(0), 20, 3)
    assert (exits_at(entropies, thresholds_for_budget(entropies, [10, 20, 30], 10)) == 1).all()


@given(seed=SEEDS, num_samples=st.integers(1, 30), num_exits=EXITS)
def test_exits_at_agrees_with_the_policy(seed, num_samples, num_exits):
    random = np.random.default_rng(seed)
    logits = [random.normal(0, 3, (num_samples, 4)).astype(np.float32) for _ in range(num_exits)]
    logits[0][0, 0] = random.choice([np.nan, 1.0])
    thresholds = random.uniform(0, math.log(4), num_exits - 1).astype(np.float32)
    entropies = np.stack([entropy(each) for each in logits], axis=1)
    exits = exits_at(entropies, thresholds)
    assert exits.dtype == np.int32
    np.testing.assert_array_equal(exits, EntropyPolicy(thresholds).exit_of(logits))


@given(seed=SEEDS, num_samples=SAMPLES, num_exits=st.integers(2, 6))
def test_every_row_of_a_table_meets_its_budget(seed, num_samples, num_exits):
    random = np.random.default_rng(seed)
    entropies = distinct_entropies(random, num_samples, num_exits)
    macs = increasing_macs(random, num_exits)
    table = budget_table(entropies, macs, macs[-1], size=5)
    assert table.budgets == sorted(table.budgets)
    for budget, thresholds in zip(table.budgets, table.thresholds, strict=True):
        exits = exits_at(entropies, np.asarray(thresholds, np.float32))
        assert macs[exits - 1].mean() <= budget * macs[-1] * (1 + 1e-6)
    assert set(exits_at(entropies, np.asarray(table.thresholds[0], np.float32))) == {1}


def test_a_budget_takes_the_largest_row_that_it_allows():
    table = BudgetTable([0.2, 0.5, 1.0], [[3.0], [2.0], [1.0]])
    found = table.thresholds_for(np.array([0.0, 0.2, 0.49, 0.5, 0.7, 1.0, 9.0]))
    np.testing.assert_array_equal(found[:, 0], [3, 3, 3, 2, 2, 1, 1])
    assert found.dtype == np.float32
