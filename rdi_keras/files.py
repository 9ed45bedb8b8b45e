"""Files that are there whole or not at all, whatever happens while they are written; their sums; JSON."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rdi_keras.errors import InputError

ASIDE = ".aside."
SUMS_FILE = "SHA256SUMS"


def make_folder(path: Path) -> None:
    """Makes a folder, unless it is there.

    Raises:
        InputError: if it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(
            f"Cannot write to the folder {str(path)!r}: {error.strerror}. Name another one"
        ) from None


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A context that gives another path to write to; what lies there then takes the file's place.

    It is forced to disk first, and removed if anything goes wrong. The other path ends as this one does,
    because some writers look at the ending.
    """
    aside = path.with_name(f"{ASIDE}{path.name}")
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()  # What is written through a link that lies there would land elsewhere.
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text at once or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it holds no JSON, nests it too deeply, or holds text that cannot be written again.
    """
    try:
        content = json.loads(path.read_text())
        json.dumps(content, ensure_ascii=False).encode()  # Halves of characters: no page could show them.
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return content


def write_sums(folder: Path, names: Iterable[str]) -> None:
    """Writes `SHA256SUMS` of files in a folder, as `sha256sum --check` reads it."""
    write_text(folder / SUMS_FILE, "".join(f"{_sum(folder / name)}  {name}\n" for name in names))


def check_unchanged(path: Path, kind: str) -> None:
    """Raises `InputError`, which calls the file a `kind`, if `SHA256SUMS` beside it names another one."""
    sums, names = path.with_name(SUMS_FILE), (f"  {path.name}", f" *{path.name}")  # As text, or as bytes.
    try:
        lines = sums.read_text(errors="replace").splitlines() if sums.is_file() else []
        noted = {line.partition(" ")[0] for line in lines if line.endswith(names)}
        unchanged = not noted or noted == {_sum(path)}
    except OSError as error:
        raise InputError(f"Cannot load the {kind} {str(path)!r}: {error}") from None
    if not unchanged:
        raise InputError(
            f"Cannot load the {kind} {str(path)!r}: it is damaged, or another one than {SUMS_FILE} names. "
            "Export the model again, or get the folder from where it came"
        )


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
