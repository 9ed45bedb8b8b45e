import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from rdi_keras import data
from rdi_keras.data.tfds import DATA_DIR_VARIABLE
from rdi_keras.errors import InputError

PREPARED = Path(os.environ.get(DATA_DIR_VARIABLE, "nowhere"))
LABEL = tfds.features.ClassLabel(names=["even", "odd"])
IMAGE = tfds.features.Image(shape=(4, 5, 3))


def prepare(folder, name, features, **split_sizes):
    """Writes a set as TFDS does; an image's value is its number, counted over all splits."""
    split_datasets, start = {}, 0
    for split, size in split_sizes.items():
        numbers = tf.data.Dataset.range(start, start + size)
        split_datasets[split] = numbers.map(
            lambda number: {
                key: tf.fill([each or 6 for each in feature.shape], tf.cast(number, tf.uint8))
                if key == "image"
                else number % 2
                for key, feature in features.items()
            }
        )
        start += size
    tfds.dataset_builders.store_as_tfds_dataset(
        name,
        "1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets=split_datasets,
        data_dir=folder,
        disable_shuffling=True,
    )


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Fetching fails at once, as it does without a network after a while."""
    original = tfds.core.DatasetBuilder.download_and_prepare

    def fetch(builder, **options):
        if not builder.data_path.exists() and not isinstance(builder, tfds.dataset_builders.AdhocBuilder):
            raise ConnectionError("no network")
        return original(builder, **options)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fetch)


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_prepared_set_needs_no_network(tmp_path, monkeypatch, by_environment):
    prepare(tmp_path, "odd_even", {"image": IMAGE, "label": LABEL}, train=20, test=4)
    if by_environment:
        monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    dataset = data.load("odd_even", data_dir=None if by_environment else str(tmp_path))

    assert dataset.class_names == ("even", "odd")
    assert dataset.input_shape == (4, 5, 3)
    assert (len(dataset.train), len(dataset.calibration), len(dataset.test)) == (18, 2, 4)
    for part in (dataset.train, dataset.calibration, dataset.test):
        assert (part.images.dtype, part.labels.dtype) == (np.float32, np.int64)
        values = np.round(part.images[:, 0, 0, 0] * 255)
        np.testing.assert_array_equal(part.labels, values % 2)
    np.testing.assert_allclose(dataset.test.images[:, 3, 4, 2], np.arange(20, 24) / 255, rtol=1e-6)


def test_validation_stands_in_for_a_missing_test_part(tmp_path):
    prepare(tmp_path, "validated", {"image": IMAGE, "label": LABEL}, train=20, validation=4)
    dataset = data.load("validated", str(tmp_path))
    np.testing.assert_allclose(dataset.test.images[:, 0, 0, 0], np.arange(20, 24) / 255, rtol=1e-6)


def test_a_set_with_one_part_is_split(tmp_path):
    prepare(tmp_path, "unsplit", {"image": IMAGE, "label": LABEL}, train=50)
    dataset = data.load("unsplit", str(tmp_path))
    assert (len(dataset.train), len(dataset.calibration), len(dataset.test)) == (36, 4, 10)


def test_images_of_several_sizes_need_a_size(tmp_path):
    shapeless = tfds.features.Image(shape=(None, None, 3))
    prepare(tmp_path, "several_sizes", {"image": shapeless, "label": LABEL}, train=20)
    with pytest.raises(InputError, match=r"'several_sizes' have several sizes.*--data\.image_size"):
        data.load("several_sizes", str(tmp_path))
    dataset = data.load("several_sizes", str(tmp_path), image_size=3)
    assert dataset.input_shape == (3, 3, 3)
    np.testing.assert_allclose(
        dataset.train.images * 255 % 2, np.broadcast_to(dataset.train.labels, (3, 3, 3, 14)).T, atol=1e-4
    )


@pytest.mark.parametrize("sizes", [{"train": 60, "test": 4}, {"train": 60}], ids=["test", "no test"])
def test_calibration_data_are_drawn_from_the_pool(tmp_path, sizes):
    prepare(tmp_path, "pooled", {"image": IMAGE, "label": LABEL}, **sizes)
    dataset = data.load("pooled", str(tmp_path), calibration_pool="0:3,10:13,20:23,30:33")
    numbers = [
        np.round(part.images[:, 0, 0, 0] * 255).astype(int).tolist()
        for part in (dataset.train, dataset.calibration, dataset.test)
    ]
    assert len(numbers[1]) == (6 if "test" in sizes else 5)
    assert all(number < 33 and number % 10 < 3 for number in numbers[1])
    assert sorted(number for part in numbers for number in part) == list(range(sum(sizes.values())))


def test_a_pool_beyond_the_set_is_refused(tmp_path):
    prepare(tmp_path, "pooled", {"image": IMAGE, "label": LABEL}, train=20, test=4)
    with pytest.raises(InputError, match="'pooled' is too small.* at least 1 in the calibration pool"):
        data.load("pooled", str(tmp_path), calibration_pool="20:24")


@pytest.mark.parametrize("name", ["digits", "folder:photos"])
def test_a_pool_is_refused_for_what_is_no_tfds_set(name):
    with pytest.raises(InputError, match=f"names positions in a TFDS set, and {name} is none"):
        data.load(name, calibration_pool="0:4")


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_a_pool_in_other_words_is_refused(name):
    with pytest.raises(InputError, match=r"Positions are ranges .* Received: 'all'"):
        data.load(name, calibration_pool="all")


@pytest.mark.parametrize("label", [{}, {"label": tfds.features.Scalar(tf.int64)}])
def test_a_set_without_classes_is_refused(tmp_path, label):
    prepare(tmp_path, "unlabelled", {"image": IMAGE, **label}, train=10)
    with pytest.raises(InputError, match="'unlabelled' has no image and label of one class.*image"):
        data.load("unlabelled", str(tmp_path))


@pytest.mark.parametrize("name", ["no_such_set", "", "no such", "mnist:99.0.0", "huggingface:none"])
def test_an_unknown_name_is_named_with_what_is_allowed(tmp_path, name):
    with pytest.raises(InputError, match=f"Unknown data set '{name}'.*digits.*mnist.*folder:PATH"):
        data.load(name, str(tmp_path))


def test_what_is_not_prepared_says_how_to_point_at_a_folder(tmp_path):
    with pytest.raises(InputError, match="'mnist' is not prepared") as caught:
        data.load("mnist", str(tmp_path))
    message = str(caught.value)
    for part in (str(tmp_path), "ConnectionError", "--data.data_dir", DATA_DIR_VARIABLE, "folder:PATH"):
        assert part in message
    assert "\n" not in message


@pytest.fixture(scope="module")
def mnist():
    return data.load("mnist", str(PREPARED))


@pytest.mark.skipif(not (PREPARED / "mnist").is_dir(), reason=f"{DATA_DIR_VARIABLE} holds no mnist")
class TestMnist:
    @pytest.mark.parametrize(("part", "size"), [("train", 55_000), ("calibration", 5_000), ("test", 10_000)])
    def test_parts(self, mnist, part, size):
        split = getattr(mnist, part)
        assert split.images.shape == (size, 28, 28, 1)
        assert split.images.dtype == np.float32
        assert (split.images.min(), split.images.max()) == (0, 1)
        assert set(split.labels) == set(range(10))

    def test_class_names(self, mnist):
        assert mnist.class_names == tuple("0123456789")

    def test_calibration_shares_no_image_with_training(self, mnist):
        train = {image.tobytes() for image in mnist.train.images}
        assert not train & {image.tobytes() for image in mnist.calibration.images}
