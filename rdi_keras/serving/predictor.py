"""One way to ask a trained model, whether it lies in a run folder or in a SavedModel."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from rdi_keras.checks import check_images, check_thresholds
from rdi_keras.errors import InputError
from rdi_keras.inference import adaptive
from rdi_keras.metadata import Metadata
from rdi_keras.names import ADAPTIVE, ALL_EXITS, IMAGES, SERVING_DEFAULT, THRESHOLDS, exit_names
from rdi_keras.runs import MODEL_FILE, SAVED_MODEL_FILE, RunFolder

ENGINES = ("auto", "tensorflow")


@dataclass(frozen=True)
class Prediction:
    """Adaptive answers for B images.

    Attributes:
        probabilities: float32 `[B, C]`, of the exit that answered.
        label: int64 `[B]`.
        exit: int32 `[B]`, 1-based.
        entropy: float32 `[B]`, nats, of the exit that answered.
        macs: float32 `[B]`, multiply-accumulates of everything that ran for the sample.
    """

    probabilities: np.ndarray
    label: np.ndarray
    exit: np.ndarray
    entropy: np.ndarray
    macs: np.ndarray


class Predictor:
    """Opens a model and predicts adaptively: each sample leaves at the first exit that is sure.

    Args:
        path: a run folder, a version folder of a SavedModel, or a folder of such versions, of which
            the highest is taken.
        engine: what executes the model; `auto` picks one.
        thresholds: N-1 entropies in nats instead of the model's own.

    Raises:
        InputError: if there is no model at the path, or the thresholds do not fit it.

    Example:

    >>> predictor = Predictor("saved_models/digits")
    >>> predictor.predict(images).label
    """

    def __init__(self, path: str | Path, engine: str = "auto", thresholds: ArrayLike | None = None):
        if engine not in ENGINES:
            raise InputError(f"Unknown engine {engine!r}. Allowed: {', '.join(ENGINES)}")
        self.path = resolve_model_path(Path(path))
        self.metadata = Metadata.read(self.path)
        self.num_exits = self.metadata.num_exits
        self.num_classes = len(self.metadata.class_names)
        chosen = self.metadata.thresholds if thresholds is None else thresholds
        self.thresholds = check_thresholds(chosen, self.num_exits)
        if (self.path / MODEL_FILE).is_file():
            self._backend = _KerasModel(RunFolder(self.path))
        else:
            self._backend = _SavedModel(self.path)
        self._check_metadata()

    def predict(
        self, images: ArrayLike, thresholds: ArrayLike | None = None, batch_size: int = 256
    ) -> Prediction:
        """Answers for images, each from the exit where it leaves.

        Args:
            images: float `[B, H, W, C]` in [0, 1].
            thresholds: N-1 entropies in nats for this call only.
            batch_size: how many images run at once.

        Raises:
            InputError: if images or thresholds do not fit the model.
        """
        images = check_images(images, self.metadata.input_shape)
        chosen = self.thresholds if thresholds is None else check_thresholds(thresholds, self.num_exits)
        batches = [
            self._backend.adaptive(images[start : start + batch_size], chosen)
            for start in range(0, max(len(images), 1), batch_size)
        ]
        fields = Prediction.__annotations__
        return Prediction(*(np.concatenate([each[field] for each in batches]) for field in fields))

    def exits(self, images: ArrayLike) -> dict[str, np.ndarray]:
        """Logits float32 `[B, C]` of every exit, by name, for images as in `predict`."""
        images = check_images(images, self.metadata.input_shape)
        logits = self._backend.logits(tf.constant(images), self.num_exits)
        names = exit_names(self.num_exits)
        return {name: each.numpy() for name, each in zip(names, logits, strict=True)}

    def logits(self, images: tf.Tensor, up_to: int | None = None) -> list[tf.Tensor]:
        """Differentiable logits of exits 1 … `up_to`, in inference mode: what an attack needs."""
        return self._backend.logits(images, self.num_exits if up_to is None else up_to)

    def _check_metadata(self) -> None:
        backend = self._backend
        said = (tuple(self.metadata.input_shape), self.num_classes, self.num_exits)
        found = (tuple(backend.input_shape), backend.num_classes, backend.num_exits)
        if said != found:
            raise InputError(
                f"{str(self.path)!r} holds metadata of another model. They say input shape, classes and "
                f"exits are {said}; the model has {found}. Export or train it again"
            )


class _KerasModel:
    def __init__(self, run: RunFolder):
        self._model = run.load_model()
        self.input_shape = self._model.input_shape[1:]
        self.num_classes = self._model.num_classes
        self.num_exits = self._model.num_exits
        self._adaptive = tf.function(
            functools.partial(adaptive, self._model), autograph=False, reduce_retracing=True
        )

    def adaptive(self, images: np.ndarray, thresholds: np.ndarray) -> dict:
        per_sample = np.tile(thresholds, (len(images), 1))
        return self._adaptive(tf.constant(images), tf.constant(per_sample))

    def logits(self, images: tf.Tensor, up_to: int) -> list[tf.Tensor]:
        return self._model.logits(images, up_to)


class _SavedModel:
    def __init__(self, path: Path):
        try:
            self._loaded = tf.saved_model.load(str(path))
        except Exception as error:  # What TensorFlow raises for a damaged file is not documented.
            raise InputError(f"Cannot load the SavedModel {str(path)!r}: {error}") from None
        signatures = self._loaded.signatures
        missing = {SERVING_DEFAULT, ADAPTIVE, ALL_EXITS} - set(signatures)
        if missing:
            raise InputError(
                f"The SavedModel {str(path)!r} lacks the signatures {', '.join(sorted(missing))}. "
                "Export it with training/export.py"
            )
        outputs = signatures[ALL_EXITS].structured_outputs
        self._names = exit_names(len(outputs))
        self.input_shape = signatures[ALL_EXITS].structured_input_signature[1][IMAGES].shape[1:]
        self.num_classes = outputs[self._names[-1]].shape[-1]
        self.num_exits = len(outputs)

    def adaptive(self, images: np.ndarray, thresholds: np.ndarray) -> dict:
        per_sample = np.tile(thresholds, (len(images), 1))
        inputs = {IMAGES: tf.constant(images), THRESHOLDS: tf.constant(per_sample)}
        return self._loaded.signatures[ADAPTIVE](**inputs)

    def logits(self, images: tf.Tensor, up_to: int) -> list[tf.Tensor]:
        outputs = self._loaded.signatures[ALL_EXITS](**{IMAGES: images})
        return [outputs[name] for name in self._names[:up_to]]


def resolve_model_path(path: Path) -> Path:
    """The run folder or version folder that a path means.

    Raises:
        InputError: if no model lies there.
    """
    if (path / MODEL_FILE).is_file() or (path / SAVED_MODEL_FILE).is_file():
        return path
    if path.is_dir():
        versions = [each for each in path.iterdir() if each.name.isdigit()]
        versions = [each for each in versions if (each / SAVED_MODEL_FILE).is_file()]
        if versions:
            return max(versions, key=lambda each: int(each.name))
    raise InputError(
        f"No model at {str(path)!r}: neither {MODEL_FILE} of a run nor {SAVED_MODEL_FILE} of a "
        "SavedModel. Train one with `make demo` or training/fit.py"
    )
