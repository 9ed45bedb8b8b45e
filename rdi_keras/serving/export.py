"""Writes a model as a SavedModel that TensorFlow Serving loads, complete or not at all."""

import contextlib
import errno
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from rdi_keras.errors import InputError
from rdi_keras.files import make_folder, write_sums
from rdi_keras.inference import adaptive, fold_batch_norm
from rdi_keras.metadata import Metadata
from rdi_keras.models import MultiExitModel
from rdi_keras.names import (
    ADAPTIVE,
    ALL_EXITS,
    BUDGET,
    IMAGE_BYTES,
    IMAGE_FILES,
    IMAGES,
    SERVING_DEFAULT,
    THRESHOLDS,
    WITH_BUDGET,
    exit_names,
)
from rdi_keras.runs import SAVED_MODEL_FILE
from rdi_keras.serving.predictor import ONNX_FILE
from rdi_keras.serving.warmup import write_warmup_requests

FLOAT32, FLOAT16 = "float32", "float16"


def export_saved_model(
    model: MultiExitModel,
    metadata: Metadata,
    folder: str | Path,
    report_files: Sequence[Path] = (),
    fold: bool = True,
    weights: str = FLOAT32,
) -> Path:
    """Writes the next free version `<folder>/<version>/`, aside first and then renamed.

    Signatures: `serving_default` (`images`), `adaptive` (`images`, `thresholds [B, N-1]`), `budget`
    (`images`, `budget [B]`, fractions of the backbone's MACs; where the metadata hold a table) and
    `image_bytes` (`bytes`: PNG or JPEG files, resized to the model's input) all give `probabilities`,
    `label`, `exit`, `entropy`, `macs`, with segments really skipped; `all_exits` (`images`) gives the logits
    of `exit_1 … exit_N` and stays differentiable after reload. Weights are constants of the graph. Beside it
    lies `adaptive.onnx`, the same as `adaptive` for ONNX runtimes. `SHA256SUMS` names the contents of both.

    Args:
        model: calibrated.
        metadata: written beside it.
        folder: `saved_models/<name>`.
        report_files: copied beside it.
        fold: whether to fold BatchNorms into the layers before them.
        weights: `float32`, or `float16`, which rounds the weights and halves `saved_model.pb`; computing
            stays float32.

    Returns:
        The version's folder.

    Raises:
        InputError: if there is no such kind of weights, or the folder cannot be written.
    """
    from rdi_keras.serving.onnx_graph import adaptive_onnx

    if weights not in (FLOAT32, FLOAT16):
        raise InputError(f"Unknown kind of weights {weights!r}. Allowed: {FLOAT32}, {FLOAT16}")
    served = fold_batch_norm(model) if fold else model
    if weights == FLOAT16:
        served = _rounded(served)
    with _written_aside(Path(folder)) as aside:
        _write_signatures(served, metadata, weights, aside)
        try:
            (aside / ONNX_FILE).write_bytes(adaptive_onnx(served).SerializeToString())
        except InputError as error:  # TensorFlow runs the model all the same.
            warnings.warn(f"Exported without {ONNX_FILE}. {error}", stacklevel=2)
        metadata.write(aside)
        write_sums(aside, [each for each in (SAVED_MODEL_FILE, ONNX_FILE) if (aside / each).is_file()])
        write_warmup_requests(aside, metadata)
        for file in report_files:
            shutil.copy(file, aside)
        aside.chmod(0o755)  # mkdtemp's folders are closed to the server's user.
        return _rename_to_next_version(aside)


def _rounded(model: MultiExitModel) -> MultiExitModel:
    """A copy whose weights are numbers that float16 holds; thresholds stay as they are."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    for variable in copy.variables:
        if variable is not copy.thresholds and variable.dtype == "float32":
            variable.assign(variable.numpy().astype(np.float16).astype(np.float32))
    return copy


def _write_signatures(model: MultiExitModel, metadata: Metadata, weights: str, folder: Path) -> None:
    height, width, channels = model.input_shape[1:]
    images_spec = tf.TensorSpec([None, height, width, channels], tf.float32, IMAGES)
    thresholds_spec = tf.TensorSpec([None, model.num_exits - 1], tf.float32, THRESHOLDS)
    budgets = tf.TensorSpec([None], tf.float32, BUDGET)
    files = tf.TensorSpec([None], tf.string, IMAGE_BYTES)
    own_thresholds = model.thresholds.numpy()[None]
    frozen = [
        (each, value.astype(weights) if value.dtype == np.float32 else value)
        for each, value in ((each, each.numpy()) for each in model.variables)
    ]

    def checked(tensor: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
        # Servers let any shape through, and TensorFlow's kernels end the process at some.
        return tf.ensure_shape(tensor, spec.shape)

    def with_constants() -> keras.StatelessScope:
        return keras.StatelessScope([(each, tf.cast(value, each.dtype)) for each, value in frozen])

    # Traced once for the four signatures that call it.
    @tf.function(input_signature=[images_spec, thresholds_spec], autograph=False)
    def with_thresholds(images: tf.Tensor, thresholds: tf.Tensor) -> dict[str, tf.Tensor]:
        with with_constants():
            return adaptive(model, checked(images, images_spec), checked(thresholds, thresholds_spec))

    def serving_default(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return with_thresholds(images, tf.tile(own_thresholds, [tf.shape(images)[0], 1]))

    def all_exits(images: tf.Tensor) -> dict[str, tf.Tensor]:
        with with_constants():
            logits = model.logits(checked(images, images_spec))
            return dict(zip(exit_names(model.num_exits), logits, strict=True))

    def decode(file: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(file, channels=channels, expand_animations=False)
        image = tf.image.resize(tf.cast(image, tf.float32) / 255, [height, width], antialias=True)
        return tf.clip_by_value(image, 0.0, 1.0)

    def image_bytes(files: tf.Tensor) -> dict[str, tf.Tensor]:
        decoded = tf.map_fn(decode, files, fn_output_signature=images_of_one)
        return serving_default(decoded)

    images_of_one = tf.TensorSpec([height, width, channels], tf.float32)
    signatures: dict[str, tuple[Callable, list]] = {
        SERVING_DEFAULT: (serving_default, [images_spec]),
        ADAPTIVE: (
            lambda images, thresholds: with_thresholds(images, thresholds),
            [images_spec, thresholds_spec],
        ),
        ALL_EXITS: (all_exits, [images_spec]),
        IMAGE_FILES: (lambda bytes: image_bytes(bytes), [files]),
    }
    table = metadata.budget_table
    if table is not None:

        def with_budget(images: tf.Tensor, budget: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = tf.searchsorted(tf.constant(table.budgets, tf.float32), budget, side="right")
            return with_thresholds(images, tf.gather(table.thresholds, tf.maximum(rows - 1, 0)))

        signatures[WITH_BUDGET] = (with_budget, [images_spec, budgets])
    traced = {
        name: tf.function(function, autograph=False).get_concrete_function(*inputs)
        for name, (function, inputs) in signatures.items()
    }
    tf.saved_model.save(tf.Module(), str(folder), signatures=traced)


@contextlib.contextmanager
def _written_aside(folder: Path) -> Iterator[Path]:
    """A folder beside the versions, removed unless it was renamed.

    A server that watches the folder takes only names that are numbers, so it never sees half a model.
    """
    make_folder(folder)
    aside = Path(tempfile.mkdtemp(prefix="writing-", dir=folder))
    try:
        yield aside
    except tf.errors.OpError as error:  # TensorFlow's own, of files that it cannot write.
        raise InputError(
            f"Cannot write the SavedModel to {str(folder)!r}: {error.message}. Make room, then export again"
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _rename_to_next_version(aside: Path) -> Path:
    while True:
        taken = [int(each.name) for each in aside.parent.iterdir() if each.name.isdecimal()]
        try:
            return aside.rename(aside.with_name(str(max(taken, default=0) + 1)))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # Else another export was quicker.
                raise
