"""Runs a folder of .tflite files stage by stage; needs numpy and ai-edge-litert, nothing else.

A copy lies beside the files, so that a device needs neither rdi_keras nor TensorFlow:

    from litert_stages import LiteRTStages

    answers = LiteRTStages("the/folder")(images)
"""

import json
from pathlib import Path

import numpy as np

METADATA_FILE = "metadata.json"


def stage_file(number: int) -> str:
    """The file of the 1-based stage: segment and head of that exit."""
    return f"exit_{number}.tflite"


class LiteRTStages:
    """Adaptive execution: a sample leaves at the first exit whose entropy is below its threshold.

    An interpreter serves one caller at a time: give every thread an object of its own.

    Args:
        folder: `exit_1.tflite … exit_N.tflite` and `metadata.json`.
        num_threads: that one stage may use.

    Attributes:
        thresholds: float32 `[N-1]`, entropies in nats, as stored.
        stages: N functions; stage k takes `features` float32 `[b, …]` and gives `logits` `[b, C]` and, but
            for the last, the `features` that stage k+1 takes.

    Raises:
        OSError, ValueError: if a file is missing or damaged.
    """

    def __init__(self, folder: str | Path, num_threads: int = 1):
        from ai_edge_litert.interpreter import Interpreter

        metadata = json.loads(Path(folder, METADATA_FILE).read_text())
        self.thresholds = np.asarray(metadata["thresholds"], np.float32)
        self.macs = np.asarray(metadata["macs_per_exit"], np.float32)
        self.input_shape = tuple(metadata["input_shape"])
        self.num_classes = len(metadata["class_names"])
        files = [Path(folder, stage_file(number + 1)) for number in range(len(self.macs))]
        self.stages = [
            Interpreter(model_content=file.read_bytes(), num_threads=num_threads).get_signature_runner()
            for file in files
        ]

    def __call__(self, images: np.ndarray, thresholds: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Answers for float32 images `[B, H, W, C]` in [0, 1], each from the exit where it leaves.

        Args:
            images: all are run at once; those that left are compacted away before the next stage.
            thresholds: N-1 entropies in nats instead of those stored.

        Returns:
            `probabilities` float32 `[B, C]`, `label` int64 `[B]`, `exit` int32 `[B]` (1-based), `entropy`
            float32 `[B]` (nats, of the exit that answered), `macs` float32 `[B]`.

        Raises:
            ValueError: if images or thresholds are not such; an int8 file would answer NaN with confidence.
        """
        check_images(images, self.input_shape)
        limits = self.thresholds if thresholds is None else np.asarray(thresholds, np.float32)
        if limits.shape != self.thresholds.shape or np.isnan(limits).any():
            raise ValueError(
                f"Thresholds must be {len(self.thresholds)} numbers in nats. Received: {limits.tolist()}"
            )
        answers = np.zeros([len(images), self.num_classes], np.float32)
        exits = np.full(len(images), len(self.stages), np.int32)
        inside, features = np.arange(len(images)), images
        for number, stage in enumerate(self.stages, start=1):
            if not len(inside):
                break
            outputs = stage(features=features)
            answers[inside] = outputs["logits"]
            if number == len(self.stages):
                break
            # Not `>=` for who stays: an entropy that is no number is no reason to leave.
            leaves = entropy(outputs["logits"]) < limits[number - 1]
            exits[inside[leaves]] = number
            inside, features = inside[~leaves], outputs["features"][~leaves]
        return {
            "probabilities": np.exp(log_softmax(answers)),
            "label": np.argmax(answers, axis=-1),
            "exit": exits,
            "entropy": entropy(answers),
            "macs": self.macs[exits - 1],
        }


def check_images(images: np.ndarray, input_shape: tuple[int, int, int]) -> None:
    """Raises `ValueError` unless images are float32 `[B, *input_shape]` in [0, 1], without NaN."""
    if not isinstance(images, np.ndarray) or images.dtype != np.float32:
        raise ValueError(
            f"Images must be a numpy array of float32. Received: {getattr(images, 'dtype', type(images))}. "
            "Use images.astype(numpy.float32), and divide uint8 pixels by 255"
        )
    if images.ndim != 4 or images.shape[1:] != input_shape:
        expected = ", ".join(map(str, input_shape))
        raise ValueError(f"Images must have shape (B, {expected}). Received: {images.shape}")
    inside = ((images >= 0) & (images <= 1)).all(axis=(1, 2, 3))  # NaN is neither.
    if not inside.all():
        first = int(np.argmin(inside))
        raise ValueError(
            f"Images must lie in [0, 1] and hold no NaN. Received values from {images[first].min():.4g} to "
            f"{images[first].max():.4g} in image {first}; {np.sum(~inside)} of {len(images)} are bad"
        )


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax of logits `[b, C]`."""
    with np.errstate(invalid="ignore"):
        shifted = logits - logits.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def entropy(logits: np.ndarray) -> np.ndarray:
    """Entropy of the softmax of logits `[b, C]`, in nats; not a number where a logit is none."""
    log_probabilities = log_softmax(logits)
    with np.errstate(invalid="ignore"):
        return -(np.exp(log_probabilities) * log_probabilities).sum(axis=-1)
