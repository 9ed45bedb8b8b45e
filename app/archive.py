"""Reads images out of a ZIP archive that nobody vouches for. Nothing is ever written to a disk."""

import lzma
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
ENCRYPTED = 0x1
# What zipfile and its decompressors raise on damaged or unusual archives.
READING_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    RuntimeError,
    ValueError,
    EOFError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Member:
    """A file of an archive: its bytes, or why there are none."""

    name: str
    data: bytes | None
    error: str | None = None


def members(file: BinaryIO) -> Iterator[Member]:
    """The files of a ZIP archive, in its order; folders and what systems hide in archives are left out.

    What a member's header says of its size is not believed: reading stops at the limits.

    Args:
        file: of the archive.

    Raises:
        InputError: if it is no ZIP archive, holds more than `MAX_FILES` files, or unpacks to more than
            `MAX_TOTAL_BYTES` in all.
    """
    try:
        archive = zipfile.ZipFile(file)
    except READING_ERRORS as error:
        raise InputError(
            f"This is no ZIP archive that can be read ({error}). Pack the images again"
        ) from None
    with archive:
        listed = [each for each in archive.infolist() if not _is_left_out(each)]
        if len(listed) > MAX_FILES:
            raise InputError(
                f"The archive holds {len(listed):,} files. Allowed: {MAX_FILES:,}. Split it, or score a "
                "folder with training/score.py"
            )
        left = MAX_TOTAL_BYTES
        for each in listed:
            member = _read(archive, each, left)
            left -= len(member.data or b"")
            if left <= 0:
                raise InputError(f"The archive unpacks to more than {MAX_TOTAL_BYTES // 2**20} MB. Split it")
            yield member


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, left: int) -> Member:
    name = info.filename
    if _climbs_out(name):
        return Member(name, None, "its path leads out of the archive")
    if info.flag_bits & ENCRYPTED:
        return Member(name, None, "it is encrypted. Pack it without a password")
    most = min(MAX_FILE_BYTES, left)
    try:
        with archive.open(info) as stream:
            data = stream.read(most + 1)
    except READING_ERRORS as error:
        return Member(name, None, f"it is damaged ({error})")
    if len(data) > MAX_FILE_BYTES:
        return Member(name, None, f"it unpacks to more than {MAX_FILE_BYTES // 2**20} MB, which is the limit")
    return Member(name, data)


def _is_left_out(info: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(info.filename)
    return info.is_dir() or "__MACOSX" in name.parts or name.name in (".DS_Store", "Thumbs.db")


def _climbs_out(name: str) -> bool:
    paths = PurePosixPath(name), PureWindowsPath(name)
    return any(each.is_absolute() or each.drive or each.root or ".." in each.parts for each in paths)
