import numpy as np
import pytest

from rdi_keras.data import Split
from rdi_keras.data.pipeline import TrainingBatches

AUGMENTED = {"pad_crop": 2, "flip": True}


@pytest.fixture(scope="module")
def split():
    """Twelve images of distinct pixels above 0; labels are their numbers."""
    images = np.random.default_rng(0).uniform(0.01, 1, (12, 5, 6, 2)).astype(np.float32)
    return Split(images, np.arange(12))


def epoch(batches, number=0, first=0):
    images, labels = zip(*batches.epoch(number, first).as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(1, [1] * 12), (4, [4, 4, 4]), (5, [5, 5]), (12, [12]), (13, [12]), (99, [12])]
)
def test_a_last_smaller_batch_is_left_out_if_there_is_a_full_one(split, batch_size, sizes):
    batches = TrainingBatches(split, batch_size, seed=0)
    assert [len(labels) for _, labels in batches.epoch(0).as_numpy_iterator()] == sizes


def test_without_augmentation_every_image_comes_once_and_as_it_is(split):
    images, labels = epoch(TrainingBatches(split, 4, seed=0))
    assert sorted(labels) == list(range(12))
    np.testing.assert_array_equal(images, split.images[labels])


@pytest.mark.parametrize("augmentation", [{}, AUGMENTED])
def test_epochs_differ_and_a_seed_repeats_them(split, augmentation):
    batches = TrainingBatches(split, 4, seed=1, **augmentation)
    first, second = epoch(batches), epoch(batches, 1)
    assert first[1].tolist() != second[1].tolist()

    again = TrainingBatches(split, 4, seed=1, **augmentation)
    for expected, repeated in zip((first, second), (epoch(again), epoch(again, 1)), strict=True):
        np.testing.assert_array_equal(repeated[0], expected[0])
        np.testing.assert_array_equal(repeated[1], expected[1])

    other = epoch(TrainingBatches(split, 4, seed=2, **augmentation))
    assert other[1].tolist() != first[1].tolist()


@pytest.mark.parametrize("augmentation", [{"pad_crop": 2}, {"flip": True}, AUGMENTED])
def test_augmentation_keeps_shape_dtype_and_range(split, augmentation):
    images, _ = epoch(TrainingBatches(split, 4, seed=0, **augmentation))
    assert images.shape == split.images.shape
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1


def test_pad_crop_shifts_by_up_to_the_padding(split):
    shifts = set()
    batches = TrainingBatches(split, 4, seed=0, pad_crop=2)
    for images, labels in (epoch(batches, number) for number in range(10)):
        padded = np.pad(split.images[labels], [(0, 0), (2, 2), (2, 2), (0, 0)])
        for image, source in zip(images, padded, strict=True):
            found = [
                (down, right)
                for down in range(5)
                for right in range(5)
                if np.array_equal(image, source[down : down + 5, right : right + 6])
            ]
            assert len(found) == 1
            shifts.add(found[0])
    assert {down for down, _ in shifts} == {right for _, right in shifts} == set(range(5))
    assert len(shifts) > 15


def test_flip_mirrors_about_half(split):
    batches = TrainingBatches(split, 4, seed=0, flip=True)
    mirrored = []
    for images, labels in (epoch(batches, number) for number in range(10)):
        for image, source in zip(images, split.images[labels], strict=True):
            mirrored.append(np.array_equal(image, source[:, ::-1]))
            assert mirrored[-1] or np.array_equal(image, source)
    assert 0.3 < np.mean(mirrored) < 0.7


def test_an_epoch_augments_unlike_the_one_before(split):
    batches = TrainingBatches(split, 12, seed=0, pad_crop=2)
    (first, first_labels), (second, second_labels) = epoch(batches), epoch(batches, 1)
    same = [
        np.array_equal(first[first_labels == number], second[second_labels == number]) for number in range(12)
    ]
    assert not all(same)


@pytest.mark.parametrize("options", [{}, AUGMENTED, {"replays": 3}, {**AUGMENTED, "replays": 2}], ids=str)
@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_an_epoch_can_be_entered_at_any_batch(split, options, first):
    batches = TrainingBatches(split, 3, seed=5, **options)
    whole = list(batches.epoch(2).as_numpy_iterator())
    assert len(whole) == batches.steps == 4 * options.get("replays", 1)
    rest = list(batches.epoch(2, first).as_numpy_iterator())
    assert len(rest) == batches.steps - first
    for (images, labels), (again, labels_again) in zip(whole[first:], rest, strict=True):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, labels_again)


def test_replays_repeat_every_batch_in_a_row(split):
    batches = list(TrainingBatches(split, 4, seed=0, replays=2).epoch(0).as_numpy_iterator())
    for (_, labels), (_, again) in zip(batches[::2], batches[1::2], strict=True):
        np.testing.assert_array_equal(labels, again)
    assert sorted(np.concatenate([labels for _, labels in batches[::2]])) == list(range(12))
