"""Reads images out of a ZIP archive that nobody vouches for. Nothing that it holds is written to a disk."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import BinaryIO

from rdi_keras.errors import InputError

MAX_FILES = 2_000
MAX_FILE_BYTES = 32 * 2**20
MAX_TOTAL_BYTES = 512 * 2**20
# Of an archive's list of files, which is read as a whole.
MAX_ENTRIES, MAX_LIST_BYTES = 2 * MAX_FILES, 2 * 2**20
ENCRYPTED = 0x1
# The others' readers unpack more than they are asked for.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
END, END_SIZE, LONGEST_COMMENT = b"PK\x05\x06", 22, 2**16
# Twenty bytes before the end, where another record holds the numbers.
ZIP64_LOCATOR = b"PK\x06\x07"
# What zipfile and its decompressors raise on damaged or unusual archives.
READING_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    RuntimeError,
    ValueError,
    EOFError,
    NotImplementedError,
    struct.error,
    MemoryError,
)


@dataclass(frozen=True)
class Member:
    """A file of an archive: its bytes, or why there are none."""

    name: str
    data: bytes | None
    error: str | None = None


@dataclass
class Allowance:
    """How many files and bytes may still be read, in all archives of a visitor together."""

    files: int = MAX_FILES
    size: int = MAX_TOTAL_BYTES

    def take(self, files: int = 0, size: int = 0) -> None:
        """Raises `InputError` where it is exceeded."""
        self.files, self.size = self.files - files, self.size - size
        if self.files < 0:
            raise InputError(
                f"These are more than {MAX_FILES:,} files, which is the limit. Split them, or score a folder "
                "with training/score.py"
            )
        if self.size < 0:
            raise InputError(
                f"These files unpack to more than {MAX_TOTAL_BYTES // 2**20} MB in all. Split them"
            )


def members(file: BinaryIO, allowance: Allowance) -> Iterator[Member]:
    """The files of a ZIP archive, in its order; folders and what systems hide in archives are left out.

    What a member's header says of its size is not believed: reading stops at the limits.

    Args:
        file: of the archive.
        allowance: what may be read, which becomes less.

    Raises:
        InputError: if it is no ZIP archive, or more than is allowed.
    """
    with _opened(file) as archive:
        listed = [each for each in archive.infolist() if not _is_left_out(each)]
        allowance.take(files=len(listed))
        for each in listed:
            yield _read(archive, each, allowance)


def count(file: BinaryIO) -> int:
    """How many files `members` would give.

    Raises:
        InputError: if it is no ZIP archive.
    """
    with _opened(file) as archive:
        return sum(not _is_left_out(each) for each in archive.infolist())


def _opened(file: BinaryIO) -> zipfile.ZipFile:
    try:
        _check_list(file)
        return zipfile.ZipFile(file)
    except READING_ERRORS as error:
        raise InputError(
            f"This is no ZIP archive that can be read ({error}). Pack the images again"
        ) from None


def _check_list(file: BinaryIO) -> None:
    """Looks at the end of the archive, before the list that it announces is read."""
    size = file.seek(0, 2)
    file.seek(max(size - END_SIZE - LONGEST_COMMENT, 0))
    tail = file.read()
    start = len(tail) - END_SIZE
    if start < 0 or not (tail[start:].startswith(END) and tail.endswith(b"\0\0")):
        start = tail.rfind(END)
    if start < 0:
        raise zipfile.BadZipFile("it has no end")
    if tail[max(start - 20, 0) : start].startswith(ZIP64_LOCATOR):
        raise InputError("The archive is of the kind for more than 4 GB (ZIP64). Split it, or pack it anew")
    entries, list_bytes = struct.unpack_from("<HI", tail, start + 10)
    if entries > MAX_ENTRIES or list_bytes > MAX_LIST_BYTES:
        raise InputError(f"The archive lists more than {MAX_ENTRIES:,} files or folders. Split it")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, allowance: Allowance) -> Member:
    name = info.filename
    if _climbs_out(name):
        return Member(name, None, "its path leads out of the archive")
    if info.flag_bits & ENCRYPTED:
        return Member(name, None, "it is encrypted. Pack it without a password")
    if info.compress_type not in METHODS:
        return Member(name, None, "it is packed in an unusual way. Pack it with deflate, as usual")
    most = min(MAX_FILE_BYTES, allowance.size)
    try:
        with archive.open(info) as stream:
            data = stream.read(most + 1)
    except READING_ERRORS as error:
        # It may have been unpacked up to its last byte.
        allowance.take(size=min(info.file_size, most))
        return Member(name, None, f"it is damaged ({error})")
    allowance.take(size=len(data))
    if len(data) > MAX_FILE_BYTES:
        return Member(name, None, f"it unpacks to more than {MAX_FILE_BYTES // 2**20} MB, which is the limit")
    return Member(name, data)


def _is_left_out(info: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(info.filename)
    # Not `is_dir()`, which fails where a damaged name is empty.
    return info.filename.endswith("/") or "__MACOSX" in name.parts or name.name in (".DS_Store", "Thumbs.db")


def _climbs_out(name: str) -> bool:
    paths = PurePosixPath(name), PureWindowsPath(name)
    return any(each.is_absolute() or each.drive or each.root or ".." in each.parts for each in paths)
