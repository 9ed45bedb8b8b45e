import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdi_keras.data import Split, parse_positions, split_dataset
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


@given(
    count=st.integers(10, 300),
    num_test=st.none() | st.integers(1, 50),
    pool=st.sets(st.integers(0, 320), min_size=1),
)
def test_calibration_comes_from_the_pool_alone(count, num_test, pool):
    test = None if num_test is None else numbered(num_test, start=count)
    plain = split_dataset("numbers", ("a",), numbered(count), test)
    held_out = set() if test else set(plain.test.labels)
    fit = pool & set(range(count)) - held_out
    arguments = "numbers", ("a",), numbered(count), test, np.array(sorted(pool))
    if not fit:
        with pytest.raises(InputError, match="at least 1 in the calibration pool"):
            split_dataset(*arguments)
        return
    dataset = split_dataset(*arguments)
    parts = [dataset.train, dataset.calibration, dataset.test]

    assert set(dataset.calibration.labels) <= fit
    assert len(dataset.calibration) == min(len(plain.calibration), len(fit))
    assert sorted(np.concatenate([part.labels for part in parts])) == list(range(count + (num_test or 0)))
    for part in parts:
        np.testing.assert_array_equal(part.images[:, 0, 0, 0], part.labels)
    np.testing.assert_array_equal(dataset.test.labels, plain.test.labels)


@given(count=st.integers(10, 300), has_test=st.booleans())
def test_a_pool_of_all_is_no_pool(count, has_test):
    arguments = "numbers", ("a",), numbered(count), numbered(3, start=count) if has_test else None
    plain = split_dataset(*arguments)
    for pool in (None, np.arange(count)):
        dataset = split_dataset(*arguments, calibration_pool=pool)
        for part in ("train", "calibration", "test"):
            np.testing.assert_array_equal(getattr(dataset, part).labels, getattr(plain, part).labels)


def test_calibration_is_drawn_from_the_pool_with_seed_0():
    pool = parse_positions("0:20,50:60")
    order = np.random.default_rng(0).permutation(100)
    dataset = split_dataset("numbers", ("a",), numbered(100), numbered(1), pool)
    inside = [number for number in order if number < 20 or 50 <= number < 60]
    assert dataset.calibration.labels.tolist() == inside[:10]


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("0:3", [0, 1, 2]),
        ("7:8", [7]),
        ("0:2,10:12", [0, 1, 10, 11]),
        (" 4:6 , 1:2 ", [4, 5, 1]),
    ],
)
def test_positions_are_read_from_ranges(text, positions):
    assert parse_positions(text).tolist() == positions


def test_positions_of_the_exact_cifar10_images():
    found = parse_positions("0:4000,10000:11017,20000:21017,30000:31017,40000:41017")
    assert len(found) == 8068
    assert (found[0], found[3999], found[4000], found[-1]) == (0, 3999, 10_000, 41_016)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "5", ":", "0:", ":4", "3:3", "4:2", "-1:3", "a:b", "0:3,", ",0:3", "0:3;4:5", "0:3:1"),
        *("0.0:3", "0:4\n5:6", "[0:4]", "0:99999999999999", "0:99999999999999999999999"),
    ],
)
def test_positions_in_other_words_are_refused(text):
    with pytest.raises(InputError, match="Positions are ranges first:end, .* such as 0:4000") as caught:
        parse_positions(text)
    assert str(caught.value).endswith(f"Received: {text!r}")


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
