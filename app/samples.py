"""Sample images that are at hand without a download."""

import os
from pathlib import Path

from rdi_keras.data import FOLDER_PREFIX, Split, load
from rdi_keras.data.tfds import DATA_DIR_VARIABLE as TFDS_VARIABLE
from rdi_keras.errors import InputError
from rdi_keras.metadata import Metadata

DIGITS = "digits"
DIGITS_SHAPE, DIGITS_CLASSES = [8, 8, 1], 10
MAX_SAMPLES = 500


def sample_source(metadata: Metadata) -> str | None:
    """The data set that has samples for this model at hand; `None` if there is none."""
    fits_digits = list(metadata.input_shape) == DIGITS_SHAPE and len(metadata.class_names) == DIGITS_CLASSES
    if metadata.dataset == DIGITS or fits_digits:
        return DIGITS
    if metadata.dataset.startswith(FOLDER_PREFIX):
        at_hand = Path(metadata.dataset.removeprefix(FOLDER_PREFIX)).is_dir()
    else:
        # A set that is not prepared would be downloaded: nobody asked for that here.
        data_dir = os.environ.get(TFDS_VARIABLE, "")
        name = metadata.dataset.replace(":", "/").split("/")[0]
        at_hand = bool(data_dir and name) and Path(data_dir, name).is_dir()
    return metadata.dataset if at_hand else None


def load_samples(source: str, input_shape: tuple[int, ...], num_classes: int) -> Split:
    """The first test images of a data set, at most `MAX_SAMPLES`.

    Args:
        source: as `sample_source` gave it.
        input_shape: the model's `(H, W, C)`.
        num_classes: the model's.

    Raises:
        InputError: if the set cannot be loaded or does not fit the model.
    """
    image_size = None if source == DIGITS else input_shape[0]
    test = load(source, image_size=image_size).test.first(MAX_SAMPLES)
    if test.images.shape[1:] != tuple(input_shape) or test.labels.max() >= num_classes:
        raise InputError(
            f"The samples of {source!r} do not fit this model: they have shape {test.images.shape[1:]} and "
            f"labels up to {test.labels.max()}; it takes {tuple(input_shape)} and {num_classes} classes. "
            "Upload an image instead"
        )
    # Copies, so that the training images are not kept in memory with them.
    return Split(test.images.copy(), test.labels.copy())
