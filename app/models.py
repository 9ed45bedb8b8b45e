"""Finds the trained models at hand: run folders and versions of SavedModels."""

import contextlib
import functools
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rdi_keras.errors import InputError
from rdi_keras.metadata import FILE_NAME as METADATA_FILE
from rdi_keras.metadata import Metadata
from rdi_keras.runs import MODEL_FILE, SAVED_MODEL_FILE

RUNS_VARIABLE = "RDI_RUNS_DIR"
SAVED_MODELS_VARIABLE = "RDI_SAVED_MODELS_DIR"

REPORT_FILE = "report.json"

HOW_TO_MAKE_ONE = """
There is no trained model here yet. Make one in the project's folder, then reload this page:

* `make demo` trains a small model on handwritten digits and exports it, in minutes on a laptop, or
* `python training/fit.py` trains one with your own settings (`--help` lists them).
"""


@dataclass(frozen=True)
class FoundModel:
    """A model that can be opened.

    Attributes:
        path: run folder, or version folder of a SavedModel.
        name: short, for a reader and for addresses; no two models share it.
        facts: data, size and exits, in a line.
        digest: changes when its files change.
        served_name: what TensorFlow Serving calls it.
    """

    path: Path
    name: str
    facts: str
    digest: str
    served_name: str


def find_models(runs_dir: Path | None = None, saved_models_dir: Path | None = None) -> list[FoundModel]:
    """All finished runs, then all versions of all SavedModels; within each the newest first.

    Args:
        runs_dir: default `RDI_RUNS_DIR`, else `runs`.
        saved_models_dir: default `RDI_SAVED_MODELS_DIR`, else `saved_models`.
    """
    runs_dir = runs_dir or Path(os.environ.get(RUNS_VARIABLE) or "runs")
    saved_models_dir = saved_models_dir or Path(os.environ.get(SAVED_MODELS_VARIABLE) or "saved_models")
    runs = [
        (path, f"{path.name} (run)", path.name)
        for path in _folders(runs_dir)
        if _holds(path, METADATA_FILE, MODEL_FILE)
    ]
    versions = [
        (path, f"{name.name}/{path.name}", name.name)
        for name in _folders(saved_models_dir)
        for path in _folders(name)
        if path.name.isdecimal() and _holds(path, METADATA_FILE, SAVED_MODEL_FILE)
    ]
    found = []
    for kind in (runs, versions):
        for path, name, served_name in sorted(kind, key=lambda each: _changed(each[0]), reverse=True):
            with contextlib.suppress(OSError):  # A folder may vanish while it is looked at.
                found.append(FoundModel(path, name, _facts(path), files_digest(path), served_name))
    return found


def best(found: list[FoundModel]) -> FoundModel:
    """The model to open first: of those with samples at hand, the one with the best worst case in its report.

    Where there is none with a report, the first.
    """
    return max(found, key=_rank)


def _rank(model: FoundModel) -> tuple[bool, float]:
    from app.samples import sample_source

    try:
        at_hand = sample_source(Metadata.read(model.path)) is not None
    except InputError:
        return False, -1.0
    return at_hand, _worst_case(model.path, model.digest)


@functools.lru_cache(maxsize=256)
def _worst_case(path: Path, digest: str) -> float:
    """Of the report; -1 where there is none. The digest is there for the cache."""
    from rdi_keras.evaluation import read_report

    try:
        return read_report(path, Metadata.read(path))["conditions"]["worst_case"]["accuracy"]
    except (InputError, KeyError):
        return -1.0


def files_digest(path: Path) -> str:
    """Place, names, sizes and times of a model's files: cheap, and another one once a file is rewritten."""
    names = (METADATA_FILE, MODEL_FILE, SAVED_MODEL_FILE, REPORT_FILE)
    files = [*(path / name for name in names), *_files(path / "variables")]
    parts = [str(path.resolve())]
    for file in files:
        if file.is_file():
            status = file.stat()
            parts.append(f"{file.name}:{status.st_size}:{status.st_mtime_ns}")
    return " ".join(parts)


def size_text(input_shape: list[int]) -> str:
    """An input shape for a reader, e.g. `8×8×1`."""
    return "×".join(map(str, input_shape))


def _facts(path: Path) -> str:
    try:
        metadata = Metadata.read(path)
    except InputError:
        return "its metadata cannot be read"  # Choosing it tells why.
    return f"{metadata.dataset}, {size_text(metadata.input_shape)} pixels, {metadata.num_exits} exits"


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        named = (path for path in root.iterdir() if _is_text(path.name) and not path.name.startswith("."))
        yield from (path for path in named if path.is_dir())


def _is_text(name: str) -> bool:
    """A name that is none, or of several lines, no page can show."""
    return not any(unicodedata.category(each) in ("Cc", "Cs") for each in name)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _holds(folder: Path, *names: str) -> bool:
    return all((folder / name).is_file() for name in names)


def _changed(folder: Path) -> tuple[int, str]:
    try:
        return (folder / METADATA_FILE).stat().st_mtime_ns, folder.name
    except OSError:
        return 0, folder.name
