import numpy as np
import pytest
from PIL import Image

from rdi_keras import data
from rdi_keras.errors import InputError

NUM_IMAGES = 10


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def write_classes(folder, classes=("cat", "dog"), shape=(4, 5), count=NUM_IMAGES, start=0):
    """Every image has one value of its own: its number, counted over all classes from `start`."""
    for label, name in enumerate(classes):
        for number in range(count):
            value = start + label * count + number
            write(folder / name / f"{number}.png", np.full(shape, value))


def load(folder, image_size=None):
    return data.load(f"folder:{folder}", image_size=image_size)


def all_samples(dataset):
    parts = [dataset.train, dataset.calibration, dataset.test]
    return (
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


@pytest.mark.parametrize(("shape", "channels"), [((4, 5), 1), ((4, 5, 3), 1), ((4, 5, 4), 1)])
def test_grey_images_have_one_channel(tmp_path, shape, channels):
    write_classes(tmp_path, shape=shape)
    dataset = load(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.input_shape == (4, 5, channels)
    assert dataset.name == f"folder:{tmp_path}"
    images, labels = all_samples(dataset)
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    values = np.round(images[:, 0, 0, 0] * 255).astype(int)
    assert sorted(values) == list(range(2 * NUM_IMAGES))
    np.testing.assert_array_equal(labels, values // NUM_IMAGES)


def test_one_colour_image_makes_all_three_channelled(tmp_path):
    write_classes(tmp_path)
    write(tmp_path / "dog" / "0.png", np.broadcast_to([255, 0, 51], (4, 5, 3)))
    images, _ = all_samples(load(tmp_path))
    assert images.shape == (2 * NUM_IMAGES, 4, 5, 3)
    coloured = images[(images != images[..., :1]).any(axis=(1, 2, 3))]
    np.testing.assert_allclose(coloured, np.broadcast_to([1, 0, 0.2], (1, 4, 5, 3)), rtol=1e-6)


def test_sixteen_bits_a_pixel_keep_their_range(tmp_path):
    write_classes(tmp_path, shape=(1, 2))
    deep = np.array([[0x8000, 0xFFFF]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "dog" / "0.png")
    images, _ = all_samples(load(tmp_path))
    brightest = images[images.max(axis=(1, 2, 3)).argmax()]
    np.testing.assert_allclose(brightest[0, :, 0], [128 / 255, 1], rtol=1e-6)


def test_train_and_test_folders_are_the_parts(tmp_path):
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test", count=2, start=200)
    dataset = load(tmp_path)
    assert (len(dataset.train), len(dataset.calibration), len(dataset.test)) == (18, 2, 4)
    np.testing.assert_array_equal(np.round(dataset.test.images[:, 0, 0, 0] * 255), [200, 201, 202, 203])
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]
    assert dataset.train.images.max() < 200 / 255


@pytest.mark.parametrize("change", [{"classes": ("cat", "cow")}, {"shape": (4, 4)}])
def test_train_and_test_must_agree(tmp_path, change):
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test", **change)
    with pytest.raises(InputError, match="train/ and test/ in .* must be the same"):
        load(tmp_path)


def test_image_size_resizes(tmp_path):
    write_classes(tmp_path)
    write_classes(tmp_path / "bird", classes=("",), shape=(9, 2))
    dataset = load(tmp_path, image_size=6)
    assert dataset.input_shape == (6, 6, 1)
    assert dataset.class_names == ("bird", "cat", "dog")


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_images_are_turned_upright(tmp_path, orientation, quarter_turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.arange(6).reshape(2, 3) * 40
    for name in ("a", "b"):
        for number in range(5):
            write(tmp_path / name / f"{number}.png", stored, exif=exif)
    images, _ = all_samples(load(tmp_path))
    upright = np.rot90(stored, quarter_turns)
    np.testing.assert_array_equal(
        np.round(images[..., 0] * 255), np.broadcast_to(upright, (10, *upright.shape))
    )


def test_other_files_are_passed_over(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "readme.md").write_text("no class")
    (tmp_path / ".cache").mkdir()
    dataset = load(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert len(all_samples(dataset)[1]) == 2 * NUM_IMAGES


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=f"No folder of images at '{tmp_path}/nothing'"):
        load(tmp_path / "nothing")


def test_one_class_is_refused(tmp_path):
    write_classes(tmp_path, classes=("cat",))
    with pytest.raises(InputError, match=f"at least two classes.* Received: 1 in '{tmp_path}'"):
        load(tmp_path)


def test_an_empty_class_is_named(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "bird").mkdir()
    with pytest.raises(InputError, match=f"'{tmp_path}/bird' has no image"):
        load(tmp_path)


def test_unequal_sizes_are_named(tmp_path):
    write_classes(tmp_path)
    write(tmp_path / "dog" / "0.png", np.zeros((7, 9)))
    with pytest.raises(InputError, match=r"2 sizes, such as 4×5 and 7×9\..*--data\.image_size"):
        load(tmp_path)


def test_too_few_images_are_refused(tmp_path):
    write_classes(tmp_path, count=1)
    with pytest.raises(InputError, match="too small"):
        load(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut off", "bad chunk", "a folder"])
def test_a_corrupt_image_is_named(tmp_path, damage):
    write_classes(tmp_path)
    culprit = tmp_path / "dog" / "3.png"
    # Noise, for it is stored in more than one chunk: Pillow calls a bad one after the first a SyntaxError.
    write(culprit, np.random.default_rng(0).integers(0, 256, (300, 300)))
    whole = culprit.read_bytes()
    last_chunk = whole.rindex(b"IDAT")
    damaged = {
        "empty": b"",
        "text": b"no image",
        "cut off": whole[: len(whole) // 2],
        "bad chunk": whole[:last_chunk] + b"ID\xffT" + whole[last_chunk + 4 :],
    }
    culprit.unlink()
    if damage == "a folder":
        culprit.mkdir()
    else:
        culprit.write_bytes(damaged[damage])
    with pytest.raises(InputError, match=f"Cannot read the image '{culprit}'"):
        load(tmp_path)
