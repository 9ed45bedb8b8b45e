"""What every source of images has in common."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from rdi_keras.errors import InputError


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
        """The samples of a shard, in their order. What cannot be read comes with the reason.

        Raises:
            InputError: if this machine does not see the data at all.
        """

    def decode(self, sample: Sample) -> np.ndarray:
        """uint8 `[H, W, C]`. Raises `InputError` with the reason if it cannot."""

    def resize(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """uint8 `[*size, C]`, resized as `rdi.data.load` resizes the same kind of data."""


class Lean:
    """Travels without what it has found out, such as the names of a million files."""

    __dataclass_fields__: ClassVar[dict[str, Field]]

    def __getstate__(self) -> dict:
        return {field: getattr(self, field) for field in self.__dataclass_fields__}


def files_digest(files: Iterable[tuple[str, int, int]]) -> str:
    """SHA-256 of names, sizes in bytes and times of change in nanoseconds.

    Times, because reading a million images only to know whether they are the same would take too long.
    """
    digest = hashlib.sha256()
    for name, size, time in files:
        digest.update(f"{name}\0{size}\0{time}\0".encode())
    return digest.hexdigest()


def unseen(what: str) -> InputError:
    """The error of a worker that lacks what the command saw."""
    return InputError(
        f"A worker does not see {what}. On a cluster, model, data and results must lie where every machine "
        "finds them"
    )
