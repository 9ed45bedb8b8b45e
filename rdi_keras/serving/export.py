"""Writes a model as a SavedModel that TensorFlow Serving loads, complete or not at all."""

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf

from rdi_keras.inference import adaptive
from rdi_keras.metadata import Metadata
from rdi_keras.models import MultiExitModel
from rdi_keras.names import (
    ADAPTIVE,
    ALL_EXITS,
    IMAGE_BYTES,
    IMAGE_FILES,
    IMAGES,
    SERVING_DEFAULT,
    THRESHOLDS,
    exit_names,
)
from rdi_keras.runs import make_folder
from rdi_keras.serving.warmup import write_warmup_requests


def export_saved_model(
    model: MultiExitModel, metadata: Metadata, folder: Path, report_files: list[Path] = ()
) -> Path:
    """Writes the next free version `<folder>/<version>/`, aside first and then renamed.

    Signatures: `serving_default` (`images`), `adaptive` (`images`, `thresholds [B, N-1]`),
    `image_bytes` (`bytes`: PNG or JPEG files, resized to the model's input) all give
    `probabilities`, `label`, `exit`, `entropy`, `macs`, with segments really skipped; `all_exits`
    (`images`) gives the logits of `exit_1 … exit_N` and stays differentiable after reload.

    Args:
        model: calibrated.
        metadata: written beside it.
        folder: `saved_models/<name>`.
        report_files: copied beside it.

    Returns:
        The version's folder.
    """
    with _written_aside(folder) as aside:
        _write_signatures(model, aside)
        metadata.write(aside)
        write_warmup_requests(aside, metadata)
        for file in report_files:
            shutil.copy(file, aside)
        aside.chmod(0o755)  # mkdtemp's folders are closed to the server's user.
        return _rename_to_next_version(aside)


def _write_signatures(model: MultiExitModel, folder: Path) -> None:
    height, width, channels = model.input_shape[1:]
    images = tf.TensorSpec([None, height, width, channels], tf.float32, IMAGES)
    thresholds = tf.TensorSpec([None, model.num_exits - 1], tf.float32, THRESHOLDS)
    files = tf.TensorSpec([None], tf.string, IMAGE_BYTES)

    def serving_default(images):
        return adaptive(model, images, tf.tile(model.thresholds[None], [tf.shape(images)[0], 1]))

    def with_thresholds(images, thresholds):
        return adaptive(model, images, thresholds)

    def all_exits(images):
        return dict(zip(exit_names(model.num_exits), model.logits(images), strict=True))

    def decode(file):
        image = tf.io.decode_image(file, channels=channels, expand_animations=False)
        image = tf.image.resize(tf.cast(image, tf.float32) / 255, [height, width], antialias=True)
        return tf.clip_by_value(image, 0.0, 1.0)

    def image_bytes(files):
        decoded = tf.map_fn(decode, files, fn_output_signature=images_of_one)
        return serving_default(decoded)

    images_of_one = tf.TensorSpec([height, width, channels], tf.float32)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(SERVING_DEFAULT, serving_default, input_signature=[images])
    archive.add_endpoint(ADAPTIVE, with_thresholds, input_signature=[images, thresholds])
    archive.add_endpoint(ALL_EXITS, all_exits, input_signature=[images])
    archive.add_endpoint(IMAGE_FILES, image_bytes, input_signature=[files])
    archive.write_out(str(folder), verbose=False)


@contextlib.contextmanager
def _written_aside(folder: Path) -> Iterator[Path]:
    """A folder beside the versions, removed unless it was renamed.

    A server that watches the folder takes only names that are numbers, so it never sees half a model.
    """
    make_folder(folder)
    aside = Path(tempfile.mkdtemp(prefix="writing-", dir=folder))
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _rename_to_next_version(aside: Path) -> Path:
    while True:
        taken = [int(each.name) for each in aside.parent.iterdir() if each.name.isdigit()]
        try:
            return aside.rename(aside.with_name(str(max(taken, default=0) + 1)))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # Else another export was quicker.
                raise
