import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdi_keras.errors import InputError
from rdi_keras.evaluation.intervals import wilson

CONFIDENCES = st.floats(0.01, 0.9999)


@st.composite
def counts(draw):
    n = draw(st.integers(1, 10_000))
    return draw(st.integers(0, n)), n


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # z = 1.959964: at k = 0 the upper end is z² / (n + z²), by hand.
        (0, 10, 0.0, 3.841459 / 13.841459),
        (10, 10, 10 / 13.841459, 1.0),
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_known_values(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(counts(), CONFIDENCES)
def test_it_lies_within_0_and_1_and_holds_the_fraction(count, confidence):
    low, high = wilson(*count, confidence)
    assert 0 <= low <= count[0] / count[1] <= high <= 1
    assert low < high


@given(counts(), st.integers(2, 50))
def test_more_samples_make_it_narrower(count, factor):
    successes, n = count
    low, high = wilson(successes, n)
    closer_low, closer_high = wilson(factor * successes, factor * n)
    assert closer_high - closer_low < high - low


@given(counts(), CONFIDENCES, CONFIDENCES)
def test_more_confidence_makes_it_wider(count, one, other):
    (low, high), (wider_low, wider_high) = (wilson(*count, each) for each in sorted((one, other)))
    assert wider_low <= low + 1e-12
    assert high <= wider_high + 1e-12


@given(counts())
def test_failures_mirror_successes(count):
    successes, n = count
    low, high = wilson(successes, n)
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low))


def test_counts_of_numpy_are_counts():
    assert wilson(np.int64(3), np.int32(4)) == wilson(3, 4)
    assert all(type(end) is float for end in wilson(np.int64(3), np.int32(4)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((3, 0), "at least 1 sample.*successes=3, n=0"),
        ((-1, 5), "from 0 to n successes.*successes=-1, n=5"),
        ((6, 5), "from 0 to n successes.*successes=6, n=5"),
        ((0.5, 10), "multiply a fraction by n. Received: successes=0.5, n=10"),
        ((1, "9"), "are integers"),
        ((1, 2, 0), "between 0 and 1.*Received: 0"),
        ((1, 2, 1), "between 0 and 1.*Received: 1"),
        ((1, 2, 95), "between 0 and 1.*Received: 95"),
        ((1, 2, float("nan")), "between 0 and 1.*Received: nan"),
    ],
)
def test_what_makes_no_interval_is_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        wilson(*arguments)
