"""LiteRT files for the edge: one per stage, so that a device stops where a sample leaves."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sized
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from rdi_keras.checks import check_batch_size, check_images, check_thresholds
from rdi_keras.errors import InputError
from rdi_keras.files import make_folder, read_json
from rdi_keras.inference import fold_batch_norm
from rdi_keras.metadata import Metadata
from rdi_keras.models import MultiExitModel
from rdi_keras.names import exit_name
from rdi_keras.serving import litert_stages
from rdi_keras.serving.litert_stages import LiteRTStages, stage_file
from rdi_keras.serving.predictor import Prediction

KINDS = ("float32", "float16", "int8")
KIND_FILE = "litert.json"
MAX_CALIBRATION = 500  # Ranges of activations have settled long before; every image costs a pass.


def export_litert(
    model: MultiExitModel,
    metadata: Metadata,
    folder: str | Path,
    kind: str = "float32",
    calibration: ArrayLike | None = None,
) -> Path:
    """Writes `exit_1.tflite … exit_N.tflite` into a new folder, aside first and then renamed.

    Stage k takes `features` (the images, for the first) and gives the `logits` of exit k and, but for the
    last, the `features` that the next stage takes: float32 for every kind. BatchNorm is folded away.

    Args:
        model: calibrated.
        metadata: written beside the files, with a copy of the code that runs them.
        folder: of the files; must not exist, or be empty.
        kind: `float32`; `float16` for weights of half the size; `int8` for weights and activations in
            eight bits, where the converter has such an operation.
        calibration: float images `[n, H, W, C]` in [0, 1], for `int8` alone: the ranges of activations
            are those that 500 of the images cause, taken evenly. Take training images: on images that set
            the ranges, int8 does better than on new ones.

    Returns:
        The folder.

    Raises:
        InputError: unknown kind, a folder that is in use, or no calibration images for `int8`.
    """
    folder = Path(folder)
    if kind not in KINDS:
        raise InputError(f"Unknown kind of LiteRT file {kind!r}. Allowed: {', '.join(KINDS)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{str(folder)!r} is in use. Name a new folder for the LiteRT files")
    images = _calibration_images(calibration, model) if kind == "int8" else None
    make_folder(folder.parent)
    # Not `TemporaryDirectory`: it would miss the folder after it was renamed.
    aside = Path(tempfile.mkdtemp(prefix="writing-", dir=folder.parent))
    try:
        _write_stages(fold_batch_norm(model), kind, images, aside)
        metadata.write(aside)
        (aside / KIND_FILE).write_text(json.dumps({"kind": kind}) + "\n")
        shutil.copy(litert_stages.__file__, aside)
        aside.chmod(0o755)  # mkdtemp's folders are closed to others.
        return aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


class LiteRTRunner:
    """Opens a folder that `export_litert` wrote and predicts adaptively.

    Of a `Predictor` it has `predict`, for thresholds that all images share: no budgets, no thresholds per
    sample, no logits of every exit. One caller at a time: give every thread a runner of its own.

    Args:
        folder: of the LiteRT files.
        thresholds: N-1 entropies in nats instead of the model's own.
        num_threads: that one stage may use.

    Attributes:
        kind: `float32`, `float16` or `int8`.
        size: of the LiteRT files together, in bytes.

    Raises:
        InputError: if the folder is none, a file is damaged, the thresholds do not fit, or the package
            ai-edge-litert is missing.
    """

    def __init__(self, folder: str | Path, thresholds: ArrayLike | None = None, num_threads: int = 1):
        self.path = Path(folder)
        self.metadata = Metadata.read(self.path)
        self.num_exits = self.metadata.num_exits
        chosen = self.metadata.thresholds if thresholds is None else thresholds
        self.thresholds = check_thresholds(chosen, self.num_exits)
        try:
            self.kind = read_json(self.path / KIND_FILE)["kind"]
            self.stages = LiteRTStages(self.path, num_threads)
        except ImportError:
            raise InputError(
                'LiteRT files need the package ai-edge-litert. Install it: pip install "rdi_keras[litert]"'
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"Cannot open the LiteRT files in {str(self.path)!r}: {error}. Export them again with "
                "rdi.serving.export_litert"
            ) from None
        files = (stage_file(number) for number in range(1, self.num_exits + 1))
        self.size = sum((self.path / file).stat().st_size for file in files)

    def predict(
        self, images: ArrayLike, thresholds: ArrayLike | None = None, batch_size: int = 256
    ) -> Prediction:
        """Answers for images, each from the exit where it leaves.

        Args:
            images: float `[B, H, W, C]` in [0, 1].
            thresholds: N-1 entropies in nats for this call only.
            batch_size: how many images run at once.

        Raises:
            InputError: if images or thresholds do not fit the model, or the batch size is below 1.
        """
        check_batch_size(batch_size)
        images = check_images(images, self.metadata.input_shape)
        chosen = self.thresholds if thresholds is None else check_thresholds(thresholds, self.num_exits)
        batches = [
            self.stages(images[start : start + batch_size], chosen)
            for start in range(0, max(len(images), 1), batch_size)
        ]
        fields = Prediction.__annotations__
        return Prediction(*(np.concatenate([each[field] for each in batches]) for field in fields))


def _calibration_images(calibration: ArrayLike | None, model: MultiExitModel) -> np.ndarray:
    if calibration is None or (isinstance(calibration, Sized) and not len(calibration)):
        raise InputError("int8 files need calibration images, such as dataset.train.images. Received: none")
    images = check_images(calibration, model.input_shape[1:])
    count = min(len(images), MAX_CALIBRATION)
    # Evenly, because files are often sorted by class.
    return images[np.arange(count) * len(images) // count]


def _write_stages(model: MultiExitModel, kind: str, images: np.ndarray | None, folder: Path) -> None:
    parts = [_stage(model, number) for number in range(1, model.num_exits + 1)]
    with tempfile.TemporaryDirectory() as saved:
        # A SavedModel is how Keras hands its variables to the converter.
        archive = keras.export.ExportArchive()
        archive.track(model)
        for number, (part, segment) in enumerate(zip(parts, model.segments, strict=True), start=1):
            spec = tf.TensorSpec([None, *segment.input_shape[1:]], tf.float32, "features")
            archive.add_endpoint(exit_name(number), part, input_signature=[spec])
        archive.write_out(saved, verbose=False)
        features = images
        for number, part in enumerate(parts, start=1):
            converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=[exit_name(number)])
            _set_kind(converter, kind, features)
            (folder / stage_file(number)).write_bytes(converter.convert())
            if features is not None and number < len(parts):
                features = _in_batches(part, features)


def _stage(model: MultiExitModel, number: int) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    segment, head = model.segments[number - 1], model.heads[number - 1]

    def run(features: tf.Tensor) -> dict[str, tf.Tensor]:
        features = segment(features, training=False)
        outputs = {"logits": tf.cast(head(features, training=False), tf.float32)}
        if number < model.num_exits:
            outputs["features"] = tf.cast(features, tf.float32)
        return outputs

    return run


def _set_kind(converter: tf.lite.TFLiteConverter, kind: str, features: np.ndarray | None) -> None:
    if kind == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if features is None:  # The ranges of activations are those of int8 alone.
        converter.target_spec.supported_types = [tf.float16]
        return

    def representative() -> Iterator[list[np.ndarray]]:
        yield from ([each[None]] for each in features)

    converter.representative_dataset = representative
    # The second is for operations that have no integer version: those stay float32.
    integer, any_type = tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS
    converter.target_spec.supported_ops = [integer, any_type]


def _in_batches(
    part: Callable[[tf.Tensor], dict[str, tf.Tensor]], features: np.ndarray, size: int = 64
) -> np.ndarray:
    starts = range(0, len(features), size)
    return np.concatenate([part(features[start : start + size])["features"].numpy() for start in starts])
