import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdi_keras.data import Split, split_dataset
from rdi_keras.errors import InputError


def numbered(count, start=0):
    """A split whose images and labels both hold the sample's number."""
    numbers = np.arange(start, start + count)
    return Split(numbers.astype(np.float32)[:, None, None, None], numbers)


@given(count=st.integers(10, 300), num_test=st.none() | st.integers(1, 50))
def test_parts_share_no_sample_and_lose_none(count, num_test):
    test = None if num_test is None else numbered(num_test, start=count)
    dataset = split_dataset("numbers", ("a",), numbered(count), test)
    parts = [dataset.train, dataset.calibration, dataset.test]

    ids = np.concatenate([part.labels for part in parts])
    assert sorted(ids) == list(range(count + (num_test or 0)))
    for part in parts:
        np.testing.assert_array_equal(part.images[:, 0, 0, 0], part.labels)
    assert len(dataset.calibration) == round(0.1 * (len(dataset.train) + len(dataset.calibration)))
    if num_test is None:
        assert len(dataset.test) == round(0.2 * count)
    else:
        assert dataset.test is test


@pytest.mark.parametrize(
    ("count", "with_test", "sizes"),
    [(60_000, True, (55_000, 5_000)), (50_000, True, (45_000, 5_000)), (60_000, False, (43_200, 4_800))],
)
def test_calibration_takes_a_tenth_and_at_most_5000(count, with_test, sizes):
    test = numbered(1) if with_test else None
    dataset = split_dataset("numbers", ("a",), numbered(count), test)
    assert (len(dataset.train), len(dataset.calibration)) == sizes


def test_calibration_is_drawn_with_seed_0():
    order = np.random.default_rng(0).permutation(100)
    dataset = split_dataset("numbers", ("a",), numbered(100), numbered(1))
    np.testing.assert_array_equal(dataset.calibration.labels, order[:10])
    np.testing.assert_array_equal(dataset.train.labels, order[10:])


@pytest.mark.parametrize(("count", "num_test"), [(0, None), (4, None), (0, 5), (4, 5), (100, 0)])
def test_too_few_samples_are_refused(count, num_test):
    test = None if num_test is None else numbered(num_test)
    with pytest.raises(InputError, match=rf"'few' is too small.* Received: {count} training"):
        split_dataset("few", ("a",), numbered(count), test)


def test_first_takes_a_limit_or_all():
    split = numbered(5)
    assert split.first(2).labels.tolist() == [0, 1]
    assert split.first(9).labels.tolist() == split.first(None).labels.tolist() == [0, 1, 2, 3, 4]


def test_a_train_limit_leaves_the_other_parts():
    dataset = split_dataset("numbers", ("a", "b"), numbered(50))
    limited = dataset.with_train_limit(3)
    np.testing.assert_array_equal(limited.train.labels, dataset.train.labels[:3])
    assert limited.calibration is dataset.calibration
    assert limited.test is dataset.test
    assert limited.class_names == ("a", "b")
