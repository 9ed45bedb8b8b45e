"""Any image-classification set of TensorFlow Datasets, without a network where it is prepared."""

import logging
import os
import re
from typing import TYPE_CHECKING

import numpy as np

from rdi_keras.data.dataset import Dataset, Split, split_dataset
from rdi_keras.errors import InputError

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

DATA_DIR_VARIABLE = "TFDS_DATA_DIR"
MAX_RETRIES = 4
TEST_SPLITS = ("test", "validation")


def load_tfds(
    name: str,
    data_dir: str | None = None,
    image_size: int | None = None,
    calibration_pool: np.ndarray | None = None,
) -> Dataset:
    """Loads a set into memory.

    Args:
        name: its TFDS name, e.g. `mnist`.
        data_dir: where prepared sets lie; default `TFDS_DATA_DIR`, then TFDS's own folder.
        image_size: height and width to resize to. Without it all images must have one size.
        calibration_pool: see `split_dataset`.

    Raises:
        InputError: unknown name, no image-classification set, images of several sizes, or neither
            prepared data nor a network to fetch them.
    """
    builder = prepared_builder(name, data_dir or os.environ.get(DATA_DIR_VARIABLE))
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
        raise InputError(
            f"The TFDS set {name!r} has no image and label of one class. Received features: "
            f"{', '.join(features)}. Choose an image-classification set"
        )
    if image_size is None and None in features["image"].shape:
        raise InputError(
            f"The images of the TFDS set {name!r} have several sizes. Give an image size to resize "
            "them to (--data.image_size)"
        )
    if features["image"].np_dtype != np.uint8:
        raise InputError(
            f"The images of the TFDS set {name!r} must have uint8 pixels. Received: "
            f"{np.dtype(features['image'].np_dtype).name}. Choose another set, or save them as image files"
        )
    test_name = next((split for split in TEST_SPLITS if split in builder.info.splits), None)
    train = _read(builder, "train", image_size)
    test = _read(builder, test_name, image_size) if test_name else None
    return split_dataset(name, tuple(features["label"].names), train, test, calibration_pool)


def prepared_builder(name: str, data_dir: str | None) -> "DatasetBuilder":
    """The TFDS builder of a set that is ready to be read.

    Raises:
        InputError: if there is no such set, or it is neither prepared nor can be downloaded.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader

    # The first load of a process would ask Google's storage, and wait for it where there is no network.
    tfds.core.utils.gcs_utils._is_gcs_disabled = True
    try:
        if not re.fullmatch(r"[^:]+(:[\d.*]+)?", name):  # A namespace: TFDS would fetch its code and run it.
            raise ValueError(name)
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except (tfds.core.registered.DatasetNotFoundError, ValueError, AssertionError, ImportError):
        raise InputError(
            f"Unknown data set {name!r}. Allowed: digits, the name of a TFDS image-classification "
            "set such as mnist, or folder:PATH for a folder with one sub-folder a class"
        ) from None
    # Ten retries, each twice as long as the one before, would keep who has no network for minutes.
    downloader.MAX_RETRIES = MAX_RETRIES
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        builder.download_and_prepare()  # Does nothing where the prepared data are there.
    except Exception as error:  # TFDS passes on whatever its downloader raises.
        raise InputError(
            f"The data set {name!r} is not prepared in {builder.data_dir!r} and could not be "
            f"downloaded ({type(error).__name__}). Point --data.data_dir or {DATA_DIR_VARIABLE} at a "
            "folder of prepared TFDS sets, or use folder:PATH with your own images"
        ) from None
    return builder


def _read(builder: "DatasetBuilder", split: str, image_size: int | None) -> Split:
    import tensorflow as tf

    def convert(sample: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = sample["image"]
        if image_size is not None:
            image = tf.cast(tf.round(tf.image.resize(image, [image_size] * 2)), tf.uint8)
        return image, sample["label"]

    samples = builder.as_dataset(split=split).map(convert).batch(1024).as_numpy_iterator()
    images, labels = map(np.concatenate, zip(*samples, strict=True))
    return Split(images.astype(np.float32) / 255, labels.astype(np.int64))
