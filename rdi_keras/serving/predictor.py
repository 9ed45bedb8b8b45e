"""One way to ask a trained model, whether it lies in a run folder or in a SavedModel."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from rdi_keras.checks import (
    check_batch_size,
    check_budget,
    check_images,
    check_sample_thresholds,
    check_thresholds,
)
from rdi_keras.errors import InputError
from rdi_keras.files import check_unchanged
from rdi_keras.metadata import Metadata
from rdi_keras.names import exit_names
from rdi_keras.runs import MODEL_FILE, SAVED_MODEL_FILE, RunFolder
from rdi_keras.serving.engines import (
    AUTO,
    ENGINES,
    ONNXRUNTIME,
    TENSORFLOW,
    Engine,
    KerasEngine,
    OnnxEngine,
    SavedModelEngine,
    check_threads,
    import_onnxruntime,
)
from rdi_keras.serving.latency import open_engine

ONNX_FILE = "adaptive.onnx"


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
        engine: what executes the model: `tensorflow`; `onnxruntime`, faster on a CPU; or `auto`, which is
            the latter where the folder holds an ONNX file and the package is installed. A run folder holds
            none: asked for by name, it is made in memory, in seconds.
        thresholds: N-1 entropies in nats instead of the model's own.
        num_threads: of ONNX Runtime; default: the machine's cores. TensorFlow's threads are its process's
            (the environment variable TF_NUM_INTRAOP_THREADS).

    Raises:
        InputError: if there is no model at the path, the engine cannot be had, or thresholds or threads are
            not allowed.

    Examples:
        >>> predictor = Predictor("saved_models/digits")
        >>> predictor.predict(images).label
    """

    def __init__(
        self,
        path: str | Path,
        engine: str = AUTO,
        thresholds: ArrayLike | None = None,
        num_threads: int | None = None,
    ):
        if engine not in ENGINES:
            raise InputError(f"Unknown engine {engine!r}. Allowed: {', '.join(ENGINES)}")
        self.path = resolve_model_path(path)
        self.metadata = Metadata.read(self.path)
        self.num_exits = self.metadata.num_exits
        self.num_classes = len(self.metadata.class_names)
        chosen = self.metadata.thresholds if thresholds is None else thresholds
        self.thresholds = check_thresholds(chosen, self.num_exits)
        self.engine = self._automatic() if engine == AUTO else engine
        check_threads(self.engine, num_threads)
        self._engine = self._open(num_threads)
        self._check_metadata()

    def predict(
        self,
        images: ArrayLike,
        thresholds: ArrayLike | None = None,
        batch_size: int = 256,
        budget: ArrayLike | None = None,
    ) -> Prediction:
        """Answers for images, each from the exit where it leaves.

        Args:
            images: float `[B, H, W, C]` in [0, 1].
            thresholds: entropies in nats for this call only, `[N-1]`, or `[B, N-1]` per sample.
            batch_size: how many images run at once.
            budget: instead, mean compute as a fraction of the backbone's MACs, one number or `[B]`; takes
                the thresholds that met it on calibration data. What is less than leaving at exit 1 costs
                means leaving there.

        Raises:
            InputError: if images, thresholds or budget do not fit the model, or the batch size is below 1.
        """
        check_batch_size(batch_size)
        images = check_images(images, self.metadata.input_shape)
        limits = self._limits(len(images), thresholds, budget)
        batches = [
            self._engine.adaptive(images[start : start + batch_size], limits[start : start + batch_size])
            for start in range(0, max(len(images), 1), batch_size)
        ]
        fields = Prediction.__annotations__
        return Prediction(
            *(np.concatenate([np.asarray(each[field]) for each in batches]) for field in fields)
        )

    def exits(self, images: ArrayLike) -> dict[str, np.ndarray]:
        """Logits float32 `[B, C]` of every exit, by name, for images as in `predict`."""
        images = check_images(images, self.metadata.input_shape)
        logits = self._engine.logits(tf.constant(images), self.num_exits)
        names = exit_names(self.num_exits)
        return {name: each.numpy() for name, each in zip(names, logits, strict=True)}

    def logits(self, images: tf.Tensor, up_to: int | None = None) -> list[tf.Tensor]:
        """Differentiable logits of exits 1 … `up_to`, in inference mode: what an attack needs."""
        return self._engine.logits(images, self.num_exits if up_to is None else up_to)

    def _limits(self, count: int, thresholds: ArrayLike | None, budget: ArrayLike | None) -> np.ndarray:
        """Thresholds per sample, `[count, N-1]`."""
        if budget is None:
            chosen = self.thresholds if thresholds is None else thresholds
            return check_sample_thresholds(chosen, count, self.num_exits)
        if thresholds is not None:
            raise InputError("Give thresholds or a budget, not both. Received: both")
        table = self.metadata.budget_table
        if table is None:
            raise InputError(
                f"The model {str(self.path)!r} holds no table of budgets. Train or import it again, or give "
                "thresholds"
            )
        return table.thresholds_for(check_budget(budget, count))

    def _automatic(self) -> str:
        if not (self.path / ONNX_FILE).is_file():
            return TENSORFLOW
        try:
            import_onnxruntime()
        except InputError:
            return TENSORFLOW
        return ONNXRUNTIME

    def _open(self, num_threads: int | None) -> Engine:
        is_run = (self.path / MODEL_FILE).is_file()
        if self.engine == TENSORFLOW:
            return KerasEngine(RunFolder(self.path).load_model()) if is_run else SavedModelEngine(self.path)
        if is_run:
            return open_engine(RunFolder(self.path).load_model(), self.engine, num_threads)
        if not (self.path / ONNX_FILE).is_file():
            raise InputError(
                f"{str(self.path)!r} holds no {ONNX_FILE}, which the engine {ONNXRUNTIME!r} needs. Export "
                f"the run again with training/export.py, or choose the engine {TENSORFLOW!r}"
            )
        check_unchanged(self.path / ONNX_FILE, "ONNX file")
        return OnnxEngine(str(self.path / ONNX_FILE), lambda: SavedModelEngine(self.path), num_threads)

    def _check_metadata(self) -> None:
        engine = self._engine
        said = (tuple(self.metadata.input_shape), self.num_classes, self.num_exits)
        found = (engine.input_shape, engine.num_classes, engine.num_exits)
        if said != found:
            raise InputError(
                f"{str(self.path)!r} holds metadata of another model. They say input shape, classes and "
                f"exits are {said}; the model has {found}. Export or train it again"
            )


def resolve_model_path(path: str | Path) -> Path:
    """The run folder or version folder that a path means.

    Raises:
        InputError: if no model lies there.
    """
    path = Path(path)
    if (path / MODEL_FILE).is_file() or (path / SAVED_MODEL_FILE).is_file():
        return path
    if path.is_dir():
        versions = [each for each in path.iterdir() if each.name.isdecimal()]
        versions = [each for each in versions if (each / SAVED_MODEL_FILE).is_file()]
        if versions:
            return max(versions, key=lambda each: int(each.name))
    raise InputError(
        f"No model at {str(path)!r}: neither {MODEL_FILE} of a run nor {SAVED_MODEL_FILE} of a "
        "SavedModel. Train one with `make demo` or training/fit.py"
    )
