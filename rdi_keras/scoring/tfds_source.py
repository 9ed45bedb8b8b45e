"""A split of a prepared TFDS set as a source of images."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rdi_keras.data.tfds import DATA_DIR_VARIABLE, prepared_builder
from rdi_keras.errors import InputError
from rdi_keras.scoring.samples import Lean, Sample, files_digest, unseen

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

TENSORFLOW_NOISE = re.compile(r"\{\{.*?\}\}|\[Op:\w+\]( name:)?")


@dataclass(frozen=True)
class TfdsSource(Lean):
    """A split of a prepared TFDS set, in the order of its files; only the records of a shard are read.

    Attributes:
        folder: of the prepared version, such as `…/mnist/3.0.1`. A worker looks nowhere else, and never
            downloads.
        split: its name.
    """

    folder: str
    split: str
    key_column = "index"

    @classmethod
    def find(cls, name: str, data_dir: str | None, split: str) -> "TfdsSource":
        """The split of a set by its name; see `source`.

        Raises:
            InputError: if the set, the split, or images in it do not exist.
        """
        import tensorflow_datasets as tfds

        builder = prepared_builder(name, data_dir or os.environ.get(DATA_DIR_VARIABLE))
        info = builder.info
        if split not in info.splits:
            raise InputError(
                f"The TFDS set {name!r} has no split {split!r}. Allowed: {', '.join(info.splits)}"
            )
        if "image" not in info.features or info.features["image"].np_dtype != np.uint8:
            raise InputError(
                f"The TFDS set {name!r} has no feature 'image' of uint8 pixels. Received features: "
                f"{', '.join(info.features)}. Choose another set, or save it as image files"
            )
        return cls(str(tfds.core.Path(builder.data_dir).resolve()), split)

    @cached_property
    def _builder(self) -> "DatasetBuilder":
        import tensorflow_datasets as tfds

        try:
            return tfds.builder_from_directory(self.folder)
        except OSError:
            raise unseen(f"a prepared TFDS set in the folder {self.folder!r}") from None

    def _record_files(self) -> Iterator[tuple[str, int, int]]:
        """Name, size in bytes, time of change in nanoseconds."""
        import tensorflow as tf

        for path in map(str, self._builder.info.splits[self.split].filepaths):
            try:
                found = tf.io.gfile.stat(path)
            except tf.errors.OpError as error:
                raise InputError(
                    f"Cannot read the record file {path!r}: {_reason(error)}. Prepare the TFDS set again"
                ) from None
            yield os.path.basename(path), found.length, found.mtime_nsec

    def shards(self, size: int, limit: int | None) -> list[dict[str, Any]]:
        total = self._builder.info.splits[self.split].num_examples
        total = total if limit is None else min(total, limit)
        return [
            {"number": start // size, "start": start, "stop": min(start + size, total)}
            for start in range(0, total, size)
        ]

    def describe(self) -> dict[str, Any]:
        info = self._builder.info
        return {
            "kind": "tfds",
            "set": info.full_name,
            "folder": self.folder,
            "split": self.split,
            "examples": info.splits[self.split].num_examples,
            "names, sizes and times": files_digest(self._record_files()),
        }

    def read(self, shard: dict[str, Any], class_names: Sequence[str]) -> Iterator[Sample]:
        import tensorflow as tf
        import tensorflow_datasets as tfds

        features = self._builder.info.features
        wanted = {name: True for name in ("image", "label") if name in features}
        index, stop = int(shard["start"]), int(shard["stop"])
        records = self._builder.as_dataset(
            split=tfds.core.ReadInstruction(self.split, from_=index, to=stop, unit="abs"),
            # Encoded, so that one damaged image is one bad sample and not the end of the shard.
            decoders=tfds.decode.PartialDecoding(wanted, decoders={"image": tfds.decode.SkipDecoding()}),
            # One file after the other: a record's index is its place in the split.
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        names = getattr(features["label"], "names", None) if "label" in features else None
        known = names is not None and list(names) == list(class_names)
        try:
            for record in records.as_numpy_iterator():
                yield Sample(index, record["image"], int(record["label"]) if known else None)
                index += 1
        except tf.errors.OpError as error:
            # A record that is damaged, is no example, or is not there.
            damaged = (
                tf.errors.DataLossError,
                tf.errors.InvalidArgumentError,
                tf.errors.FailedPreconditionError,
            )
            if not isinstance(error, damaged):  # The machine's fault, or the network's: another try may do.
                raise unseen(f"the records of the TFDS set in {self.folder!r} ({_reason(error)})") from None
            reason = f"the record file is damaged from image {index} on: {_reason(error)}"
            for lost in range(index, stop):
                yield Sample(lost, None, None, reason)

    def decode(self, sample: Sample) -> np.ndarray:
        import tensorflow as tf

        try:
            return self._builder.info.features["image"].decode_example(tf.constant(sample.data)).numpy()
        except (tf.errors.OpError, ValueError) as error:
            raise InputError(f"Cannot read the image {sample.key}: {_reason(error)}") from None

    def resize(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        import tensorflow as tf

        return tf.cast(tf.round(tf.image.resize(image, size)), tf.uint8).numpy()


def _reason(error: Exception) -> str:
    """What TensorFlow says of an error, without the names of its operations."""
    return " ".join(TENSORFLOW_NOISE.sub("", getattr(error, "message", str(error))).split())
