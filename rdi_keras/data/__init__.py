"""Data sets as float32 images in [0, 1], with their class names and honest splits."""

from rdi_keras.data.dataset import Dataset, Split, parse_positions, split_dataset
from rdi_keras.data.digits import load_digits
from rdi_keras.data.folder import load_folder
from rdi_keras.data.tfds import load_tfds
from rdi_keras.errors import InputError

FOLDER_PREFIX = "folder:"


def load(
    name: str,
    data_dir: str | None = None,
    image_size: int | None = None,
    calibration_pool: str | None = None,
) -> Dataset:
    """Loads a data set by name.

    Args:
        name: `digits` (embedded in scikit-learn), `folder:PATH` (one sub-folder a class), or the
            name of a TFDS image-classification set.
        data_dir: folder of prepared TFDS sets; default: the environment variable `TFDS_DATA_DIR`.
        image_size: height and width to resize to, where images are not of one size.
        calibration_pool: for a TFDS set, positions in its `train` split that calibration data are drawn
            from, such as `0:4000,10000:11017`; default: all.

    Raises:
        InputError: if the data cannot be had; the message says what to do.
    """
    pool = None if calibration_pool is None else parse_positions(calibration_pool)
    if pool is not None and (name == "digits" or name.startswith(FOLDER_PREFIX)):
        raise InputError(
            f"A calibration pool names positions in a TFDS set, and {name} is none. Leave it out "
            "(--data.calibration_pool null)"
        )
    if name == "digits":
        if image_size is not None:
            raise InputError(f"The digits are 8×8 and are not resized. Received image size: {image_size}")
        return load_digits()
    if name.startswith(FOLDER_PREFIX):
        return load_folder(name.removeprefix(FOLDER_PREFIX), image_size)
    return load_tfds(name, data_dir, image_size, pool)


__all__ = ["Dataset", "Split", "load", "load_digits", "load_folder", "load_tfds", "split_dataset"]


def __dir__() -> list[str]:
    return __all__
