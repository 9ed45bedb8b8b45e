"""What scores a shard. A worker holds one model, and one shard's images at most."""

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rdi_keras.errors import InputError
from rdi_keras.metadata import FILE_NAME as METADATA_FILE
from rdi_keras.runs import MODEL_FILE, SAVED_MODEL_FILE
from rdi_keras.scoring.results import ResultFolder
from rdi_keras.scoring.samples import Sample, Source, unseen

if TYPE_CHECKING:  # Importing it for real loads TensorFlow.
    from rdi_keras.serving import Predictor


@dataclass(frozen=True)
class Plan:
    """What every worker is told.

    Attributes:
        model: path of a run folder or of a SavedModel, the same on every machine.
        source: of the images.
        out: folder of results, the same on every machine.
        engine: what executes the model.
        thresholds: N-1 entropies in nats.
        batch_size: samples per call of the model.
        resize: whether images of another size are resized.
        settings: what the folder of results was opened with.
    """

    model: Path
    source: Source
    out: Path
    engine: str
    thresholds: tuple[float, ...]
    batch_size: int
    resize: bool
    settings: dict[str, Any]


class ShardScorer:
    """A callable that scores shards; the model is opened at the first."""

    def __init__(self, plan: Plan):
        # One thread a worker: workers share the cores, and sums in one order give the same bits everywhere.
        os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        self.plan = plan

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Scores a shard and writes its file.

        Returns:
            The shard's `number`, and `refused`: empty, or why it could not be scored, in a line. Ray would
            hand on an exception as text in the midst of its own.
        """
        number, refused = int(shard["number"]), ""
        results = ResultFolder(self.plan.out, self.plan.source.key_column)
        try:
            results.check(self.plan.settings)
            results.write_shard(number, self.rows(shard))
        except InputError as error:
            refused = str(error)
        except Exception as error:
            logging.getLogger(__name__).exception("Shard %d", number)  # Into Ray's log of this worker.
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            refused = (
                f"A worker could not score shard {number}: {reason}. Finished shards are kept: the same "
                "command goes on from there"
            )
        return {"number": number, "refused": refused}

    def rows(self, shard: dict[str, Any]) -> list[dict[str, Any]]:
        """A row for every sample of a shard, in their order; with `error` where it could not be scored."""
        samples = self.plan.source.read(shard, self._predictor.metadata.class_names)
        return [row for batch in _batches(samples, self.plan.batch_size) for row in self._score(batch)]

    @cached_property
    def _predictor(self) -> "Predictor":
        from rdi_keras.serving import Predictor
        from rdi_keras.serving.engines import TENSORFLOW

        plan = self.plan
        try:
            digest = executed_digest(plan.model, plan.engine)
        except FileNotFoundError:
            raise unseen(f"the model {str(plan.model)!r}") from None
        if digest != plan.settings["executed_files"]:
            raise InputError(
                f"A worker finds another model at {str(plan.model)!r}, or it has changed. Put the same files "
                "on every machine, or name another folder of results"
            )
        threads = None if plan.engine == TENSORFLOW else 1  # TensorFlow's are set above.
        return Predictor(plan.model, plan.engine, plan.thresholds, threads)

    def _score(self, batch: list[Sample]) -> list[dict[str, Any]]:
        rows = [{self.plan.source.key_column: each.key, "true_label": each.true_label} for each in batch]
        images, scored = [], []
        for row, sample in zip(rows, batch, strict=True):
            try:
                images.append(self._pixels(sample))
                scored.append(row)
            except InputError as error:
                row["error"] = str(error)
        if images:
            prediction = self._predictor.predict(np.stack(images).astype(np.float32) / 255)
            names = self._predictor.metadata.class_names
            for position, row in enumerate(scored):
                label = int(prediction.label[position])
                row |= {
                    "label": label,
                    "class_name": names[label],
                    "probability": prediction.probabilities[position, label],
                    "exit": prediction.exit[position],
                    "entropy": prediction.entropy[position],
                    "macs": prediction.macs[position],
                }
        return rows

    def _pixels(self, sample: Sample) -> np.ndarray:
        """uint8 `[H, W, C]` as the model takes it."""
        if sample.error:
            raise InputError(sample.error)
        height, width, channels = self._predictor.metadata.input_shape
        image = self.plan.source.decode(sample)
        if image.shape[:2] != (height, width):
            if not self.plan.resize:
                raise InputError(
                    f"has {image.shape[0]}×{image.shape[1]} pixels; the model takes {height}×{width}. Say "
                    "--resize true to resize"
                )
            image = self.plan.source.resize(image, (height, width))
        if channels == 1 and (image == image[..., :1]).all():
            image = image[..., :1]  # Image files are read in colour.
        if image.shape[-1] != channels:
            raise InputError(f"has {image.shape[-1]} colour channels; the model takes {channels}. Convert it")
        return image


def executed_digest(model: Path, engine: str) -> str:
    """SHA-256 of the files that an engine executes: of equal weights, one export may have rounded them.

    Args:
        model: a run folder or a version of a SavedModel.
        engine: `tensorflow` or `onnxruntime`.
    """
    from rdi_keras.serving.engines import TENSORFLOW
    from rdi_keras.serving.predictor import ONNX_FILE

    if (model / MODEL_FILE).is_file():
        files = [model / MODEL_FILE]
    elif engine == TENSORFLOW:
        files = [model / SAVED_MODEL_FILE, *sorted(model.glob("variables/*"))]
    else:
        files = [model / ONNX_FILE]
    digest = hashlib.sha256()
    for file in [model / METADATA_FILE, *files]:  # Class names and MACs stand in the metadata.
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _batches(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    samples = iter(samples)
    while batch := list(islice(samples, size)):
        yield batch
