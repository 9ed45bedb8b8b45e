"""What executes a model for a `Predictor`: Keras, a SavedModel, or ONNX Runtime."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
import tensorflow as tf

from rdi_keras.errors import InputError
from rdi_keras.files import check_unchanged
from rdi_keras.inference import adaptive
from rdi_keras.models import MultiExitModel
from rdi_keras.names import ADAPTIVE, ALL_EXITS, IMAGES, SERVING_DEFAULT, THRESHOLDS, exit_names
from rdi_keras.runs import SAVED_MODEL_FILE
from rdi_keras.serving.graphs import read_graphs

AUTO, TENSORFLOW, ONNXRUNTIME = "auto", "tensorflow", "onnxruntime"
ENGINES = (AUTO, TENSORFLOW, ONNXRUNTIME)


class Engine(Protocol):
    """Executes one model.

    Attributes:
        input_shape: `(H, W, C)`.
        num_classes: length of the logits.
        num_exits: N.
    """

    input_shape: tuple[int, int, int]
    num_classes: int
    num_exits: int

    def adaptive(self, images: np.ndarray, thresholds: np.ndarray) -> dict:
        """As `rdi_keras.inference.adaptive`, for float32 arrays `[B, H, W, C]` and `[B, N-1]`."""

    def logits(self, images: tf.Tensor, up_to: int) -> list[tf.Tensor]:
        """Differentiable logits `[B, C]` of exits 1 … `up_to`."""


class KerasEngine:
    """TensorFlow, from a Keras model."""

    def __init__(self, model: MultiExitModel):
        self.model = model
        self.input_shape = tuple(model.input_shape[1:])
        self.num_classes = model.num_classes
        self.num_exits = model.num_exits
        self._adaptive = tf.function(
            functools.partial(adaptive, model), autograph=False, reduce_retracing=True
        )

    def adaptive(self, images: np.ndarray, thresholds: np.ndarray) -> dict:
        found = self._adaptive(tf.constant(images), tf.constant(thresholds))
        return {name: value.numpy() for name, value in found.items()}

    def logits(self, images: tf.Tensor, up_to: int) -> list[tf.Tensor]:
        return self.model.logits(images, up_to)


class SavedModelEngine:
    """TensorFlow, from a version folder.

    Raises:
        InputError: if the SavedModel cannot be loaded, may do more than compute, is not the one that was
            exported, or lacks our signatures.
    """

    def __init__(self, path: Path):
        read_graphs(path)
        check_unchanged(path / SAVED_MODEL_FILE, "SavedModel")
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
        self.input_shape = tuple(signatures[ALL_EXITS].structured_input_signature[1][IMAGES].shape[1:])
        self.num_classes = outputs[self._names[-1]].shape[-1]
        self.num_exits = len(outputs)

    def adaptive(self, images: np.ndarray, thresholds: np.ndarray) -> dict:
        inputs = {IMAGES: tf.constant(images), THRESHOLDS: tf.constant(thresholds)}
        return self._loaded.signatures[ADAPTIVE](**inputs)

    def logits(self, images: tf.Tensor, up_to: int) -> list[tf.Tensor]:
        outputs = self._loaded.signatures[ALL_EXITS](**{IMAGES: images})
        return [outputs[name] for name in self._names[:up_to]]


class OnnxEngine:
    """ONNX Runtime, the fastest measured here on a CPU (docs/performance.md).

    One call per batch; the graph skips what nobody needs. Threads do not spin while they wait, so that an
    idle server costs nothing.

    Args:
        graph: an ONNX file's path or bytes, as `rdi_keras.serving.onnx_graph` makes them.
        whole: opens the same model in TensorFlow, when logits are asked for.
        num_threads: of this model; default: the machine's cores.

    Raises:
        InputError: if onnxruntime is not installed, or the graph is none of ours.
    """

    def __init__(self, graph: str | bytes, whole: Callable[[], Engine], num_threads: int | None = None):
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = num_threads or available_cores()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            images, thresholds = self._session.get_inputs()
            self._names = [output.name for output in self._session.get_outputs()]
            self.input_shape = tuple(images.shape[1:])
            self.num_classes = self._session.get_outputs()[0].shape[-1]
            self.num_exits = thresholds.shape[-1] + 1
        except Exception as error:  # ONNX Runtime has a class of its own for every cause.
            name = "graph" if isinstance(graph, bytes) else repr(str(graph))
            raise InputError(f"Cannot load the ONNX {name}: {error}. Export the model again") from None
        self._whole = functools.cache(whole)

    def adaptive(self, images: np.ndarray, thresholds: np.ndarray) -> dict:
        inputs = {IMAGES: np.ascontiguousarray(images), THRESHOLDS: thresholds}
        return dict(zip(self._names, self._session.run(None, inputs), strict=True))

    def logits(self, images: tf.Tensor, up_to: int) -> list[tf.Tensor]:
        return self._whole().logits(images, up_to)


def check_threads(engine: str, num_threads: int | None) -> None:
    """Raises `InputError` if an engine cannot have this number of threads."""
    if num_threads is not None and (engine != ONNXRUNTIME or num_threads < 1):
        raise InputError(
            f"num_threads must be at least 1, and is for the engine {ONNXRUNTIME!r}. Received: {num_threads} "
            f"for {engine!r}. TensorFlow's are set by TF_NUM_INTRAOP_THREADS"
        )


def available_cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Where the system has no such notion.
        return os.cpu_count() or 1


def import_onnxruntime() -> ModuleType:
    """The package.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"The engine {ONNXRUNTIME!r} needs the package onnxruntime ({error}). Install it: pip install "
            f"onnxruntime, or choose the engine {TENSORFLOW!r}"
        ) from None
    return onnxruntime
