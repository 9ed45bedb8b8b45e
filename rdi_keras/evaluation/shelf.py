"""Keeps the finished batches of an evaluation on disk, so that it can be interrupted and taken up again."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np

from rdi_keras.evaluation.cascade import Batch
from rdi_keras.evaluation.outcome import Outcome


class FolderShelf:
    """One file per finished batch, written aside and renamed.

    Args:
        folder: holds the shelves of several evaluations.
        about: all that the figures depend on, as JSON can hold it. Each `about` has a shelf of its own.
    """

    def __init__(self, folder: str | Path, about: dict):
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        self.folder = Path(folder, digest[:16])
        self.folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        """How many batches it holds."""
        return len(list(self.folder.glob("*.npz")))

    def get(self, condition: str, number: int) -> Batch | None:
        try:
            with np.load(self._path(condition, number), allow_pickle=False) as file:
                outcome = Outcome(*(file[each.name] for each in fields(Outcome)))
                return Batch(file["samples"], outcome, tuple(file["passes"].tolist()))
        except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile):
            return None  # Not there, or damaged: it is run again.

    def put(self, condition: str, number: int, batch: Batch) -> None:
        arrays = {each.name: getattr(batch.outcome, each.name) for each in fields(Outcome)}
        descriptor, aside = tempfile.mkstemp(dir=self.folder, suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, samples=batch.samples, passes=np.asarray(batch.passes), **arrays)
        Path(aside).replace(self._path(condition, number))

    def clear(self) -> None:
        """Removes what it holds; the shelves of other evaluations stay."""
        shutil.rmtree(self.folder)
        with contextlib.suppress(OSError):  # There may be others.
            self.folder.parent.rmdir()

    def _path(self, condition: str, number: int) -> Path:
        return self.folder / f"{condition}-{number}.npz"
