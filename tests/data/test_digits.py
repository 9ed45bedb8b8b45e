import numpy as np
import pytest

from rdi_keras import data


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.mark.parametrize(("part", "size"), [("train", 1294), ("calibration", 144), ("test", 359)])
def test_parts(digits, part, size):
    split = getattr(digits, part)
    assert split.images.shape == (size, 8, 8, 1)
    assert split.labels.shape == (size,)
    assert split.images.dtype == np.float32
    assert split.labels.dtype == np.int64
    assert (split.images.min(), split.images.max()) == (0, 1)
    assert set(split.labels) == set(range(10))


def test_facts(digits):
    assert digits.name == "digits"
    assert digits.class_names == tuple("0123456789")
    assert digits.num_classes == 10
    assert digits.input_shape == (8, 8, 1)


def test_parts_share_no_image(digits):
    parts = [
        {image.tobytes() for image in split.images}
        for split in (digits.train, digits.calibration, digits.test)
    ]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 1797


def test_every_load_gives_the_same(digits):
    again = data.load("digits")
    for part in ("train", "calibration", "test"):
        np.testing.assert_array_equal(getattr(again, part).images, getattr(digits, part).images)
        np.testing.assert_array_equal(getattr(again, part).labels, getattr(digits, part).labels)
