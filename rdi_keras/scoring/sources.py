"""Where the images to be scored come from: cut into shards that the data alone decide, read one at a time."""

import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rdi_keras.data.folder import SUFFIXES, read_image
from rdi_keras.errors import InputError

FOLDER_PREFIX = "folder:"
TENSORFLOW_NOISE = re.compile(r"\{\{.*?\}\}|\[Op:\w+\]( name:)?")


@dataclass(frozen=True)
class Sample:
    """One image before it is decoded.

    Attributes:
        key: its path inside the folder, or its index in the TFDS split.
        data: the bytes of an image file, or `None` where they could not be read.
        true_label: its class, as an index into the model's class names, where it is known.
        error: why there are no data.
    """

    key: str | int
    data: bytes | None
    true_label: int | None = None
    error: str | None = None


class Source(Protocol):
    """Images in shards. Objects travel to other processes, and to other machines of a cluster.

    Attributes:
        key_column: what results call a sample's key: `path` (text) or `index` (int64).
    """

    key_column: str

    def shards(self, size: int, limit: int | None) -> list[dict[str, Any]]:
        """What `read` takes, each with its `number`; all have `size` samples but for the last."""

    def describe(self) -> dict[str, Any]:
        """What tells these data from others, as JSON takes it."""

    def read(self, shard: dict[str, Any], class_names: Sequence[str]) -> Iterator[Sample]:
        """The samples of a shard, in their order. What cannot be read comes with the reason."""

    def decode(self, sample: Sample) -> np.ndarray:
        """uint8 `[H, W, C]`. Raises `InputError` with the reason if it cannot."""

    def resize(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """uint8 `[*size, C]`, resized as `rdi.data.load` resizes the same kind of data."""


def source(data: str, data_dir: str | None = None, split: str = "test") -> Source:
    """The images that a name means.

    Args:
        data: a folder of image files, nested as you like, or the name of a TFDS set.
        data_dir: folder of prepared TFDS sets; default: the environment variable `TFDS_DATA_DIR`.
        split: of a TFDS set.

    Raises:
        InputError: if there are no such data.
    """
    path = Path(data.removeprefix(FOLDER_PREFIX))
    if path.is_dir():
        return FolderSource(path.resolve())
    if data.startswith(FOLDER_PREFIX):
        raise InputError(f"No folder of images at {str(path)!r}. Give a folder, or the name of a TFDS set")
    found = TfdsSource(data, data_dir, split)
    found.check()
    return found


class _Lean:
    """Travels without what it has found out, such as the names of a million files."""

    def __getstate__(self) -> dict:
        return {field: getattr(self, field) for field in self.__dataclass_fields__}


@dataclass(frozen=True)
class FolderSource(_Lean):
    """All image files below a folder, sorted by path; hidden ones are left out.

    The name of the folder that an image lies in is its true label, if the model has a class of that name.
    """

    folder: Path
    key_column = "path"

    @cached_property
    def _files(self) -> list[tuple[str, int]]:
        found = []
        for folder, below, names in os.walk(self.folder):
            below[:] = [name for name in below if name[0] != "."]
            for name in names:
                path = Path(folder, name)
                if name[0] != "." and path.suffix.lower() in SUFFIXES:
                    found.append((_text(path.relative_to(self.folder)), _size(path)))
        if not found:
            raise InputError(
                f"No image below {str(self.folder)!r}. Allowed: {', '.join(sorted(SUFFIXES))}. "
                "Name another folder"
            )
        return sorted(found)

    def shards(self, size: int, limit: int | None) -> list[dict[str, Any]]:
        names = [name for name, _ in self._files[:limit]]
        starts = range(0, len(names), size)
        return [{"number": start // size, "names": names[start : start + size]} for start in starts]

    def describe(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for name, size in self._files:
            digest.update(f"{name}\0{size}\0".encode())
        return {"kind": "folder", "files": len(self._files), "names and sizes": digest.hexdigest()}

    def read(self, shard: dict[str, Any], class_names: Sequence[str]) -> Iterator[Sample]:
        labels = {name: label for label, name in enumerate(class_names)}
        for name in map(str, shard["names"]):
            path = self.folder / name
            label = labels.get(path.parent.name)
            try:
                yield Sample(name, path.read_bytes(), label)
            except OSError as error:
                yield Sample(name, None, label, f"cannot be read: {error.strerror}")

    def decode(self, sample: Sample) -> np.ndarray:
        return read_image(_NamedBytes(sample.key, sample.data), None)

    def resize(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        from PIL import Image

        height, width = size
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class TfdsSource(_Lean):
    """A split of a prepared TFDS set, in the order of its files; only the records of a shard are read."""

    name: str
    data_dir: str | None
    split: str
    key_column = "index"

    def check(self) -> None:
        """Raises `InputError` if the set, the split, or images in it do not exist."""
        info = self._builder.info
        if self.split not in info.splits:
            raise InputError(
                f"The TFDS set {self.name!r} has no split {self.split!r}. Allowed: {', '.join(info.splits)}"
            )
        if "image" not in info.features or info.features["image"].np_dtype != np.uint8:
            raise InputError(
                f"The TFDS set {self.name!r} has no feature 'image' of uint8 pixels. Received features: "
                f"{', '.join(info.features)}. Choose another set, or save it as image files"
            )

    @cached_property
    def _builder(self):
        from rdi_keras.data.tfds import DATA_DIR_VARIABLE, prepared_builder

        return prepared_builder(self.name, self.data_dir or os.environ.get(DATA_DIR_VARIABLE))

    def shards(self, size: int, limit: int | None) -> list[dict[str, Any]]:
        total = self._builder.info.splits[self.split].num_examples
        total = total if limit is None else min(total, limit)
        return [
            {"number": start // size, "start": start, "stop": min(start + size, total)}
            for start in range(0, total, size)
        ]

    def describe(self) -> dict[str, Any]:
        info = self._builder.info
        examples = info.splits[self.split].num_examples
        return {"kind": "tfds", "set": info.full_name, "split": self.split, "examples": examples}

    def read(self, shard: dict[str, Any], class_names: Sequence[str]) -> Iterator[Sample]:
        import tensorflow_datasets as tfds

        features = self._builder.info.features
        wanted = {name: True for name in ("image", "label") if name in features}
        records = self._builder.as_dataset(
            split=tfds.core.ReadInstruction(
                self.split, from_=int(shard["start"]), to=int(shard["stop"]), unit="abs"
            ),
            # Encoded, so that one damaged image is one bad sample and not the end of the shard.
            decoders=tfds.decode.PartialDecoding(wanted, decoders={"image": tfds.decode.SkipDecoding()}),
            # One file after the other: a record's index is its place in the split.
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        names = getattr(features["label"], "names", None) if "label" in features else None
        known = names is not None and list(names) == list(class_names)
        for index, record in enumerate(records.as_numpy_iterator(), start=int(shard["start"])):
            yield Sample(index, record["image"], int(record["label"]) if known else None)

    def decode(self, sample: Sample) -> np.ndarray:
        import tensorflow as tf

        try:
            return self._builder.info.features["image"].decode_example(tf.constant(sample.data)).numpy()
        except (tf.errors.OpError, ValueError) as error:
            reason = " ".join(TENSORFLOW_NOISE.sub("", getattr(error, "message", str(error))).split())
            raise InputError(f"Cannot read the image {sample.key}: {reason}") from None

    def resize(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        import tensorflow as tf

        return tf.cast(tf.round(tf.image.resize(image, size)), tf.uint8).numpy()


class _NamedBytes(io.BytesIO):
    """Bytes that error messages call by the file's name; else they would tell an address in memory."""

    def __init__(self, name: str, data: bytes):
        super().__init__(data)
        self._name = name

    def __repr__(self):
        return self._name


def _text(path: Path) -> str:
    name = path.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:  # Results could not hold it.
        raise InputError(f"The file name {name!r} is not UTF-8. Rename the file") from None
    return name


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # A link that leads nowhere is an image that cannot be read.
        return -1
