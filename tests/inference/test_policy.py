import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rdi_keras.inference import EntropyPolicy, entropy

LOGITS = st.floats(-1e4, 1e4, width=32)


def entropy_in_plain_python(logits):
    largest = max(logits)
    weights = [math.exp(each - largest) for each in logits]
    shares = [each / sum(weights) for each in weights]
    return -sum(share * math.log(share) for share in shares if share > 0)


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=LOGITS))
def test_entropy_lies_between_0_and_ln_c(logits):
    entropies = np.asarray(entropy(logits))
    assert entropies.shape == logits.shape[:-1]
    assert entropies.dtype == np.float32
    assert (entropies >= 0).all()
    assert (entropies <= math.log(logits.shape[-1]) + 1e-5).all()
    np.testing.assert_allclose(
        entropies, [entropy_in_plain_python(row) for row in logits.tolist()], atol=1e-5
    )


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_entropy_meets_its_bounds(num_classes):
    uniform, certain = np.zeros(num_classes, np.float32), np.eye(num_classes, dtype=np.float32)[0] * 1e4
    assert float(entropy(uniform)) == pytest.approx(math.log(num_classes), rel=1e-5)
    assert float(entropy(certain)) == 0


def exits_in_plain_python(logits, thresholds, num_exits):
    """`thresholds` are `[B, N-1]`."""
    exits = []
    for sample, limits in enumerate(thresholds):
        left = num_exits
        for number, limit in enumerate(limits[: len(logits)], start=1):
            if entropy_in_plain_python(logits[number - 1][sample].tolist()) < limit:
                left = number
                break
        else:
            left = min(len(logits) + 1, num_exits)
        exits.append(left)
    return exits


@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 20),
    num_exits=st.integers(1, 5),
    given_exits=st.integers(1, 5),
    per_sample=st.booleans(),
)
def test_a_sample_leaves_at_the_first_exit_below_its_threshold(
    seed, batch, num_exits, given_exits, per_sample
):
    random = np.random.default_rng(seed)
    logits = [random.normal(0, 2, (batch, 4)).astype(np.float32) for _ in range(min(given_exits, num_exits))]
    shape = (batch, num_exits - 1) if per_sample else (num_exits - 1,)
    thresholds = random.uniform(0, math.log(4), shape).astype(np.float32)

    exits = np.asarray(EntropyPolicy(thresholds).exit_of(logits))
    assert exits.dtype == np.int32
    expected = exits_in_plain_python(
        logits, np.broadcast_to(thresholds, (batch, num_exits - 1)).tolist(), num_exits
    )
    assert exits.tolist() == expected

    if len(logits) == num_exits:
        answers, left = EntropyPolicy(thresholds).answer(logits)
        np.testing.assert_array_equal(left, exits)
        np.testing.assert_array_equal(
            answers, [logits[number - 1][sample] for sample, number in enumerate(exits)]
        )


def test_the_threshold_itself_does_not_let_leave():
    logits = [np.zeros((1, 4), np.float32)] * 2
    limit = np.asarray(entropy(logits[0]))
    assert EntropyPolicy(limit).exit_of(logits).numpy().tolist() == [2]
    assert EntropyPolicy(np.nextafter(limit, np.float32(9))).exit_of(logits).numpy().tolist() == [1]


def test_thresholds_of_0_let_nobody_leave_even_if_certain():
    certain = np.array([[1e4, 0]], np.float32)
    assert EntropyPolicy(np.zeros(2, np.float32)).exit_of([certain] * 3).numpy().tolist() == [3]


def test_an_entropy_that_is_no_number_is_no_reason_to_leave():
    broken = np.array([[np.nan, 0], [0, 0]], np.float32)
    assert EntropyPolicy(np.array([9.0, 9.0])).exit_of([broken] * 3).numpy().tolist() == [3, 1]


def test_a_compiled_policy_follows_a_variables_changes():
    thresholds = tf.Variable([0.0])
    policy = EntropyPolicy(thresholds)
    exit_of = tf.function(lambda logits: policy.exit_of([logits, logits]))
    logits = tf.zeros((1, 4))
    assert exit_of(logits).numpy().tolist() == [2]
    thresholds.assign([9.0])
    assert exit_of(logits).numpy().tolist() == [1]
