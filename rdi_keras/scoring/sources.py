"""Where the images to be scored come from: cut into shards that the data alone decide, read one at a time."""

import errno
import io
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rdi_keras.data import FOLDER_PREFIX
from rdi_keras.data.folder import SUFFIXES, read_image
from rdi_keras.errors import InputError
from rdi_keras.scoring.samples import Lean, Sample, Source, files_digest, unseen
from rdi_keras.scoring.tfds_source import TfdsSource

MAX_FILE_BYTES = 2**28
# What keeps one image from being read, today and tomorrow.
OWN_FAULTS = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENOTDIR)


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
    return TfdsSource.find(data, data_dir, split)


@dataclass(frozen=True)
class FolderSource(Lean):
    """All image files below a folder, sorted by path; hidden ones are left out, links are followed.

    The name of the folder that an image lies in is its true label, if the model has a class of that name.
    """

    folder: Path
    key_column = "path"

    @cached_property
    def _files(self) -> list[tuple[str, int, int]]:
        """Path in the folder, size in bytes, time of change in nanoseconds."""
        found = []
        for folder, below, names in os.walk(self.folder, onerror=_refuse_folder, followlinks=True):
            below[:] = [name for name in below if name[0] != "."]
            for name in below:
                _check_no_loop(Path(folder, name))
            for name in names:
                path = Path(folder, name)
                if path.suffix.lower() not in SUFFIXES and os.path.islink(path) and not path.exists():
                    raise InputError(f"The link {str(path)!r} leads nowhere. Mend or remove it")
                if name[0] != "." and path.suffix.lower() in SUFFIXES:
                    found.append((_text(path.relative_to(self.folder)), *_size_and_time(path)))
        if not found:
            raise InputError(
                f"No image below {str(self.folder)!r}. Allowed: {', '.join(sorted(SUFFIXES))}. "
                "Name another folder"
            )
        return sorted(found)

    def shards(self, size: int, limit: int | None) -> list[dict[str, Any]]:
        names = [name for name, *_ in self._files[:limit]]
        starts = range(0, len(names), size)
        return [{"number": start // size, "names": names[start : start + size]} for start in starts]

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "folder",
            "folder": str(self.folder),
            "files": len(self._files),
            "names, sizes and times": files_digest(self._files),
        }

    def read(self, shard: dict[str, Any], class_names: Sequence[str]) -> Iterator[Sample]:
        labels = {name: label for label, name in enumerate(class_names)}
        names = list(map(str, shard["names"]))
        # One that is gone is an error of its own; where all are, the folder is another or not mounted.
        if not any(os.path.lexists(self.folder / name) for name in names):
            raise unseen(f"any of the {len(names)} images of a shard in the folder {str(self.folder)!r}")
        read = 0
        for name in names:
            path = self.folder / name
            label = labels.get(path.parent.name)
            try:
                yield Sample(name, _bytes(path), label)
                read += 1
            except OSError as error:
                if error.errno not in OWN_FAULTS:  # The machine's, or the network's: another try may do.
                    raise unseen(f"the image {str(path)!r} ({error.strerror})") from None
                yield Sample(name, None, label, f"cannot be read: {error.strerror}")
        if not read and len(names) > 1:
            raise unseen(f"any of the {len(names)} images of a shard in the folder {str(self.folder)!r}")

    def decode(self, sample: Sample) -> np.ndarray:
        return read_image(_NamedBytes(str(sample.key), sample.data or b""), None)

    def resize(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        from PIL import Image

        height, width = size
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _bytes(path: Path) -> bytes:
    found = path.stat()
    # A pipe would keep who opens it waiting, and a device may never end.
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EPERM, "it is no file")
    if found.st_size > MAX_FILE_BYTES:
        raise OSError(errno.EPERM, f"it is larger than {MAX_FILE_BYTES // 2**20} MB")
    return path.read_bytes()


class _NamedBytes(io.BytesIO):
    """Bytes that error messages call by the file's name; else they would tell an address in memory."""

    def __init__(self, name: str, data: bytes):
        super().__init__(data)
        self._name = name

    def __repr__(self) -> str:
        return self._name


def _text(path: Path) -> str:
    name = path.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:  # Results could not hold it.
        raise InputError(f"The file name {name!r} is not UTF-8. Rename the file") from None
    return name


def _refuse_folder(error: OSError) -> None:
    raise InputError(
        f"Cannot read the folder {error.filename!r}: {error.strerror}. Make it readable, or name another one"
    ) from None


def _check_no_loop(folder: Path) -> None:
    if os.path.islink(folder) and folder.resolve() in (each.resolve() for each in folder.parents):
        raise InputError(f"The link {str(folder)!r} leads to a folder that it lies in. Remove the link")


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # A link that leads nowhere is an image that cannot be read.
        return -1, -1
    return found.st_size, found.st_mtime_ns
